//! What the windows over some entries can reach at most, whichever of the entries they hold. Where that is far from
//! what a condition asks for, no window needs to be looked at.

use super::aggregate::number;
use super::model::{Comparison, Condition, Correlation, Kind};
use super::window::Entry;

/// What an event counts for, in units, where events are counted.
const ONE: i64 = 1 << 20;
/// A mean is computed with rounding, and so may lie beyond the largest value by far less than this share of it.
const ROUNDING: f64 = 1e-12;

/// Between which numbers, in units, all windows over some entries lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    low: i64,
    high: i64,
}

impl Reach {
    /// Without entries. None if it cannot tell anything about a correlation of this kind.
    pub(super) fn new(rule: &Correlation) -> Option<Self> {
        match rule.kind {
            Kind::EventCount | Kind::Sum => Some(Self { low: 0, high: 0 }),
            Kind::Average | Kind::Percentile(_) | Kind::Median => Some(Self { low: i64::MAX, high: i64::MIN }),
            Kind::ValueCount | Kind::Temporal | Kind::TemporalOrdered | Kind::NewValue => None,
        }
    }

    /// One more entry, of a correlation of this kind.
    pub(super) fn add(&mut self, entry: &Entry, kind: Kind) {
        let units = entry.units();
        match kind {
            Kind::EventCount => self.high = self.high.saturating_add(ONE),
            Kind::Sum => {
                self.low = self.low.saturating_add(units.min(0));
                self.high = self.high.saturating_add(units.max(0));
            }
            _ => {
                self.low = self.low.min(units);
                self.high = self.high.max(units);
            }
        }
    }

    /// Whether a window may fulfil the condition.
    pub(super) fn may_hold(&self, rule: &Correlation) -> bool {
        let Condition::Number(bounds) = &rule.condition else { return true };
        let low = if self.low == i64::MIN { f64::NEG_INFINITY } else { number(self.low.into()) };
        let high = if self.high == i64::MAX { f64::INFINITY } else { number(self.high.into()) };
        let (low, high) = (low - low.abs() * ROUNDING, high + high.abs() * ROUNDING);
        bounds.iter().all(|bound| match bound.comparison {
            Comparison::Less | Comparison::LessOrEqual => low <= bound.number,
            Comparison::Greater | Comparison::GreaterOrEqual => high >= bound.number,
            Comparison::Equal => low <= bound.number && bound.number <= high,
            Comparison::NotEqual => true,
        })
    }
}
