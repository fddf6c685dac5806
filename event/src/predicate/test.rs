use std::fmt::{self, Write};
use std::net::IpAddr;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::value::{Network, indexed_time, time_span};
use super::{Kind, Number, Range, Scalar};
use crate::Timestamp;

/// Longest regular expression, in characters.
pub const MAX_REGEX_CHARS: usize = 512;
/// Most memory that one compiled regular expression may take, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// What a value must be like.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// There is a value, or an object that has one.
    Exists,
    /// It is exactly this. On addresses also a network that contains it, on times also a day.
    Is(String),
    /// It fits a pattern with `*` and `?`.
    Like(Wildcard),
    /// A regular expression matches all of it.
    Matches(Pattern),
    /// It lies between bounds.
    Within(Range),
}

impl Test {
    /// True if the value passes.
    #[must_use]
    pub fn accepts(&self, kind: Kind, value: &Scalar<'_>) -> bool {
        if let Scalar::Text(text) = value {
            match kind {
                Kind::Address => {
                    if let Ok(address) = text.parse() {
                        return self.accepts_address(address);
                    }
                }
                Kind::Time => {
                    if let Ok(time) = text.parse::<Timestamp>() {
                        return self.accepts_micros(indexed_time(time));
                    }
                }
                Kind::Id => return matches!(self, Self::Is(id) if id.eq_ignore_ascii_case(text)),
                Kind::Words => return super::words::accepts(self, text),
                Kind::General => {}
            }
        }
        self.accepts_general(value)
    }

    /// True if the address passes.
    #[must_use]
    pub fn accepts_address(&self, address: IpAddr) -> bool {
        match self {
            Self::Is(text) => Network::parse(text).is_some_and(|network| network.contains(address)),
            _ => self.accepts_general(&Scalar::Text(address.to_canonical().to_string().into())),
        }
    }

    /// True if the moment passes. Patterns never fit a moment.
    #[must_use]
    pub fn accepts_micros(&self, micros: i64) -> bool {
        match self {
            Self::Exists => true,
            Self::Is(text) => time_span(text).is_some_and(|(first, last)| (first..=last).contains(&micros)),
            Self::Within(range) => range.accepts_micros(micros),
            Self::Like(_) | Self::Matches(_) => false,
        }
    }

    fn accepts_general(&self, value: &Scalar<'_>) -> bool {
        match (self, value) {
            (Self::Exists, _) => true,
            (Self::Is(wanted), Scalar::Text(text)) => wanted == text,
            (Self::Is(wanted), Scalar::Number(number)) => Number::parse(wanted) == Some(*number),
            (Self::Is(wanted), Scalar::Bool(true)) => wanted == "true",
            (Self::Is(wanted), Scalar::Bool(false)) => wanted == "false",
            (Self::Like(wildcard), _) => wildcard.fits(&value.pattern_text()),
            (Self::Matches(pattern), _) => pattern.fits(&value.pattern_text()),
            (Self::Within(range), _) => range.accepts(value),
        }
    }
}

/// Written so that the query parser reads the same test.
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_char('*'),
            Self::Is(text) if is_plain(text) => f.write_str(text),
            Self::Is(text) => write!(f, "{}", Quoted(text)),
            Self::Like(wildcard) => write!(f, "{wildcard}"),
            Self::Matches(pattern) => write!(f, "/{}/", pattern.0.replace('/', "\\/")),
            Self::Within(range) => write!(f, "{range}"),
        }
    }
}

/// A pattern in which `*` stands for any text and `?` for one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wildcard(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    One,
    Any,
}

impl Wildcard {
    /// A pattern that fits nothing but the empty text, to be extended.
    #[must_use]
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends a character that stands for itself.
    pub fn push(&mut self, literal: char) {
        match self.0.last_mut() {
            Some(Piece::Literal(text)) => text.push(literal),
            _ => self.0.push(Piece::Literal(literal.to_string())),
        }
    }

    /// Appends `?`.
    pub fn push_one(&mut self) {
        self.0.push(Piece::One);
    }

    /// Appends `*`.
    pub fn push_any(&mut self) {
        if self.0.last() != Some(&Piece::Any) {
            self.0.push(Piece::Any);
        }
    }

