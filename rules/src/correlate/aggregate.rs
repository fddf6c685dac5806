//! What is known about the entries of one window. Entries join and leave in any number; each costs a constant
//! amount of work, except for order statistics, where it grows with the logarithm of the window.

use rustc_hash::FxHashMap;

use super::model::{Condition, Correlation, Kind, Presence};
use super::reach::Reach;
use super::window::Entry;

/// Numbers are summed in units of 2^-20, so that sums are exact and do not depend on the order of events.
const UNIT: f64 = 1_048_576.0;
/// Numbers of this size (2^42) or beyond are not counted.
const MAX_NUMBER: f64 = 4_398_046_511_104.0;

/// What is known about the entries of one window.
#[derive(Clone, Debug)]
pub(crate) enum Aggregate {
    /// Their number.
    Count(usize),
    /// How often each value is there.
    Distinct(FxHashMap<u128, u32>),
    /// How often each rule matched.
    Rules(Vec<u32>),
    /// How far the rules matched one after the other.
    Chain(Box<Chain>),
    /// The sum of values.
    Sum(Sum),
    /// All values, in order.
    Ordered(Vec<i64>),
    /// No window over the entries fulfils the condition, those that wait to be decided among them.
    Quiet(Reach),
}

/// How far rules matched one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    /// The rules that must match one after the other.
    steps: Vec<usize>,
    /// For each step, the latest start of a chain that leads to it through all steps before it.
    starts: Vec<Option<i64>>,
    /// How often each rule matched, those that must not match among them.
    counts: Vec<u32>,
}

impl Chain {
    fn new(rule: &Correlation) -> Self {
        let steps = chain(rule);
        Self { starts: vec![None; steps.len()], steps, counts: vec![0; rule.references.len()] }
    }

    /// An entry joins that is later than all others.
    fn add(&mut self, entry: &Entry) {
        more(&mut self.counts, usize::from(entry.member));
        if let Some((step, began)) = self.leads_to(entry)
            && let Some(start) = self.starts.get_mut(step)
        {
            *start = (*start).max(Some(began));
        }
    }

    /// An entry joins among others. False if all of them must be looked at again: a chain through it may have begun later
    /// than those that are known.
    fn add_among(&mut self, entry: &Entry) -> bool {
        more(&mut self.counts, usize::from(entry.member));
        let Some((step, began)) = self.leads_to(entry) else { return true };
        let there = |rule: &usize| self.counts.get(*rule).is_some_and(|count| *count > 0);
        let reached = self.steps.iter().skip(step + 1).take_while(|rule| there(rule)).count();
        self.starts.iter().skip(step).take(1 + reached).all(|start| *start >= Some(began))
    }

    /// The step that an entry is, and when the latest chain began that may lead to it.
    fn leads_to(&self, entry: &Entry) -> Option<(usize, i64)> {
        let step = self.steps.iter().position(|rule| *rule == usize::from(entry.member))?;
        let began = match step.checked_sub(1) {
            None => Some(entry.time),
            Some(before) => self.starts.get(before).copied().flatten(),
        };
        began.map(|began| (step, began))
    }
}

/// A sum of values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    /// In units; as bytes, which take no more room than they have.
    units: [u8; 16],
    values: u32,
}

impl Sum {
    fn units(&self) -> i128 {
        i128::from_ne_bytes(self.units)
    }

    fn add(&mut self, units: i64) {
        self.units = (self.units() + i128::from(units)).to_ne_bytes();
        self.values += 1;
    }

    fn remove(&mut self, units: i64) {
        self.units = (self.units() - i128::from(units)).to_ne_bytes();
        self.values = self.values.saturating_sub(1);
    }
}

/// A number in units; none if it is too large.
pub(crate) fn units(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "the bound is below what fits")]
    (number.abs() < MAX_NUMBER).then(|| (number * UNIT).round() as i64)
}

#[expect(clippy::cast_precision_loss, reason = "more digits than anybody compares")]
pub(super) fn number(units: i128) -> f64 {
    units as f64 / UNIT
}

impl Aggregate {
    /// Of an empty window.
    pub(crate) fn new(rule: &Correlation) -> Self {
        match rule.kind {
            Kind::EventCount | Kind::NewValue => Self::Count(0),
            Kind::ValueCount => Self::Distinct(FxHashMap::default()),
            Kind::Temporal => Self::Rules(vec![0; rule.references.len()]),
            Kind::TemporalOrdered => Self::Chain(Box::new(Chain::new(rule))),
            Kind::Sum | Kind::Average => Self::Sum(Sum::default()),
            Kind::Percentile(_) | Kind::Median => Self::Ordered(Vec::new()),
        }
    }

    /// An entry joins; those of a chain in the order of time.
    pub(crate) fn add(&mut self, entry: &Entry, rule: &Correlation) {
        let member = usize::from(entry.member);
        match self {
            Self::Count(count) => *count += 1,
            Self::Distinct(values) => *values.entry(entry.counted()).or_insert(0) += 1,
            Self::Rules(counts) => more(counts, member),
            Self::Chain(chain) => chain.add(entry),
            Self::Sum(sum) => sum.add(entry.units()),
            Self::Ordered(values) => {
                let at = values.partition_point(|value| *value <= entry.units());
                values.insert(at, entry.units());
            }
            Self::Quiet(reach) => reach.add(entry, rule.kind),
        }
    }

