//! The query's syntax tree and its plain evaluator.
//!
//! `query` parses text into a [`Predicate`] and turns it into a search of the index; what is not indexed
//! yet (the live tail) is held against the same predicate with [`Predicate::matches`]. Both give the same
//! answer for every event:
//!
//! - A field is the event's own path, its keys joined with dots (`objectRef.resource`,
//!   `annotations.authorization.k8s.io/decision`); arrays add nothing to the path, so a path can have several
//!   values, and one that passes is enough. What [`field`] lists is also understood.
//! - Values are compared as they stand: whole and case-sensitive. A number equals text that spells it. Only
//!   `message`, the text of a log line, is searched by its words.
//! - Patterns and ranges see the first [`MAX_VALUE_BYTES`] bytes of a value; equality sees all of it.
//! - [`leaves`] says what of an unusually big event is left out, and how to find such events.

pub mod field;
pub mod leaves;
mod range;
mod test;
mod value;
mod view;
mod words;

use std::fmt;

pub use field::{Field, Kind, Target};
pub use range::Range;
pub use test::{MAX_REGEX_CHARS, Pattern, PatternError, Test, Wildcard};
pub use value::{
    MAX_VALUE_BYTES, Network, Number, Scalar, indexed_text, indexed_time, time_span, visible_text,
};
pub use view::EventView;
pub use words::{MAX_WORD_BYTES, Words, test_of_word, words};

/// What an event must be like.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// Any event.
    All,
    /// All of these hold.
    And(Vec<Self>),
    /// At least one of these holds.
    Or(Vec<Self>),
    /// This does not hold.
    Not(Box<Self>),
    /// One of the field's values passes the test.
    Field(Field, Test),
    /// One of the values of [`field::searched_by_default`] passes the test.
    Anywhere(Test),
}

impl Predicate {
    /// True if the event is what this asks for.
    #[must_use]
    pub fn matches(&self, event: &EventView<'_>) -> bool {
        match self {
            Self::All => true,
            Self::And(parts) => parts.iter().all(|part| part.matches(event)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(event)),
            Self::Not(part) => !part.matches(event),
            Self::Field(field, test) => event.passes(field.target(), test),
            Self::Anywhere(test) => {
                field::searched_by_default(test).any(|name| event.passes(field::target(name), test))
            }
        }
    }

    fn is_compound(&self) -> bool {
        matches!(self, Self::And(_) | Self::Or(_))
    }
}

/// The query text that means this.
impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::And(parts) => join(f, parts, " AND "),
            Self::Or(parts) => join(f, parts, " OR "),
            Self::Not(part) => {
                f.write_str("NOT ")?;
                operand(f, part)
            }
            Self::Field(field, Test::Exists) => write!(f, "_exists_:{field}"),
            Self::Field(field, test) => write!(f, "{field}:{test}"),
            Self::Anywhere(test) => write!(f, "{test}"),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Predicate], separator: &str) -> fmt::Result {
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            f.write_str(separator)?;
        }
        operand(f, part)?;
    }
    Ok(())
}

fn operand(f: &mut fmt::Formatter<'_>, part: &Predicate) -> fmt::Result {
    if part.is_compound() { write!(f, "({part})") } else { write!(f, "{part}") }
}

#[cfg(test)]
mod tests;
