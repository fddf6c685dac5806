//! Ranges of numbers, as comparisons make them.

use std::fmt;

use watchbell_event::predicate::Number;

use crate::correlate::{Bound, Comparison};
use crate::formula::{Check, Field, Formula, Order};

/// The numbers between two edges; an edge that is missing excludes nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    low: Option<Edge>,
    high: Option<Edge>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Edge {
    at: Number,
    included: bool,
}

impl Range {
    /// The field that a part compares to numbers, and the numbers that may pass. Of several comparisons of one field
    /// one of which must hold, it is the range over all of them.
    pub(super) fn of(formula: &Formula) -> Option<(&str, Self)> {
        match formula {
            Formula::Any(parts) => {
                let mut ranges = parts.iter().map(Self::of);
                let (path, mut hull) = ranges.next()??;
                for range in ranges {
                    let (other, range) = range?;
                    if other != path {
                        return None;
                    }
                    hull = hull.or(range);
                }
                Some((path, hull))
            }
            Formula::Test(test) => match (&test.field, &test.check) {
                (Field::Path(path), Check::Compare(order, threshold)) => {
                    Some((&**path, Self::on_side(*order, *threshold)))
                }
                _ => None,
            },
            Formula::All(_) | Formula::Not(_) => None,
        }
    }

    /// All numbers.
    pub(super) const EVERYTHING: Self = Self { low: None, high: None };

    /// The numbers from one to the other, or to any.
    pub(super) fn between(low: u32, high: Option<usize>) -> Self {
        let high = high.and_then(|high| u32::try_from(high).ok());
        let edge = |at| Edge { at: Number::from(i64::from(at)), included: true };
        Self { low: Some(edge(low)), high: high.map(edge) }
    }

    /// The numbers that one part of the condition of a correlation lets pass; all if it only excludes one.
    pub(super) fn beside(Bound { comparison, number }: Bound) -> Self {
        let number = Number::from(number);
        match comparison {
            Comparison::Less => Self::on_side(Order::Less, number),
            Comparison::LessOrEqual => Self::on_side(Order::LessOrEqual, number),
            Comparison::Greater => Self::on_side(Order::Greater, number),
            Comparison::GreaterOrEqual => Self::on_side(Order::GreaterOrEqual, number),
            Comparison::Equal => {
                Self::on_side(Order::GreaterOrEqual, number).and(Self::on_side(Order::LessOrEqual, number))
            }
            Comparison::NotEqual => Self::EVERYTHING,
        }
    }

    fn on_side(order: Order, at: Number) -> Self {
        let edge = |included| Some(Edge { at, included });
        match order {
            Order::Less => Self { low: None, high: edge(false) },
            Order::LessOrEqual => Self { low: None, high: edge(true) },
            Order::Greater => Self { low: edge(false), high: None },
            Order::GreaterOrEqual => Self { low: edge(true), high: None },
        }
    }

    /// What lies in both.
    pub(super) fn and(self, other: Self) -> Self {
        let tighter =
            |one: Option<Edge>, other: Option<Edge>, is_tighter: fn(Edge, Edge) -> bool| match (one, other) {
                (Some(one), Some(other)) => Some(if is_tighter(other, one) { other } else { one }),
                (one, other) => one.or(other),
            };
        Self { low: tighter(self.low, other.low, above), high: tighter(self.high, other.high, below) }
    }

    /// The range over both and what is between them.
    fn or(self, other: Self) -> Self {
        let looser = |one: Option<Edge>, other: Option<Edge>, is_tighter: fn(Edge, Edge) -> bool| {
            let (one, other) = (one?, other?);
            Some(if is_tighter(one, other) { other } else { one })
        };
        Self { low: looser(self.low, other.low, above), high: looser(self.high, other.high, below) }
    }

    /// What lies here and not there, if that has one edge; what has two is left.
    pub(super) fn without(self, other: Self) -> Self {
        let beyond = |edge: Edge| Some(Edge { included: !edge.included, ..edge });
        match (other.low, other.high) {
            (Some(low), None) => self.and(Self { low: None, high: beyond(low) }),
            (None, Some(high)) => self.and(Self { low: beyond(high), high: None }),
            _ => self,
        }
    }

    /// Whether no number lies in it.
    pub(super) fn is_empty(self) -> bool {
        match (self.low, self.high) {
            (Some(low), Some(high)) => {
                let order = low.at.compare(high.at);
                order.is_gt() || (order.is_eq() && !(low.included && high.included))
            }
            _ => false,
        }
    }

    /// Whether no whole number lies in it.
    pub(super) fn has_no_whole_number(self) -> bool {
        let whole = |at: f64| Edge { at: at.into(), included: true };
        let low = self.low.map(|Edge { at, included }| {
            whole(if included { at.to_f64().ceil() } else { at.to_f64().floor() + 1.0 })
        });
        let high = self.high.map(|Edge { at, included }| {
            whole(if included { at.to_f64().floor() } else { at.to_f64().ceil() - 1.0 })
        });
        Self { low, high }.is_empty()
    }
}

/// Whether a lower edge leaves less than another.
fn above(edge: Edge, other: Edge) -> bool {
    let order = edge.at.compare(other.at);
    order.is_gt() || (order.is_eq() && !edge.included)
}

/// Whether an upper edge leaves less than another.
fn below(edge: Edge, other: Edge) -> bool {
    let order = edge.at.compare(other.at);
    order.is_lt() || (order.is_eq() && !edge.included)
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = self.low.map(|edge| format!("{} {}", if edge.included { ">=" } else { ">" }, edge.at));
        let high = self.high.map(|edge| format!("{} {}", if edge.included { "<=" } else { "<" }, edge.at));
        match (low, high) {
            (Some(low), Some(high)) => write!(f, "{low} and at once {high}"),
            (edge, other) => f.write_str(&edge.or(other).unwrap_or_default()),
        }
    }
}
