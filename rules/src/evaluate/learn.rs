//! Counts how often atoms are true, on a few of the events, so that rules can be found by what is rare.

use std::sync::Arc;

use super::Evaluator;
use crate::compile::{RuleSet, Traffic, index};

/// The first counts are wanted soon: one event in so many is counted, until there are enough.
const FIRST_EVERY: u32 = 16;
const FIRST_EVENTS: u32 = 256;
/// Later ones may take their time.
const LATER_EVERY: u32 = 128;
const LATER_EVENTS: u32 = 16_384;

/// What is being counted.
pub(super) struct Learning {
    traffic: Traffic,
    every: u32,
    enough: u32,
}

impl Learning {
    pub(super) fn new(atoms: usize) -> Self {
        Self { traffic: Traffic::new(atoms), every: FIRST_EVERY, enough: FIRST_EVENTS }
    }

    fn begin_later(&mut self, atoms: usize) {
        *self = Self { traffic: Traffic::new(atoms), every: LATER_EVERY, enough: LATER_EVENTS };
    }
}

impl Evaluator {
    /// What was counted, whenever that is enough for a new plan; counting then begins anew. The first time is
    /// after some thousands of events, later ones after some millions.
    pub fn learned(&mut self) -> Option<Traffic> {
        if self.learning.traffic.events() < self.learning.enough {
            return None;
        }
        let traffic = std::mem::take(&mut self.learning.traffic);
        self.learning.begin_later(self.set.atoms.len());
        Some(traffic)
    }

    /// Runs another set from now on. If it is of the same rules, from [`RuleSet::replan`], all counts go on.
    pub fn follow(&mut self, set: Arc<RuleSet>) {
        let mut next = Self::new(set);
        if next.set.has_rules_of(&self.set) {
            next.learning.begin_later(next.set.atoms.len());
            next.candidates = self.candidates;
            next.not_evaluable.go_on_from(self.not_evaluable());
        }
        *self = next;
    }

    /// Counts the event that was just decided, if it is its turn.
    pub(super) fn learn(&mut self) {
        if !self.event.number.is_multiple_of(self.learning.every) {
            return;
        }
        let set = self.set.clone();
        for field in 0..index(set.fields.len()) {
            self.demand(&set, field);
        }
        self.learning.traffic.count(self.event.marks.all());
    }
}
