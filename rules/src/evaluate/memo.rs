//! Remembers what lately seen values decide. Values repeat: there are few clients, users and networks, and what
//! they decide depends on nothing but the set of rules.

use std::hash::Hasher;

use rustc_hash::FxHasher;

use crate::compile::AtomId;

/// Values that are remembered for one field.
const SLOTS: usize = 256;
/// Longer values are not remembered.
const MAX_TEXT_BYTES: usize = 256;
/// Values that decide more are not remembered either.
const MAX_ATOMS: usize = 64;

/// What the values of one field decided.
#[derive(Default)]
pub(super) struct Memo {
    slots: Vec<Slot>,
    /// Atoms of a value that is not remembered.
    spare: Vec<AtomId>,
}

#[derive(Clone, Default)]
struct Slot {
    known: bool,
    text: String,
    atoms: Vec<AtomId>,
}

impl Memo {
    /// The atoms that a text makes true: remembered, or else found by `decide`.
    pub(super) fn atoms(&mut self, text: &str, decide: impl FnOnce(&mut Vec<AtomId>)) -> &[AtomId] {
        if text.len() > MAX_TEXT_BYTES {
            self.spare.clear();
            decide(&mut self.spare);
            return &self.spare;
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Slot::default());
        }
        let mut hasher = FxHasher::default();
        hasher.write(text.as_bytes());
        let place = usize::try_from(hasher.finish() % SLOTS as u64).unwrap_or_default();
        let slot = &mut self.slots[place];
        if !slot.known || slot.text != text {
            slot.atoms.clear();
            decide(&mut slot.atoms);
            slot.text.clear();
            slot.text.push_str(text);
            slot.known = slot.atoms.len() <= MAX_ATOMS;
        }
        &slot.atoms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_was_decided() {
        let mut memo = Memo::default();
        let length = |text: &str| AtomId::try_from(text.len()).unwrap();
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        let texts: Vec<String> =
            (0..1_000).map(|number| format!("value {}", number % 300)).chain([long]).collect();
        for text in &texts {
            let twice = [length(text), length(text) + 1];
            assert_eq!(memo.atoms(text, |atoms| atoms.extend(twice)), twice, "{text}");
        }
        assert_eq!(memo.atoms("again", |atoms| atoms.push(7)), [7]);
        assert_eq!(memo.atoms("again", |_| ()), [7]);
        let many = |atoms: &mut Vec<AtomId>| atoms.extend(0..100);
        assert_eq!(memo.atoms("many", many).len(), 100);
        assert!(memo.atoms("many", |_| ()).is_empty());
    }
}
