use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::ops::Bound;

use super::test::Quoted;
use super::value::{Number, Scalar, address_bits, indexed_time, time_span, visible_text};
use crate::Timestamp;

/// Everything between two bounds. The bounds say how to compare: if all are numbers, as numbers (also text
/// that spells one); if addresses, as addresses; if times, as moments; else as text, byte by byte.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    lower: Bound<String>,
    upper: Bound<String>,
    order: Order,
}

#[derive(Clone, Debug, PartialEq)]
enum Order {
    Number(Bound<Number>, Bound<Number>),
    Address(Bound<u128>, Bound<u128>),
    Time(Bound<i64>, Bound<i64>),
    Text,
}

impl Range {
    /// Takes the bounds.
    #[must_use]
    pub fn new(lower: Bound<String>, upper: Bound<String>) -> Self {
        let address = |text: &str| text.parse::<IpAddr>().ok().map(address_bits);
        let order = if let Some((lower, upper)) = both(&lower, &upper, Number::parse, Number::parse) {
            Order::Number(lower, upper)
        } else if let Some((lower, upper)) = both(&lower, &upper, address, address) {
            Order::Address(lower, upper)
        } else {
            match times(&lower, &upper) {
                Some((lower, upper)) => Order::Time(lower, upper),
                None => Order::Text,
            }
        };
        Self { lower, upper, order }
    }

    /// The first and last microsecond, if the bounds are times.
    #[must_use]
    pub fn micros(&self) -> Option<(Bound<i64>, Bound<i64>)> {
        match self.order {
            Order::Time(lower, upper) => Some((lower, upper)),
            _ => None,
        }
    }

    /// The bounds as text, if that is how they compare.
    #[must_use]
    pub fn texts(&self) -> Option<(Bound<&str>, Bound<&str>)> {
        match self.order {
            Order::Text => {
                Some((self.lower.as_ref().map(String::as_str), self.upper.as_ref().map(String::as_str)))
            }
            _ => None,
        }
    }

    pub(super) fn accepts(&self, value: &Scalar<'_>) -> bool {
        match (&self.order, value) {
            (Order::Number(lower, upper), Scalar::Number(number)) => {
                between(lower, upper, number, |one, two| one.compare(*two))
            }
            (Order::Number(lower, upper), Scalar::Text(text)) => Number::parse(text)
                .is_some_and(|number| between(lower, upper, &number, |one, two| one.compare(*two))),
            (Order::Address(lower, upper), Scalar::Text(text)) => {
                text.parse().is_ok_and(|address| between(lower, upper, &address_bits(address), Ord::cmp))
            }
            (Order::Time(..), Scalar::Text(text)) => {
                text.parse::<Timestamp>().is_ok_and(|time| self.accepts_micros(indexed_time(time)))
            }
            (Order::Text, Scalar::Text(text)) => {
                let (lower, upper) = (self.lower.as_ref(), self.upper.as_ref());
                let (lower, upper) = (lower.map(String::as_str), upper.map(String::as_str));
                between(&lower, &upper, &visible_text(text), |one, two| one.cmp(two))
            }
            _ => false,
        }
    }

    pub(super) fn accepts_micros(&self, micros: i64) -> bool {
        match &self.order {
            Order::Time(lower, upper) => between(lower, upper, &micros, Ord::cmp),
            _ => false,
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.lower {
            Bound::Included(text) => write!(f, "[{}", Quoted(text))?,
            Bound::Excluded(text) => write!(f, "{{{}", Quoted(text))?,
            Bound::Unbounded => f.write_str("[*")?,
        }
        match &self.upper {
            Bound::Included(text) => write!(f, " TO {}]", Quoted(text)),
            Bound::Excluded(text) => write!(f, " TO {}}}", Quoted(text)),
            Bound::Unbounded => f.write_str(" TO *]"),
        }
    }
}

fn between<T>(lower: &Bound<T>, upper: &Bound<T>, value: &T, compare: impl Fn(&T, &T) -> Ordering) -> bool {
    let above = match lower {
        Bound::Included(bound) => compare(value, bound).is_ge(),
        Bound::Excluded(bound) => compare(value, bound).is_gt(),
        Bound::Unbounded => true,
    };
    above
        && match upper {
            Bound::Included(bound) => compare(value, bound).is_le(),
            Bound::Excluded(bound) => compare(value, bound).is_lt(),
            Bound::Unbounded => true,
        }
}

/// A day as a bound means its first or last microsecond, so that `[2026-01-30 TO 2026-01-31]` is two days.
fn times(lower: &Bound<String>, upper: &Bound<String>) -> Option<(Bound<i64>, Bound<i64>)> {
    let first = |text: &str| time_span(text).map(|span| span.0);
    let last = |text: &str| time_span(text).map(|span| span.1);
    match (lower, upper) {
        (Bound::Excluded(_), Bound::Excluded(_)) => both(lower, upper, last, first),
        (Bound::Excluded(_), _) => both(lower, upper, last, last),
        (_, Bound::Excluded(_)) => both(lower, upper, first, first),
        _ => both(lower, upper, first, last),
    }
}

/// Both bounds read, unless one cannot be read.
fn both<T>(
    lower: &Bound<String>,
    upper: &Bound<String>,
    read_lower: impl Fn(&str) -> Option<T>,
    read_upper: impl Fn(&str) -> Option<T>,
) -> Option<(Bound<T>, Bound<T>)> {
    Some((bound(lower, read_lower)?, bound(upper, read_upper)?))
}

fn bound<T>(bound: &Bound<String>, read: impl Fn(&str) -> Option<T>) -> Option<Bound<T>> {
    Some(match bound {
        Bound::Included(text) => Bound::Included(read(text)?),
        Bound::Excluded(text) => Bound::Excluded(read(text)?),
        Bound::Unbounded => Bound::Unbounded,
    })
}
