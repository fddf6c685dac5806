//! Finds which of many words a text contains.
//!
//! Each word is known by four of its bytes, such as few other words have. A bit set tells for each four bytes of
//! a text that no word is known by them, which is nearly always so and costs about a nanosecond. Words that are
//! too short or too many for that are found by an automaton.

use aho_corasick::AhoCorasick;
use rustc_hash::FxHashMap;

use crate::compile::{AtomId, index};
use crate::pattern::Pattern;

const GRAM_BYTES: usize = 4;
/// At most so many words are known by the same bytes, so that no text makes the search slow.
const MAX_WORDS_PER_GRAM: usize = 8;
/// Longer words are left to the automaton, for the same reason.
const MAX_WORD_BYTES: usize = 256;
/// Bits of the set for each word, and at most in all: 32 kB, which stay in the fastest cache.
const BITS_PER_WORD: usize = 32;
const MIN_BITS: usize = 1 << 9;
const MAX_BITS: usize = 1 << 18;

/// The words.
pub(super) struct Words {
    bits: Box<[u64]>,
    shift: u32,
    /// Where the words that are known by these bytes stand.
    grams: FxHashMap<u32, std::ops::Range<u32>>,
    words: Vec<Word>,
    automaton: Option<Automaton>,
}

struct Word {
    text: Box<str>,
    /// Where in it the four bytes stand.
    offset: usize,
    atom: AtomId,
}

struct Automaton {
    words: AhoCorasick,
    atoms: Vec<AtomId>,
}

impl Words {
    /// Takes what it can; the rest, which is too much for an automaton, is returned as patterns.
    pub(super) fn new(words: Vec<(Box<str>, AtomId)>) -> (Self, Vec<(Pattern, AtomId)>) {
        let mut by_gram: FxHashMap<u32, Vec<Word>> = FxHashMap::default();
        let mut others = Vec::new();
        for (text, atom) in words {
            match least_used(&text, &by_gram) {
                Some((offset, gram)) => by_gram.entry(gram).or_default().push(Word { text, offset, atom }),
                None => others.push((text, atom)),
            }
        }
        let bits = (by_gram.len() * BITS_PER_WORD).next_power_of_two().clamp(MIN_BITS, MAX_BITS);
        let mut index_of_words = Self {
            bits: vec![0; bits / 64].into(),
            shift: 32 - bits.trailing_zeros(),
            grams: FxHashMap::default(),
            words: Vec::new(),
            automaton: None,
        };
        by_gram.into_iter().for_each(|(gram, words)| index_of_words.add(gram, words));
        let rest = index_of_words.add_automaton(others);
        (index_of_words, rest)
    }

    fn add(&mut self, gram: u32, words: Vec<Word>) {
        let hash = self.hash(gram);
        self.bits[hash / 64] |= 1 << (hash % 64);
        let start = index(self.words.len());
        self.words.extend(words);
        self.grams.insert(gram, start..index(self.words.len()));
    }

    fn add_automaton(&mut self, words: Vec<(Box<str>, AtomId)>) -> Vec<(Pattern, AtomId)> {
        if words.is_empty() {
            return Vec::new();
        }
        match AhoCorasick::new(words.iter().map(|(text, _)| text.as_bytes())) {
            Ok(automaton) => {
                let atoms = words.into_iter().map(|(_, atom)| atom).collect();
                self.automaton = Some(Automaton { words: automaton, atoms });
                Vec::new()
            }
            Err(_) => words.into_iter().map(|(text, atom)| (Pattern::Contains(text.into()), atom)).collect(),
        }
    }

    pub(super) fn find(&self, text: &str, mark: &mut impl FnMut(AtomId)) {
        if !self.words.is_empty() {
            for (at, gram) in text.as_bytes().windows(GRAM_BYTES).enumerate() {
                let gram = gram_at(gram);
                let hash = self.hash(gram);
                if self.bits.get(hash / 64).is_some_and(|bits| bits >> (hash % 64) & 1 != 0) {
                    self.find_known(gram, at, text, mark);
                }
            }
        }
        if let Some(automaton) = &self.automaton {
            for found in automaton.words.find_overlapping_iter(text) {
                automaton.atoms.get(found.pattern().as_usize()).copied().into_iter().for_each(&mut *mark);
            }
        }
    }

    fn find_known(&self, gram: u32, at: usize, text: &str, mark: &mut impl FnMut(AtomId)) {
        let Some(range) = self.grams.get(&gram) else { return };
        for word in &self.words[range.start as usize..range.end as usize] {
            let start = at.checked_sub(word.offset);
            let rest = start.and_then(|start| text.as_bytes().get(start..));
            if rest.is_some_and(|rest| rest.starts_with(word.text.as_bytes())) {
                mark(word.atom);
            }
        }
    }

    fn hash(&self, gram: u32) -> usize {
        (gram.wrapping_mul(0x9e37_79b1) >> self.shift) as usize
    }
}

/// The four bytes of a word that the fewest others are known by, and where in it they stand.
fn least_used(word: &str, by_gram: &FxHashMap<u32, Vec<Word>>) -> Option<(usize, u32)> {
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    let grams = word.as_bytes().windows(GRAM_BYTES).map(gram_at).enumerate();
    let uses = |gram: &u32| by_gram.get(gram).map_or(0, Vec::len);
    let least = grams.min_by_key(|(_, gram)| uses(gram))?;
    (uses(&least.1) < MAX_WORDS_PER_GRAM).then_some(least)
}

fn gram_at(window: &[u8]) -> u32 {
    window.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_words_within_a_text_are_found_however_alike_they_are() {
        // Far more words than may be known by the same bytes, short ones and one that is long.
        let mut words: Vec<String> = (0..60).map(|length| "a".repeat(length + 1)).collect();
        words.extend(["secret", "crets", "é", "/é/x", "b"].map(str::to_owned));
        words.push("a".repeat(MAX_WORD_BYTES + 1));
        let numbered = words.iter().enumerate().map(|(number, word)| (word.as_str().into(), index(number)));
        let (table, rest) = Words::new(numbered.collect());
        assert_eq!(rest, []);
        assert!(table.automaton.is_some() && !table.words.is_empty());
        for text in ["", "aaa", "a secrets b", &"a".repeat(300), "/é/xaaaa", "secre"] {
            let mut found = std::collections::BTreeSet::new();
            table.find(text, &mut |atom| {
                found.insert(words[atom as usize].as_str());
            });
            let expected = words.iter().map(String::as_str).filter(|word| text.contains(word)).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
