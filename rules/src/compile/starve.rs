//! Which rules cannot be decided on events that lack a body.
//!
//! If what a rule asks of the missing bodies is left out of its condition and the rest holds, then the rule
//! is not evaluable on this event. Rules with equal rests are counted together, so this costs as much as
//! there are different rests.

use std::collections::HashMap;

use super::atoms::{Atom, index};
use super::normal::Condition;
use super::plan::{Estimates, Plan};
use super::program::Programs;
use crate::formula::{Bodies, Body};

/// What is left of rules when some bodies are missing.
#[derive(Debug)]
pub(crate) struct Starvation {
    /// The bodies that are missing.
    pub(crate) missing: Bodies,
    /// The different rests.
    pub(crate) rests: Programs,
    /// For each rule, its rest, if it reads one of these bodies.
    pub(crate) rest_of: Vec<Option<u32>>,
    /// How the rests are found.
    pub(crate) plan: Plan,
}

/// The same, before it is known when atoms are decided.
pub(super) struct Rests {
    missing: Bodies,
    conditions: Vec<Condition>,
    rest_of: Vec<Option<u32>>,
    pub(super) plan: Plan,
}

impl Starvation {
    /// Works out the rests of all rules for each set of bodies that policies leave out.
    pub(super) fn all(conditions: &[Condition], atoms: &[Atom], estimates: &Estimates) -> Vec<Rests> {
        let response = Bodies::default().with(Body::Response);
        let sets = [response, response.with(Body::Request)];
        sets.map(|missing| Rests::new(missing, conditions, atoms, estimates)).into()
    }

    /// Atoms must have their final timing.
    pub(super) fn new(rests: Rests, atoms: &[Atom]) -> Self {
        let Rests { missing, conditions, rest_of, plan } = rests;
        Self { missing, rests: Programs::new(&conditions, atoms), rest_of, plan }
    }
}

impl Rests {
    fn new(missing: Bodies, conditions: &[Condition], atoms: &[Atom], estimates: &Estimates) -> Self {
        let mut numbers = HashMap::new();
        let mut rests = Vec::new();
        let mut number = |rest: Condition| {
            *numbers.entry(rest.clone()).or_insert_with(|| {
                rests.push(rest);
                index(rests.len() - 1)
            })
        };
        let rest_of = conditions.iter().map(|condition| rest(condition, missing, atoms).map(&mut number));
        let rest_of = rest_of.collect();
        let plan = Plan::new(rests.iter(), atoms, estimates);
        Self { missing, conditions: rests, rest_of, plan }
    }
}

/// The condition without what it asks of the missing bodies; none if it asks nothing of them.
fn rest(condition: &Condition, missing: Bodies, atoms: &[Atom]) -> Option<Condition> {
    let truth = || Condition::All(Vec::new());
    match condition {
        Condition::Atom(atom, _) => missing.meets(atoms[*atom as usize].bodies).then(truth),
        Condition::All(parts) => {
            let rests: Vec<_> = parts.iter().map(|part| rest(part, missing, atoms)).collect();
            if rests.iter().all(Option::is_none) {
                return None;
            }
            let parts = parts.iter().zip(rests).map(|(part, rest)| rest.unwrap_or_else(|| part.clone()));
            let mut parts: Vec<_> = parts.filter(|part| *part != truth()).collect();
            Some(if parts.len() == 1 { parts.remove(0) } else { Condition::All(parts) })
        }
        Condition::Any(parts) => {
            let rests: Vec<_> = parts.iter().map(|part| rest(part, missing, atoms)).collect();
            if rests.iter().all(Option::is_none) {
                return None;
            }
            let parts: Vec<_> =
                parts.iter().zip(rests).map(|(part, rest)| rest.unwrap_or_else(|| part.clone())).collect();
            Some(if parts.contains(&truth()) { truth() } else { Condition::Any(parts) })
        }
    }
}
