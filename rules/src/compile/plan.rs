//! By which atoms rules are found.
//!
//! Each rule has a set of atoms of which at least one is true whenever the rule matches. The set that is
//! least often true is chosen; only when one of its atoms is true is the rule looked at. How often atoms are
//! true is at first a guess made from their kind and from how many rules share them; counts from traffic take
//! its place (see [`Estimates`]).

use super::atoms::{Atom, AtomId, Timing, index};
use super::normal::{Condition, Sign};
use super::traffic::Traffic;
use crate::formula::{Check, Field};
use crate::pattern::Pattern;

/// Fields with so few values that each of them is common.
const COARSE_FIELDS: [&str; 12] = [
    "apiVersion",
    "kind",
    "level",
    "stage",
    "verb",
    "event.action",
    "event.outcome",
    "objectRef.apiGroup",
    "objectRef.apiVersion",
    "responseStatus.code",
    "annotations.authorization.k8s.io/decision",
    "user.groups",
];

/// How rules are found.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// For each atom, the rules to look at when it is true.
    pub(crate) candidates: Lists,
    /// Rules that no true atom points to, such as those with only negated ones.
    pub(crate) always: Vec<u32>,
}

/// A rule to look at when an atom is true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// The rule's number.
    pub(crate) rule: u32,
    /// One of these must be true, too.
    pub(crate) guard: Guard,
}

/// Atoms of which one is true whenever a rule matches, so few that they stand in the list of candidates and the
/// rule itself need not be fetched to see that they are false. They are decided while the event is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard([AtomId; GUARD_ATOMS]);

const GUARD_ATOMS: usize = 4;
const NO_ATOM: AtomId = AtomId::MAX;

impl Guard {
    /// Lets all rules through.
    pub(crate) const NONE: Self = Self([NO_ATOM; GUARD_ATOMS]);

    fn new(set: &Necessary) -> Self {
        let mut guard = Self::NONE;
        guard.0.iter_mut().zip(&set.atoms).for_each(|(place, atom)| *place = *atom);
        guard
    }

    /// Whether it lets a rule through, given which atoms are true.
    #[inline]
    pub(crate) fn passes(&self, is_true: impl Fn(AtomId) -> bool) -> bool {
        self.0[0] == NO_ATOM || self.atoms().any(is_true)
    }

    fn atoms(&self) -> impl Iterator<Item = AtomId> {
        self.0.into_iter().take_while(|atom| *atom != NO_ATOM)
    }
}

/// A list of rules for each atom, in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// One bit for each atom that has rules. Most true atoms have none, and are known by it without a look at the rest,
    /// which does not stay in the fastest cache.
    some: Vec<u64>,
    ends: Vec<u32>,
    rules: Vec<Candidate>,
}

impl Lists {
    fn new(lists: &[Vec<Candidate>]) -> Self {
        let rules = lists.concat();
        let ends = lists.iter().scan(0, |end, list| {
            *end += list.len();
            Some(index(*end))
        });
        let mut some = vec![0; lists.len().div_ceil(64)];
        for (atom, _) in lists.iter().enumerate().filter(|(_, list)| !list.is_empty()) {
            some[atom / 64] |= 1 << (atom % 64);
        }
        Self { some, ends: ends.collect(), rules }
    }

    /// The atoms that have rules, and those that guard rules.
    pub(super) fn atoms(&self) -> impl Iterator<Item = AtomId> {
        let guards = self.rules.iter().flat_map(|candidate| candidate.guard.atoms());
        (0..index(self.ends.len())).filter(|atom| !self.of(*atom).is_empty()).chain(guards)
    }

    /// The rules of an atom.
    pub(crate) fn of(&self, atom: AtomId) -> &[Candidate] {
        let at = atom as usize;
        if self.some[at / 64] >> (at % 64) & 1 == 0 {
            return &[];
        }
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.rules[start as usize..self.ends[at] as usize]
    }
}

