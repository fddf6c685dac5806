//! Text for people, such as the message of a log line, is searched by its words: runs of letters and digits, in lower
//! case. Several words are found where they follow one another.

use super::Test;
use super::value::Scalar;

/// Longest word, in bytes; of a longer one the beginning counts.
pub const MAX_WORD_BYTES: usize = 128;

/// The words of a text, one after the other.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// Before the first word.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// Puts the next word into `word`; false if there is none.
    pub fn next_into(&mut self, word: &mut String) -> bool {
        word.clear();
        let Some(start) = self.rest.find(char::is_alphanumeric) else {
            self.rest = "";
            return false;
        };
        let from = &self.rest[start..];
        let end = from.find(|character: char| !character.is_alphanumeric()).unwrap_or(from.len());
        let (found, rest) = from.split_at(end);
        self.rest = rest;
        let found = &found[..found.floor_char_boundary(MAX_WORD_BYTES)];
        if found.is_ascii() {
            word.push_str(found);
            word.make_ascii_lowercase();
        } else {
            word.extend(found.chars().flat_map(char::to_lowercase));
        }
        true
    }
}

/// All words of a text.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut found) = (Words::of(text), String::new(), Vec::new());
    while words.next_into(&mut word) {
        found.push(word.clone());
    }
    found
}

/// The test that one word must pass: patterns are compared in lower case.
#[must_use]
pub fn test_of_word(test: &Test) -> Test {
    match test {
        Test::Like(wildcard) => Test::Like(wildcard.to_lowercase()),
        test => test.clone(),
    }
}

/// True if the text passes by its words.
pub(super) fn accepts(test: &Test, text: &str) -> bool {
    match test {
        Test::Exists => true,
        Test::Is(wanted) => {
            let (wanted, found) = (words(wanted), words(text));
            !wanted.is_empty() && found.windows(wanted.len()).any(|window| window == wanted)
        }
        _ => {
            let test = test_of_word(test);
            let accepts = |word: String| test.accepts(super::Kind::General, &Scalar::Text(word.into()));
            words(text).into_iter().any(accepts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_by_its_words() {
        let is = |text: &str| Test::Is(text.to_owned());
        let text = "Failed password for ÉVE from 10.0.0.9 (ssh2)";
        for (wanted, expect) in [
            ("failed", true),
            ("FAILED Password", true),
            ("failed for", false),
            ("10.0.0.9", true),
            ("0.0.9", true),
            ("10.0.0.99", false),
            ("éve", true),
            ("pass", false),
            ("()", false),
        ] {
            assert_eq!(accepts(&is(wanted), text), expect, "{wanted}");
        }
        assert_eq!(words(&"x".repeat(500)), ["x".repeat(MAX_WORD_BYTES)]);
    }
}
