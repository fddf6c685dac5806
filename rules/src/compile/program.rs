//! Conditions as they are run: all of them in one piece of memory, each in the order in which it is decided.

use super::atoms::{Atom, AtomId, Timing, index};
use super::normal::{Condition, Sign};

/// Conditions, by number.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    steps: Vec<Step>,
    starts: Vec<u32>,
}

/// One step. Those of the parts follow those of the whole.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// An atom that was decided while the event was read and needs no body.
    Marked(AtomId, Sign),
    /// Another atom.
    Atom(AtomId, Sign),
    /// Each of the parts, whose steps end here.
    All(u32),
    /// One of the parts, whose steps end here.
    Any(u32),
}

impl Programs {
    /// Atoms must have their final timing.
    pub(super) fn new(conditions: &[Condition], atoms: &[Atom]) -> Self {
        let mut programs = Self::default();
        for condition in conditions {
            programs.starts.push(index(programs.steps.len()));
            programs.add(condition, atoms);
        }
        programs
    }

    /// How many conditions there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Where the steps of a condition start.
    pub(crate) fn start(&self, number: u32) -> u32 {
        self.starts[number as usize]
    }

    /// The step at a place, and where the one behind it and its parts is.
    pub(crate) fn step(&self, at: u32) -> (Step, u32) {
        let step = self.steps[at as usize];
        match step {
            Step::All(end) | Step::Any(end) => (step, end),
            Step::Marked(..) | Step::Atom(..) => (step, at + 1),
        }
    }

    fn add(&mut self, condition: &Condition, atoms: &[Atom]) {
        match condition {
            Condition::Atom(id, sign) => {
                let atom = &atoms[*id as usize];
                let marked = atom.timing == Timing::Always && atom.bodies.is_empty();
                let step = if marked { Step::Marked(*id, *sign) } else { Step::Atom(*id, *sign) };
                self.steps.push(step);
            }
            Condition::All(parts) => self.add_parts(parts, atoms, Step::All),
            Condition::Any(parts) => self.add_parts(parts, atoms, Step::Any),
        }
    }

    fn add_parts(&mut self, parts: &[Condition], atoms: &[Atom], whole: fn(u32) -> Step) {
        let at = self.steps.len();
        self.steps.push(whole(0));
        parts.iter().for_each(|part| self.add(part, atoms));
        self.steps[at] = whole(index(self.steps.len()));
    }
}
