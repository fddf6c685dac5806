//! Counts the events on which rules could not be decided, because a body is missing that they read.

use super::{Evaluator, index};
use crate::compile::{Guard, RuleSet, Starvation};

/// Of a set with more different rests than this, only some events are counted, each for several, so that an
/// event costs the same however many rules there are.
const FEW_RESTS: usize = 128;
/// Then on average so many rests may be looked at for an event.
const RESTS_PER_EVENT: usize = 32;

/// Counts of the events that lack a body some rule needs.
pub(super) struct NotEvaluable {
    /// For each set of missing bodies and each rest of rules: on how many such events the rest held.
    rests: Vec<Vec<u64>>,
    /// Number of the last event that each rest was counted for.
    counted: Vec<Vec<u32>>,
    /// For each rule, how many events it matched although a body was missing.
    matched: Vec<u64>,
    /// For each rule, what was counted before rules were found as they are now.
    before: Vec<u64>,
    /// One event in so many is counted, for so many.
    every: u32,
}

impl NotEvaluable {
    pub(super) fn new(set: &RuleSet) -> Self {
        let sizes = set.starvation.iter().map(|starvation| starvation.rests.len());
        let most = sizes.clone().max().unwrap_or_default();
        Self {
            rests: sizes.clone().map(|size| vec![0; size]).collect(),
            counted: sizes.map(|size| vec![0; size]).collect(),
            matched: vec![0; set.rules().len()],
            before: vec![0; set.rules().len()],
            every: if most <= FEW_RESTS { 1 } else { index(most.div_ceil(RESTS_PER_EVENT)) },
        }
    }

    /// Adds what was counted before.
    pub(super) fn go_on_from(&mut self, before: Vec<u64>) {
        self.before = before;
    }

    /// Forgets for which event something was counted last.
    pub(super) fn forget_marks(&mut self) {
        self.counted.iter_mut().for_each(|counted| counted.fill(0));
    }

    /// Whether an event of this number is counted; the choice follows no pattern that traffic might have.
    fn counts(&self, number: u32) -> bool {
        self.every == 1 || (number.wrapping_mul(0x9e37_79b1) >> 8).is_multiple_of(self.every)
    }
}

impl Evaluator {
    /// For each rule, how many events it could not be decided on, because they lack the request or response
    /// body it reads. For sets of many rules it is an estimate, made from a part of the events.
    #[must_use]
    pub fn not_evaluable(&self) -> Vec<u64> {
        let mut counts = vec![0u64; self.set.rules().len()];
        for (starvation, rests) in self.set.starvation.iter().zip(&self.not_evaluable.rests) {
            for (count, rest) in counts.iter_mut().zip(&starvation.rest_of) {
                *count += rest.map_or(0, |rest| rests[rest as usize]);
            }
        }
        let counts = counts.into_iter().zip(&self.not_evaluable.matched);
        let counts = counts.map(|(count, matched)| count.saturating_sub(*matched));
        counts.zip(&self.not_evaluable.before).map(|(count, before)| count + before).collect()
    }

    /// Counts the rules that could not be decided on the event that was just read, given those that match.
    pub(super) fn count_not_evaluable(&mut self, matches: &[usize]) {
        let missing = self.event.missing;
        let nothing = missing.is_empty() || !self.event.facts.is_final();
        if nothing || !self.not_evaluable.counts(self.event.number) {
            return;
        }
        let set = self.set.clone();
        let weight = u64::from(self.not_evaluable.every);
        let lists = set.starvation.iter().enumerate();
        for (list, starvation) in lists.filter(|(_, starvation)| starvation.missing == missing) {
            self.count_starving(&set, list, starvation, weight);
            let starving = matches.iter().filter(|rule| starvation.rest_of[**rule].is_some());
            starving.for_each(|rule| self.not_evaluable.matched[*rule] += weight);
        }
    }

    fn count_starving(&mut self, set: &RuleSet, list: usize, starvation: &Starvation, weight: u64) {
        let hits = std::mem::take(&mut self.event.marks.hits);
        let found = hits.iter().flat_map(|atom| starvation.plan.candidates.of(*atom));
        let unguarded = starvation.plan.always.iter().map(|rest| (*rest, Guard::NONE));
        for (rest, guard) in found.map(|found| (found.rule, found.guard)).chain(unguarded) {
            if !guard.passes(|atom| self.is_marked(atom)) {
                continue;
            }
            let counted = &mut self.not_evaluable.counted[list][rest as usize];
            if std::mem::replace(counted, self.event.number) == self.event.number {
                continue;
            }
            if self.holds(set, &starvation.rests, rest) {
                self.not_evaluable.rests[list][rest as usize] += weight;
            }
        }
        self.event.marks.hits = hits;
    }
}
