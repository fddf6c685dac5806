//! Text patterns: `*` stands for any text, `?` for exactly one character.

use crate::text::fold;

/// A pattern in the cheapest form that means the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pattern {
    /// Any text at all (`*`).
    Any,
    /// This text.
    Exact(String),
    /// Text that begins so.
    Prefix(String),
    /// Text that ends so.
    Suffix(String),
    /// Text in which this occurs.
    Contains(String),
    /// Everything else.
    Glob(Vec<Piece>),
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Piece {
    /// These characters.
    Literal(String),
    /// `*`
    AnyText,
    /// `?`
    OneCharacter,
}

/// Reads a Sigma string: a lone `\` is literal, `\*` and `\?` are literal wildcards, `\\*` is a backslash
/// and then a wildcard, `\\\*` is both literal.
pub(crate) fn parse(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' => pieces.push(Piece::AnyText),
            '?' => pieces.push(Piece::OneCharacter),
            '\\' => {
                let escaped = characters.next_if(|next| matches!(next, '\\' | '*' | '?'));
                push_literal(&mut pieces, escaped.unwrap_or('\\'));
            }
            _ => push_literal(&mut pieces, character),
        }
    }
    pieces
}

fn push_literal(pieces: &mut Vec<Piece>, character: char) {
    if let Some(Piece::Literal(text)) = pieces.last_mut() {
        text.push(character);
    } else {
        pieces.push(Piece::Literal(character.to_string()));
    }
}

impl Pattern {
    /// Brings pieces into their cheapest form; unless `cased`, the literals are folded.
    pub(crate) fn new(mut pieces: Vec<Piece>, cased: bool) -> Self {
        pieces.dedup_by(|next, piece| *next == Piece::AnyText && *piece == Piece::AnyText);
        if !cased {
            for piece in &mut pieces {
                if let Piece::Literal(text) = piece {
                    *text = fold(text);
                }
            }
        }
        match pieces.as_mut_slice() {
            [] => Self::Exact(String::new()),
            [Piece::AnyText] => Self::Any,
            [Piece::Literal(text)] => Self::Exact(std::mem::take(text)),
            [Piece::Literal(text), Piece::AnyText] => Self::Prefix(std::mem::take(text)),
            [Piece::AnyText, Piece::Literal(text)] => Self::Suffix(std::mem::take(text)),
            [Piece::AnyText, Piece::Literal(text), Piece::AnyText] => Self::Contains(std::mem::take(text)),
            _ => Self::Glob(pieces),
        }
    }

    /// Whether `text` (folded, unless the pattern is cased) matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(literal) => text == literal,
            Self::Prefix(literal) => text.starts_with(literal.as_str()),
            Self::Suffix(literal) => text.ends_with(literal.as_str()),
            Self::Contains(literal) => text.contains(literal.as_str()),
            Self::Glob(pieces) => glob(pieces, text),
        }
    }

    /// The longest literal that every matching text contains, for patterns that are not one themselves.
    pub(crate) fn required_literal(&self) -> Option<&str> {
        let Self::Glob(pieces) = self else { return None };
        let literals = pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::AnyText | Piece::OneCharacter => None,
        });
        literals.max_by_key(|text| text.len())
    }
}

/// Matches with one point to return to: on a mismatch the latest `*` takes one more character. Time is
/// bounded by the product of both lengths, memory is constant.
fn glob(pieces: &[Piece], text: &str) -> bool {
    let (mut piece, mut rest) = (0, text);
    let mut retry: Option<(usize, &str)> = None;
    loop {
        let advanced = match pieces.get(piece) {
            None if rest.is_empty() => return true,
            None => None,
            Some(Piece::AnyText) => {
                if piece + 1 == pieces.len() {
                    return true;
                }
                retry = Some((piece + 1, rest));
                Some(rest)
            }
            Some(Piece::OneCharacter) => without_first(rest),
            Some(Piece::Literal(literal)) => rest.strip_prefix(literal.as_str()),
        };
        if let Some(after) = advanced {
            (piece, rest) = (piece + 1, after);
            continue;
        }
        let Some((resume, from)) = retry else { return false };
        let Some(from) = without_first(from) else { return false };
        (piece, rest, retry) = (resume, from, Some((resume, from)));
    }
}

fn without_first(text: &str) -> Option<&str> {
    let mut characters = text.chars();
    characters.next().map(|_| characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_wildcards() {
        let check = |written: &str, text: &str, expect: bool| {
            let pattern = Pattern::new(parse(written), false);
            assert_eq!(pattern.matches(&fold(text)), expect, "{written} on {text}: {pattern:?}");
        };
        for (written, text, expect) in [
            ("abc", "ABC", true),
            ("a*c", "abbbc", true),
            ("a*c", "ac", true),
            ("a?c", "abc", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("?", "", false),
            ("", "", true),
            ("", "x", false),
            (r"a\b", r"a\b", true),
            (r"a\\b", r"a\b", true),
            (r"a\\\b", r"a\\b", true),
            (r"a\*", "a*", true),
            (r"a\*", "abc", false),
            (r"a\?", "a?", true),
            (r"a\?", "ab", false),
            (r"a\\*", r"a\xyz", true),
            (r"a\\*", "axyz", false),
            (r"a\\\*", r"a\*", true),
            (r"a\\\*", r"a\x", false),
            (r"end\", r"end\", true),
            ("a*b*c", "a-b-b-d-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("**a**", "xxaxx", true),
            ("*ab?d*", "xabxabcd!", true),
            ("?*?", "x", false),
            ("?*?", "xy", true),
        ] {
            check(written, text, expect);
        }
    }

    #[test]
    fn forms_are_the_cheapest() {
        let text = |text: &str| text.to_owned();
        for (written, pattern) in [
            ("**", Pattern::Any),
            ("Ab", Pattern::Exact(text("ab"))),
            ("Ab*", Pattern::Prefix(text("ab"))),
            ("**Ab", Pattern::Suffix(text("ab"))),
            ("*Ab*", Pattern::Contains(text("ab"))),
        ] {
            assert_eq!(Pattern::new(parse(written), false), pattern);
        }
        assert_eq!(Pattern::new(parse("a*bcd?e"), true).required_literal(), Some("bcd"));
        assert_eq!(Pattern::new(parse("?*?"), true).required_literal(), None);
    }
}