    /// An entry joins among others, earlier than some. False if that is not known without looking at all of them again.
    pub(crate) fn add_among(&mut self, entry: &Entry, rule: &Correlation) -> bool {
        if let Self::Chain(chain) = self {
            return chain.add_among(entry);
        }
        self.add(entry, rule);
        true
    }

    /// An entry leaves: the earliest one, or one that makes no difference.
    pub(crate) fn remove(&mut self, entry: &Entry) {
        let member = usize::from(entry.member);
        match self {
            Self::Count(count) => *count = count.saturating_sub(1),
            Self::Distinct(values) => {
                if let std::collections::hash_map::Entry::Occupied(mut value) = values.entry(entry.counted())
                {
                    *value.get_mut() -= 1;
                    if *value.get() == 0 {
                        value.remove();
                    }
                }
            }
            Self::Rules(counts) => less(counts, member),
            // Chains are known by their starts, which lie within a window or not.
            Self::Chain(chained) => less(&mut chained.counts, member),
            Self::Sum(sum) => sum.remove(entry.units()),
            Self::Ordered(values) => {
                if let Ok(at) = values.binary_search(&entry.units()) {
                    values.remove(at);
                }
            }
            // It reaches no further without it.
            Self::Quiet(_) => {}
        }
    }

    /// The number reached if the condition holds in the window that begins at `start`.
    pub(crate) fn holds(&self, rule: &Correlation, start: i64) -> Option<f64> {
        let value = self.value(rule, start)?;
        let holds = match &rule.condition {
            Condition::Number(bounds) => bounds.iter().all(|bound| bound.holds(value)),
            Condition::Rules(presence) => self.shows(presence, start),
        };
        holds.then_some(value)
    }

    /// Memory beyond the aggregate itself, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Count(_) | Self::Sum(_) | Self::Quiet(_) => 0,
            Self::Distinct(values) => values.capacity() * 48,
            Self::Rules(counts) => counts.capacity() * 4,
            Self::Chain(chained) => {
                let Chain { steps, starts, counts } = &**chained;
                size_of::<Chain>() + steps.capacity() * 8 + starts.capacity() * 16 + counts.capacity() * 4
            }
            Self::Ordered(values) => values.capacity() * 8,
        }
    }

    fn value(&self, rule: &Correlation, start: i64) -> Option<f64> {
        Some(match self {
            Self::Count(count) => count_number(*count),
            Self::Distinct(values) => count_number(values.len()),
            Self::Rules(counts) => count_number(counts.iter().filter(|count| **count > 0).count()),
            Self::Chain(chained) => count_number(reached(&chained.starts, start)),
            Self::Sum(Sum { values: 0, .. }) => return None,
            Self::Sum(sum) if rule.kind == Kind::Sum => number(sum.units()),
            Self::Sum(sum) => number(sum.units()) / f64::from(sum.values),
            Self::Ordered(values) => ordered(values, rule.kind)?,
            Self::Quiet(_) => return None,
        })
    }

    fn shows(&self, presence: &Presence, start: i64) -> bool {
        match self {
            Self::Rules(counts) => presence.holds(&|rule| counts.get(rule).is_some_and(|count| *count > 0)),
            Self::Chain(chained) => {
                let Chain { starts, counts, .. } = &**chained;
                let absent = |rule: &usize| counts.get(*rule).is_none_or(|count| *count == 0);
                let excluded = presence.as_lists().map(|(_, unwanted)| unwanted).unwrap_or_default();
                reached(starts, start) == starts.len() && excluded.iter().all(absent)
            }
            _ => false,
        }
    }
}

/// The rules that must match one after the other.
pub(super) fn chain(rule: &Correlation) -> Vec<usize> {
    match &rule.condition {
        Condition::Rules(presence) => presence.as_lists().map(|(wanted, _)| wanted).unwrap_or_default(),
        Condition::Number(_) => (0..rule.references.len()).collect(),
    }
}

/// How many rules, from the first on, matched in order since `start`.
fn reached(starts: &[Option<i64>], start: i64) -> usize {
    starts.iter().take_while(|chain| chain.is_some_and(|began| began >= start)).count()
}

fn ordered(values: &[i64], kind: Kind) -> Option<f64> {
    let at = |index: usize| values.get(index).map(|units| number(i128::from(*units)));
    match kind {
        Kind::Percentile(percent) => at(rank(percent, values.len())),
        _ => {
            let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
            Some(f64::midpoint(at(low)?, at(high)?))
        }
    }
}

/// Nearest rank: the first of `count` ordered values that at least `percent` of them do not exceed.
fn rank(percent: f64, count: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the count")]
    let rank = (percent / 100.0 * count_number(count)).ceil() as usize;
    rank.clamp(1, count.max(1)) - 1
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below what a float holds exactly")]
pub(super) fn count_number(count: usize) -> f64 {
    count as f64
}

fn more(counts: &mut [u32], member: usize) {
    counts.get_mut(member).into_iter().for_each(|count| *count += 1);
}

fn less(counts: &mut [u32], member: usize) {
    counts.get_mut(member).into_iter().for_each(|count| *count = count.saturating_sub(1));
}
