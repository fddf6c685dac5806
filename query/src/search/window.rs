//! Which times a search is about.

use std::ops::Bound;

use watchbell_event::predicate::{Predicate, Target, Test, indexed_time, time_span};

use super::SearchRequest;
pub(super) use crate::index::Span;

/// The range of time that is asked for, in microseconds, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Window {
    pub(super) fn of(request: &SearchRequest) -> Self {
        let first = request.from.map_or(i64::MIN, indexed_time);
        let last = request.to.map_or(i64::MAX, |to| indexed_time(to) - 1);
        let mut window = Self { first, last };
        window.narrow(&request.query);
        window
    }

    /// Takes in what the query itself says about `@timestamp`, so that partitions are left out by it too.
    fn narrow(&mut self, query: &Predicate) {
        match query {
            Predicate::And(parts) => parts.iter().for_each(|part| self.narrow(part)),
            Predicate::Field(field, test) if field.target() == Target::Time => {
                let (lower, upper) = match test {
                    Test::Is(text) => time_span(text).map(|(a, b)| (Bound::Included(a), Bound::Included(b))),
                    Test::Within(range) => range.micros(),
                    Test::Exists | Test::Like(_) | Test::Matches(_) => None,
                }
                .unwrap_or((Bound::Unbounded, Bound::Unbounded));
                if let Bound::Included(micros) | Bound::Excluded(micros) = lower {
                    self.first = self.first.max(micros);
                }
                if let Bound::Included(micros) | Bound::Excluded(micros) = upper {
                    self.last = self.last.min(micros);
                }
            }
            _ => {}
        }
    }

    pub(super) fn overlaps(&self, span: Span) -> bool {
        span.earliest <= self.last && span.latest >= self.first
    }

    pub(super) fn encloses(&self, span: Span) -> bool {
        self.first <= span.earliest && span.latest <= self.last
    }

    pub(super) fn contains(&self, micros: i64) -> bool {
        (self.first..=self.last).contains(&micros)
    }
}