    /// The text that everything fitting begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self.0.first() {
            Some(Piece::Literal(text)) => text,
            _ => "",
        }
    }

    /// The same pattern in lower case.
    #[must_use]
    pub fn to_lowercase(&self) -> Self {
        let lower = |piece: &Piece| match piece {
            // each character for itself, as in words
            Piece::Literal(text) => Piece::Literal(text.chars().flat_map(char::to_lowercase).collect()),
            piece => piece.clone(),
        };
        Self(self.0.iter().map(lower).collect())
    }

    /// True if the pattern is only `*`.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0 == [Piece::Any]
    }

    /// True if the pattern describes all of the text.
    ///
    /// Goes back only to the last `*`, so it takes at most the product of both lengths.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let (mut rest, mut piece) = (text, 0);
        let mut retry: Option<(usize, &str)> = None;
        loop {
            let step = match self.0.get(piece) {
                Some(Piece::Any) => {
                    retry = Some((piece, rest));
                    Some(rest)
                }
                Some(Piece::One) => rest.chars().next().map(|first| &rest[first.len_utf8()..]),
                Some(Piece::Literal(literal)) => rest.strip_prefix(literal.as_str()),
                None if rest.is_empty() => return true,
                None => None,
            };
            if let Some(after) = step {
                (rest, piece) = (after, piece + 1);
                continue;
            }
            let Some((any, from)) = retry else { return false };
            let Some(first) = from.chars().next() else { return false };
            rest = &from[first.len_utf8()..];
            retry = Some((any, rest));
            piece = any + 1;
        }
    }
}

impl Default for Wildcard {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Wildcard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => write_escaped(f, text),
            Piece::One => f.write_char('?'),
            Piece::Any => f.write_char('*'),
        })
    }
}

/// A regular expression (the syntax of the regex crate) that must match a whole value. Matching takes time
/// linear in the value's length.
#[derive(Clone, Debug)]
pub struct Pattern(String, Regex);

/// Why a regular expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It has too many characters.
    #[error("a regular expression has at most {MAX_REGEX_CHARS} characters")]
    TooLong,
    /// It needs too much memory.
    #[error("the regular expression is too complex")]
    TooComplex,
    /// It is not one.
    #[error("not a regular expression")]
    Syntax,
}

impl Pattern {
    /// Compiles a regular expression.
    ///
    /// # Errors
    /// If it is not one, or if it is longer or more complex than the limits allow.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        if source.chars().count() > MAX_REGEX_CHARS {
            return Err(PatternError::TooLong);
        }
        let config = Regex::config()
            .nfa_size_limit(Some(MAX_REGEX_BYTES))
            .onepass_size_limit(Some(MAX_REGEX_BYTES))
            .hybrid_cache_capacity(MAX_REGEX_BYTES);
        // The expression alone must be one: `a)(b` would only become one between the anchors.
        syntax::parse(source).map_err(|_| PatternError::Syntax)?;
        let regex = Regex::builder()
            .configure(config)
            .syntax(syntax::Config::new().nest_limit(64).dot_matches_new_line(true))
            .build(&format!(r"\A(?:{source})\z"))
            .map_err(|error| match error.size_limit() {
                Some(_) => PatternError::TooComplex,
                None => PatternError::Syntax,
            })?;
        Ok(Self(source.to_owned(), regex))
    }

    /// The expression as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0
    }

    /// True if the expression matches all of the text.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        self.1.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// Text between double quotes.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            if matches!(character, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(character)?;
        }
        f.write_char('"')
    }
}

/// True if the text means itself without quotes.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'@');
    text.bytes().next().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b'/'))
        && !matches!(text, "AND" | "OR" | "NOT" | "TO")
}

/// Writes text without quotes so that every character stands for itself.
pub(super) fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    if matches!(text, "AND" | "OR" | "NOT" | "TO") {
        f.write_char('\\')?;
        return f.write_str(text);
    }
    text.char_indices().try_for_each(|(at, character)| {
        let plain = character.is_alphanumeric()
            || matches!(character, '.' | '_' | '@')
            || (at > 0 && matches!(character, '-' | '/'));
        if !plain {
            f.write_char('\\')?;
        }
        f.write_char(character)
    })
}
