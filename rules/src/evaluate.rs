//! Runs a compiled set over one event after the other.
//!
//! One pass over the event's bytes marks the atoms that are true; then the rules that a true atom points to
//! are decided. Marks carry the number of the event they were made for, so nothing is cleared between
//! events, and nothing is done per rule.

mod scan;

use std::sync::Arc;

use crate::compile::{AtomId, Bodies, Condition, FieldId, RuleSet, Sign};
use crate::formula::Check;
use crate::text::fold_into;

pub use scan::MAX_DEPTH;

/// The marks of one thread; the set is shared.
pub struct Evaluator {
    set: Arc<RuleSet>,
    event: Event,
    /// Number of the last event that each rule was looked at for.
    seen: Vec<u32>,
    /// What is known about lazy atoms.
    decided: Vec<Decided>,
    not_evaluable: NotEvaluable,
    buffer: String,
}

/// What the pass over one event leaves.
struct Event {
    /// Which event this is; never 0.
    number: u32,
    /// Number of the last event in which each atom was true.
    truth: Vec<u32>,
    /// The atoms that are true in this event.
    hits: Vec<AtomId>,
    values: Values,
    facts: scan::Facts,
    missing: Bodies,
}

/// The values of fields that have lazy atoms.
#[derive(Default)]
struct Values {
    text: String,
    items: Vec<(FieldId, std::ops::Range<usize>)>,
}

/// A lazy atom's truth, in the event of this number.
#[derive(Clone, Copy, Default)]
struct Decided {
    number: u32,
    holds: bool,
}

/// Counts, per rule, the events that lack the body the rule needs.
struct NotEvaluable {
    by_rule: Vec<u64>,
    /// Number of the last event that each rule was counted for.
    counted: Vec<u32>,
    /// How many events lacked each set of bodies. Counts for rules that nothing but bodies can tell apart,
    /// so that such events cost nothing per rule.
    by_missing: [u64; 4],
}

impl Evaluator {
    /// Prepares to run a set.
    #[must_use]
    pub fn new(set: Arc<RuleSet>) -> Self {
        let atoms = set.atoms.len();
        let rules = set.rules().len();
        Self {
            event: Event::new(atoms),
            seen: vec![0; rules],
            decided: vec![Decided::default(); atoms],
            not_evaluable: NotEvaluable::new(rules),
            buffer: String::new(),
            set,
        }
    }