impl Plan {
    /// Chooses for each condition.
    pub(super) fn new<'a>(
        conditions: impl Iterator<Item = &'a Condition>,
        atoms: &[Atom],
        estimates: &Estimates,
    ) -> Self {
        let mut always = Vec::new();
        let mut candidates = vec![Vec::new(); atoms.len()];
        for (number, condition) in conditions.enumerate() {
            let number = index(number);
            match found_by(condition, atoms, estimates) {
                Some(set) => {
                    let guard = guard(condition, &set, atoms, estimates);
                    let candidate = Candidate { rule: number, guard };
                    set.atoms.iter().for_each(|atom| candidates[*atom as usize].push(candidate));
                }
                None => always.push(number),
            }
        }
        Self { candidates: Lists::new(&candidates), always }
    }
}

/// The share of events, at most, in which it is worth while to read an event again rather than to look at all of it at
/// once.
const WORTH_READING_AGAIN: f64 = 0.3;

/// By which atoms a rule is found. Those about all values of an event cost a look at each of them, so others are
/// preferred unless they are often true.
fn found_by(condition: &Condition, atoms: &[Atom], estimates: &Estimates) -> Option<Necessary> {
    let usable = |atom: AtomId| atoms[atom as usize].timing != Timing::Alone;
    let cheap = |atom: AtomId| usable(atom) && atoms[atom as usize].test.field != Field::Anywhere;
    let rare = necessary(condition, estimates, &cheap).filter(|set| set.rate <= WORTH_READING_AGAIN);
    rare.or_else(|| necessary(condition, estimates, &usable))
}

/// The rarest of the other parts that are few whole values, which cost hardly anything to look up.
fn guard(condition: &Condition, found_by: &Necessary, atoms: &[Atom], estimates: &Estimates) -> Guard {
    let Condition::All(parts) = condition else { return Guard::NONE };
    let whole = |atom: AtomId| {
        let atom = &atoms[atom as usize];
        let is_whole =
            matches!(atom.test.check, Check::Folded(Pattern::Exact(_)) | Check::Cased(Pattern::Exact(_)));
        is_whole && atom.timing != Timing::Alone && atom.test.field != Field::Anywhere
    };
    let sets = parts.iter().filter_map(|part| necessary(part, estimates, &whole));
    let sets = sets.filter(|set| set.atoms.len() <= GUARD_ATOMS && set.atoms != found_by.atoms);
    sets.min_by(|a, b| a.rate.total_cmp(&b.rate)).map_or(Guard::NONE, |set| Guard::new(&set))
}

/// Atoms of which one is true whenever a condition holds.
struct Necessary {
    atoms: Vec<AtomId>,
    rate: f64,
}

/// The set that is least often true, from usable atoms; none if there is no such set.
fn necessary(
    condition: &Condition,
    estimates: &Estimates,
    usable: &impl Fn(AtomId) -> bool,
) -> Option<Necessary> {
    match condition {
        Condition::Atom(atom, Sign::Positive) if usable(*atom) => {
            Some(Necessary { atoms: vec![*atom], rate: estimates.rate(*atom) })
        }
        Condition::Atom(..) => None,
        Condition::All(parts) => parts
            .iter()
            .filter_map(|part| necessary(part, estimates, usable))
            .min_by(|a, b| a.rate.total_cmp(&b.rate)),
        Condition::Any(parts) => {
            let mut union = Necessary { atoms: Vec::new(), rate: 0.0 };
            for part in parts {
                let part = necessary(part, estimates, usable)?;
                union.atoms.extend(part.atoms);
                union.rate += part.rate;
            }
            union.atoms.sort_unstable();
            union.atoms.dedup();
            Some(union)
        }
    }
}

/// What is expected of each atom.
pub(super) struct Estimates {
    /// In what share of events it is true.
    rates: Vec<f64>,
    /// Whether it is dear to decide.
    lazy: Vec<bool>,
}

impl Estimates {
    /// Guesses before any traffic was seen. Atoms that many rules share are common values.
    pub(super) fn prior(atoms: &[Atom], conditions: &[Condition]) -> Self {
        let mut uses = vec![0u32; atoms.len()];
        for condition in conditions {
            condition.visit_atoms(&mut |atom, _| uses[atom as usize] += 1);
        }
        let popularity = |atom: usize| 1.0 + f64::from(uses[atom].max(1)).ln();
        let rates = atoms.iter().enumerate().map(|(id, atom)| prior_rate(atom) * popularity(id));
        Self { rates: rates.collect(), lazy: atoms.iter().map(|atom| atom.timing == Timing::Alone).collect() }
    }

