//! Finds a text among many by one look at a table and one comparison. What it needs for that lies close together: tables
//! of large sets do not stay in fast caches, and each place that is looked at is waited for.

use std::hash::Hasher;

use rustc_hash::FxHasher;

use crate::compile::{AtomId, index};

/// The texts, all of them different.
#[derive(Default)]
pub(super) struct Texts {
    /// All texts, one after the other.
    text: String,
    /// Entries by their hashes, each at the first free place from there on; a power of two of places, of which about a
    /// quarter at least is free. Until it is finished, the entries alone.
    table: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    start: u32,
    length: u32,
    atom: AtomId,
}

/// An entry that stands for none: no text is as long.
const FREE: Entry = Entry { hash: 0, start: 0, length: u32::MAX, atom: 0 };

impl Texts {
    pub(super) fn add(&mut self, text: &str, atom: AtomId) {
        let (start, length) = (index(self.text.len()), index(text.len()));
        self.text.push_str(text);
        self.table.push(Entry { hash: hash(text), start, length, atom });
    }

    /// Must be called before anything is looked up.
    pub(super) fn finish(&mut self) {
        let entries = std::mem::take(&mut self.table);
        if entries.is_empty() {
            return;
        }
        let places = (entries.len() * 4 / 3 + 1).next_power_of_two();
        self.table.resize(places, FREE);
        for entry in entries {
            let mut at = entry.hash as usize & (places - 1);
            while !self.table[at].is_free() {
                at = (at + 1) & (places - 1);
            }
            self.table[at] = entry;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(super) fn get(&self, text: &str) -> Option<AtomId> {
        let hash = hash(text);
        let last = self.table.len().checked_sub(1)?;
        let mut at = hash as usize & last;
        loop {
            let entry = &self.table[at];
            if entry.is_free() {
                return None;
            }
            if entry.hash == hash && self.text_of(entry) == text.as_bytes() {
                return Some(entry.atom);
            }
            at = (at + 1) & last;
        }
    }

    fn text_of(&self, entry: &Entry) -> &[u8] {
        let (start, length) = (entry.start as usize, entry.length as usize);
        &self.text.as_bytes()[start..start + length]
    }
}

impl Entry {
    fn is_free(&self) -> bool {
        self.length == FREE.length
    }
}

#[expect(clippy::cast_possible_truncation, reason = "any of its bits will do")]
fn hash(text: &str) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_found_and_no_other() {
        for count in [0, 1, 2, 3, 4, 500] {
            let text = |number: u32| if number == 0 { String::new() } else { format!("text {number}") };
            let mut texts = Texts::default();
            (0..count).for_each(|number| texts.add(&text(number), number));
            texts.finish();
            assert_eq!(texts.is_empty(), count == 0);
            let found: Vec<_> = (0..2_000).map(|number| texts.get(&text(number))).collect();
            let expected: Vec<_> = (0..2_000).map(|number| (number < count).then_some(number)).collect();
            assert_eq!(found, expected, "{count}");
        }
    }
}
