//! Finds which of many beginnings (or ends) a text has, by one search among all of them.

use std::cmp::Ordering;

use crate::compile::{AtomId, index};

/// Bytes of a key.
const KEY_BYTES: u8 = 16;

/// Where in a text the words of a table stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Beginning,
    End,
}

/// Words at one edge of a text. All words that a text has at this edge are beginnings of one another, so they
/// are found by following links from the last word that does not sort behind the text.
pub(super) struct Edges {
    edge: Edge,
    /// For each word, the bytes at its edge as a number that sorts as the words do. Most searches look at nothing else.
    keys: Vec<u128>,
    sorted: Vec<Word>,
    /// Bit n is set if some word has byte n at the edge.
    first_bytes: [u64; 4],
}

struct Word {
    text: Box<str>,
    /// In bytes, up to those of a key.
    length: u8,
    atom: AtomId,
    /// The longest other word that this one has at its edge.
    parent: Option<u32>,
}

impl Edges {
    pub(super) fn new(edge: Edge, words: impl Iterator<Item = (Box<str>, AtomId)>) -> Self {
        let mut sorted: Vec<_> = words.map(|(text, atom)| Word::new(text, atom)).collect();
        sorted.sort_by(|a, b| edge.compare(a.text.as_bytes(), b.text.as_bytes()));
        let mut open: Vec<usize> = Vec::new();
        for at in 0..sorted.len() {
            while open.last().is_some_and(|last| !edge.has(sorted[at].text.as_bytes(), &sorted[*last].text)) {
                open.pop();
            }
            sorted[at].parent = open.last().map(|last| index(*last));
            open.push(at);
        }
        let mut first_bytes = [0; 4];
        for word in &sorted {
            match edge.first_byte(word.text.as_bytes()) {
                Some(byte) => first_bytes[usize::from(byte >> 6)] |= 1 << (byte & 63),
                // Every text has an empty word at its edge.
                None => first_bytes = [u64::MAX; 4],
            }
        }
        let keys = sorted.iter().map(|word| edge.key(word.text.as_bytes())).collect();
        Self { edge, keys, sorted, first_bytes }
    }

    /// How many words do not sort behind the text.
    fn not_behind(&self, key: u128, text: &[u8]) -> usize {
        let start = self.keys.partition_point(|word| *word < key);
        let alike = self.keys[start..].partition_point(|word| *word == key);
        let not_behind = |word: &Word| self.edge.compare(word.text.as_bytes(), text) != Ordering::Greater;
        start + self.sorted[start..start + alike].partition_point(not_behind)
    }

    pub(super) fn find(&self, text: &str, mark: &mut impl FnMut(AtomId)) {
        let text = text.as_bytes();
        let byte = self.edge.first_byte(text).unwrap_or_default();
        if self.first_bytes[usize::from(byte >> 6)] >> (byte & 63) & 1 == 0 {
            return;
        }
        let key = self.edge.key(text);
        let behind = self.not_behind(key, text);
        let mut next = behind.checked_sub(1);
        let mut found = false;
        while let Some((at, word)) = next.and_then(|at| Some((at, self.sorted.get(at)?))) {
            found = found || (may_have(key, self.keys[at], word.length) && self.edge.has(text, &word.text));
            if found {
                mark(word.atom);
            }
            next = word.parent.map(|parent| parent as usize);
        }
    }
}

impl Word {
    fn new(text: Box<str>, atom: AtomId) -> Self {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX).min(KEY_BYTES);
        Self { text, length, atom, parent: None }
    }
}

/// False if a text does not have a word of so many bytes at its edge, as their keys tell.
fn may_have(text: u128, word: u128, length: u8) -> bool {
    let others = u32::from(KEY_BYTES - length) * 8;
    (text ^ word).checked_shr(others).unwrap_or_default() == 0
}

impl Edge {
    fn first_byte(self, text: &[u8]) -> Option<u8> {
        match self {
            Self::Beginning => text.first().copied(),
            Self::End => text.last().copied(),
        }
    }

    /// Up to 16 bytes at the edge of a text; the outermost weighs most, and missing ones are zero.
    fn key(self, text: &[u8]) -> u128 {
        let mut bytes = [0; 16];
        let length = text.len().min(16);
        match self {
            Self::Beginning => {
                bytes[..length].copy_from_slice(&text[..length]);
                u128::from_be_bytes(bytes)
            }
            Self::End => {
                bytes[16 - length..].copy_from_slice(&text[text.len() - length..]);
                u128::from_le_bytes(bytes)
            }
        }
    }

    fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Beginning => a.cmp(b),
            Self::End => a.iter().rev().cmp(b.iter().rev()),
        }
    }

    fn has(self, text: &[u8], word: &str) -> bool {
        match self {
            Self::Beginning => text.starts_with(word.as_bytes()),
            Self::End => text.ends_with(word.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_words_at_an_edge_are_found() {
        let check = |edge: Edge, words: &[&str], text: &str| {
            let numbered = words.iter().enumerate().map(|(number, word)| ((*word).into(), index(number)));
            let mut found = Vec::new();
            Edges::new(edge, numbered).find(text, &mut |atom| found.push(words[atom as usize]));
            found.sort_unstable();
            let mut expected: Vec<_> =
                words.iter().copied().filter(|word| edge.has(text.as_bytes(), word)).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{text:?}");
        };
        let long = "system:serviceaccount:";
        let longer: Vec<String> = ["", "a", "ab", "b", "\0"].map(|end| format!("{long}{end}")).into();
        let mut words: Vec<&str> = vec!["", "a", "ab", "abc", "b", "ba", "é", "\0", long];
        words.extend(longer.iter().skip(1).map(String::as_str));
        for text in ["", "a", "abcd", "dcba", "aé", "éa", "\0\0", "zzz", &longer[2], &format!("{long}zz")] {
            check(Edge::Beginning, &words, text);
            check(Edge::End, &words, text);
            check(Edge::Beginning, &words[1..], text);
        }
    }
}