    /// The set it runs.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.set
    }

    /// Puts the indexes of all rules that match an event, a JSON object, into `matches`, lowest first.
    /// What is not a JSON object matches nothing; then the answer is false.
    pub fn matches(&mut self, event: &[u8], matches: &mut Vec<usize>) -> bool {
        matches.clear();
        self.next_event();
        let read = std::str::from_utf8(event)
            .is_ok_and(|text| scan::scan(&self.set, text, &mut self.event, &mut self.buffer).is_ok());
        if read {
            self.event.missing = self.event.facts.missing_bodies();
            self.decide_candidates(matches);
            matches.sort_unstable();
        }
        read
    }

    /// For each rule, how many events it could not be decided on, because they lack the request or response
    /// body it reads. For rules that read nothing else, all events without that body count.
    #[must_use]
    pub fn not_evaluable(&self) -> Vec<u64> {
        let mut counts = self.not_evaluable.by_rule.clone();
        for (rule, bodies) in &self.set.plan.body_only {
            let missing = Bodies::all().filter(|missing| missing.intersects(*bodies));
            let events = missing.map(|missing| self.not_evaluable.by_missing[missing.number()]);
            counts[*rule as usize] += events.sum::<u64>();
        }
        counts
    }

    fn next_event(&mut self) {
        self.event.hits.clear();
        self.event.values.clear();
        self.event.facts.clear();
        self.event.number = self.event.number.wrapping_add(1);
        if self.event.number == 0 {
            // Marks of four billion events ago would count again.
            self.event.truth.fill(0);
            self.seen.fill(0);
            self.decided.fill(Decided::default());
            self.not_evaluable.counted.fill(0);
            self.event.number = 1;
        }
    }

    fn decide_candidates(&mut self, matches: &mut Vec<usize>) {
        let set = self.set.clone();
        let hits = std::mem::take(&mut self.event.hits);
        for &atom in &hits {
            for &rule in set.plan.candidates.of(atom) {
                self.decide(&set, rule, matches);
            }
        }
        for &rule in &set.plan.always {
            self.decide(&set, rule, matches);
        }
        if !self.event.missing.is_empty() && self.event.facts.is_final() {
            for &atom in &hits {
                for &rule in set.plan.starving.of(atom) {
                    self.count_not_evaluable(&set, rule, matches);
                }
            }
            self.not_evaluable.by_missing[self.event.missing.number()] += 1;
        }
        self.event.hits = hits;
    }

    fn decide(&mut self, set: &RuleSet, rule: u32, matches: &mut Vec<usize>) {
        let seen = &mut self.seen[rule as usize];
        if std::mem::replace(seen, self.event.number) == self.event.number {
            return;
        }
        if self.holds(set, &set.conditions[rule as usize], Assume::Worst) {
            matches.push(rule as usize);
        }
    }

    fn count_not_evaluable(&mut self, set: &RuleSet, rule: u32, matches: &[usize]) {
        let counted = &mut self.not_evaluable.counted[rule as usize];
        if std::mem::replace(counted, self.event.number) == self.event.number {
            return;
        }
        let matched = matches.contains(&(rule as usize));
        if !matched && self.holds(set, &set.conditions[rule as usize], Assume::Best) {
            self.not_evaluable.by_rule[rule as usize] += 1;
        }
    }

    /// Whether a condition holds if what is not known turns out for the worst or the best. As `not` stands
    /// only before atoms, the first is "true" and the second "not false" of three-valued logic.
    fn holds(&mut self, set: &RuleSet, condition: &Condition, assume: Assume) -> bool {
        match condition {
            Condition::All(parts) => parts.iter().all(|part| self.holds(set, part, assume)),
            Condition::Any(parts) => parts.iter().any(|part| self.holds(set, part, assume)),
            Condition::Atom(atom, sign) => {
                let unknown = match set.atoms[*atom as usize].body {
                    Some(body) => self.event.missing.contains(body),
                    None => false,
                };
                if unknown {
                    return assume == Assume::Best;
                }
                self.is_true(set, *atom) == (*sign == Sign::Positive)
            }
        }
    }

    fn is_true(&mut self, set: &RuleSet, id: AtomId) -> bool {
        let atom = &set.atoms[id as usize];
        if !atom.lazy {
            return self.event.truth[id as usize] == self.event.number;
        }
        let decided = self.decided[id as usize];
        if decided.number == self.event.number {
            return decided.holds;
        }
        let buffer = &mut self.buffer;
        let holds = self.event.values.of(atom.field).any(|text| match &atom.test.check {
            Check::Expression(expression) => expression.matches(text),
            Check::Cased(pattern) => pattern.matches(text),
            Check::Folded(pattern) => {
                fold_into(text, buffer);
                pattern.matches(buffer)
            }
            _ => false,
        });
        self.decided[id as usize] = Decided { number: self.event.number, holds };
        holds
    }
}

/// What to take the unknown for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Assume {
    Worst,
    Best,
}

impl NotEvaluable {
    fn new(rules: usize) -> Self {
        Self { by_rule: vec![0; rules], counted: vec![0; rules], by_missing: [0; 4] }
    }
}

impl Event {
    fn new(atoms: usize) -> Self {
        Self {
            number: 0,
            truth: vec![0; atoms],
            hits: Vec::new(),
            values: Values::default(),
            facts: scan::Facts::default(),
            missing: Bodies::default(),
        }
    }
}

impl Values {
    fn clear(&mut self) {
        self.text.clear();
        self.items.clear();
    }

    fn add(&mut self, field: FieldId, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.items.push((field, start..self.text.len()));
    }

    fn of(&self, field: FieldId) -> impl Iterator<Item = &str> {
        let items = self.items.iter().filter(move |(of, _)| *of == field);
        items.map(|(_, range)| &self.text[range.clone()])
    }
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
