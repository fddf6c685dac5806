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
            Kind::Average | Kind::Percentile(_) | Kind::Median => {
                Some(Self { low: i64::MAX, high: i64::MIN })
            }
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

#[cfg(test)]
mod tests {
    use watchbell_event::{EventId, Position, Timestamp};

    use super::*;
    use crate::correlate::engine::EventRef;
    use crate::correlate::model::Bound;
    use crate::correlate::window::Window;

    const SPAN: i64 = 100;

    fn rule(kind: Kind, comparison: Comparison, number: f64) -> Correlation {
        Correlation {
            kind,
            references: Vec::new(),
            group_by: Vec::new(),
            fields: Vec::new(),
            span_micros: SPAN,
            condition: Condition::Number(vec![Bound { comparison, number }]),
            generate: false,
            warm_up_micros: 0,
        }
    }

    fn entry(time: i64, value: i64) -> Entry {
        let position = Position { partition: 0, offset: time.unsigned_abs() };
        let event = EventRef { id: EventId([0; 16]), position, time: Timestamp::from_micros(time) };
        Entry::new(&event, 0).counting(Entry::number(value * ONE))
    }

    #[test]
    fn what_is_out_of_reach_is_told_for_each_kind_and_comparison() {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let check = |kind: Kind, values: &[i64], comparison: Comparison, number: f64, expect: bool| {
            let rule = rule(kind, comparison, number);
            let mut reach = Reach::new(&rule).unwrap();
            values.iter().for_each(|value| reach.add(&entry(0, *value), kind));
            assert_eq!(reach.may_hold(&rule), expect, "{kind:?} of {values:?} {comparison:?} {number}");
        };
        for (comparison, number, expect) in [
            (GreaterOrEqual, 7.0, true),
            (Greater, 7.1, false),
            (LessOrEqual, -3.0, true),
            (Less, -3.1, false),
            (Equal, 0.5, true),
            (Equal, 8.0, false),
            (NotEqual, 2.0, true),
        ] {
            check(Kind::Sum, &[2, -3, 5], comparison, number, expect);
            check(Kind::Median, &[2, -3, 7], comparison, number, expect);
            check(Kind::Average, &[7, 7, -3], comparison, number, expect);
        }
        check(Kind::EventCount, &[0, 0], GreaterOrEqual, 2.0, true);
        check(Kind::EventCount, &[0, 0], GreaterOrEqual, 3.0, false);
        check(Kind::Sum, &[1 << 41, 1 << 41, 1 << 41], GreaterOrEqual, 1e300, false);
        check(Kind::Sum, &[1 << 42, 1 << 42, 1 << 42], GreaterOrEqual, 1e300, true);
    }

    #[test]
    fn windows_are_decided_only_while_they_may_fulfil_the_condition() {
        let rule = rule(Kind::Sum, Comparison::GreaterOrEqual, 10.0);
        let mut window = Window::new(&rule);
        let put = |window: &mut Window, time: i64, value: i64| {
            window.put(entry(time, value), &rule, time - 5, 100);
            window.waits_since()
        };
        assert!((0..5).all(|time| put(&mut window, time, 1).is_none()));
        assert_eq!(put(&mut window, 5, 20), Some(0));
        assert_eq!(window.decide(&rule, 6).map(|hit| (hit.first, hit.last, hit.value)), Some((0, 5, 25.0)));
        assert_eq!((window.decide(&rule, 6), window.waits_since()), (None, None));
        // What comes long after is far from ten again, until there is enough.
        (200..203).for_each(|time| _ = put(&mut window, time, 1));
        assert!((203..209).all(|time| put(&mut window, time, 1).is_none()));
        assert_eq!(put(&mut window, 209, 20), Some(204));
        assert_eq!(window.decide(&rule, 300).map(|hit| hit.value), Some(29.0));
    }
}
