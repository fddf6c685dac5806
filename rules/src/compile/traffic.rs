//! How often atoms were true in the events that were seen.

use super::atoms::AtomId;

/// Counts made by an evaluator, by which [`RuleSet::replan`](crate::RuleSet::replan) finds rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    events: u32,
    /// For each atom, in how many of the events it was true.
    counts: Vec<u32>,
}

/// What was expected before any traffic counts as much as so many events.
const PRIOR_EVENTS: f64 = 16.0;

impl Traffic {
    /// No events yet, for a set of so many atoms.
    pub(crate) fn new(atoms: usize) -> Self {
        Self { events: 0, counts: vec![0; atoms] }
    }

    /// Made-up counts.
    #[cfg(test)]
    pub(crate) fn of(events: u32, counts: Vec<u32>) -> Self {
        Self { events, counts }
    }

    /// How many events were counted.
    #[must_use]
    pub fn events(&self) -> u32 {
        self.events
    }

    /// Counts one event, given the atoms that are true in it.
    pub(crate) fn count(&mut self, atoms: impl Iterator<Item = AtomId>) {
        self.events = self.events.saturating_add(1);
        for atom in atoms {
            if let Some(count) = self.counts.get_mut(atom as usize) {
                *count = count.saturating_add(1);
            }
        }
    }

    /// In how many of the events an atom was true.
    pub(super) fn count_of(&self, atom: usize) -> u32 {
        self.counts.get(atom).copied().unwrap_or_default()
    }

    /// The same counts for atoms in another order.
    pub(super) fn in_order(&self, atoms: &[usize]) -> Self {
        Self { events: self.events, counts: atoms.iter().map(|atom| self.count_of(*atom)).collect() }
    }

    /// The share of events in which an atom is expected to be true, given what was expected before.
    pub(super) fn rate(&self, atom: usize, prior: f64) -> f64 {
        let count = self.count_of(atom);
        (f64::from(count) + prior * PRIOR_EVENTS) / (f64::from(self.events) + PRIOR_EVENTS)
    }
}