    /// Lets what was seen take the place of guesses. What is decided alone is not counted.
    pub(super) fn learn(&mut self, traffic: &Traffic) {
        for (atom, (rate, lazy)) in self.rates.iter_mut().zip(&self.lazy).enumerate() {
            if !lazy {
                *rate = traffic.rate(atom, *rate);
            }
        }
    }

    fn rate(&self, atom: AtomId) -> f64 {
        self.rates[atom as usize]
    }
}

fn prior_rate(atom: &Atom) -> f64 {
    let of_kind = match &atom.test.check {
        Check::Exists | Check::Any | Check::Outside(_) => 0.5,
        Check::Compare(..) => 0.3,
        Check::Network(_) | Check::Time(..) => 0.1,
        Check::Null | Check::Expression(_) | Check::Reference(_) => 0.05,
        Check::Folded(Pattern::Exact(_)) | Check::Cased(Pattern::Exact(_)) | Check::Members(_) => 0.02,
        // Names of users are made by rule, and so are rules about them.
        Check::Folded(_) if atom.test.field.is("user.username") => 0.4,
        Check::Folded(_) | Check::Cased(_) => 0.04,
    };
    match &atom.test.field {
        Field::Anywhere => of_kind * 4.0,
        Field::Path(path) if COARSE_FIELDS.contains(&&**path) => of_kind * 10.0,
        // Few events have bodies.
        Field::Path(_) | Field::Derived(_) if !atom.bodies.is_empty() => of_kind * 0.2,
        Field::Path(_) | Field::Derived(_) => of_kind,
    }
}

/// Puts what decides soonest and costs least first.
pub(super) fn order(condition: Condition, estimates: &Estimates) -> Condition {
    match condition {
        Condition::Atom(..) => condition,
        Condition::All(parts) => Condition::All(sorted(parts, estimates, 1.0)),
        Condition::Any(parts) => Condition::Any(sorted(parts, estimates, -1.0)),
    }
}

fn sorted(parts: Vec<Condition>, estimates: &Estimates, direction: f64) -> Vec<Condition> {
    let parts = parts.into_iter().map(|part| order(part, estimates));
    let mut parts: Vec<_> = parts.map(|part| (outlook(&part, estimates), part)).collect();
    parts.sort_by(|(a, _), (b, _)| {
        a.cost.cmp(&b.cost).then((a.rate * direction).total_cmp(&(b.rate * direction)))
    });
    parts.into_iter().map(|(_, part)| part).collect()
}

/// What a condition costs to decide, roughly, and how often it holds.
struct Outlook {
    cost: usize,
    rate: f64,
}

const LAZY_COST: usize = 100;

fn outlook(condition: &Condition, estimates: &Estimates) -> Outlook {
    let cost = |atom: AtomId| if estimates.lazy[atom as usize] { LAZY_COST } else { 0 };
    match condition {
        Condition::Atom(atom, Sign::Positive) => Outlook { cost: cost(*atom), rate: estimates.rate(*atom) },
        Condition::Atom(atom, Sign::Negative) => {
            Outlook { cost: cost(*atom), rate: 1.0 - estimates.rate(*atom) }
        }
        Condition::All(parts) => {
            let parts = parts.iter().map(|part| outlook(part, estimates));
            parts.fold(Outlook { cost: 1, rate: 1.0 }, |all, part| Outlook {
                cost: all.cost.max(part.cost + 1),
                rate: all.rate.min(part.rate),
            })
        }
        Condition::Any(parts) => {
            let parts = parts.iter().map(|part| outlook(part, estimates));
            parts.fold(Outlook { cost: 1, rate: 0.0 }, |any, part| Outlook {
                cost: any.cost.max(part.cost + 1),
                rate: any.rate + part.rate,
            })
        }
    }
}
