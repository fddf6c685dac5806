//! What correlations mean, written as plainly as possible: everything that was ever counted is kept, and
//! every window is looked at from the beginning. The engine must agree with it.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Condition, Correlation, Kind};

/// One match of a rule.
#[derive(Clone, Debug)]
pub(super) struct Match {
    pub(super) number: usize,
    pub(super) time: i64,
    pub(super) received_at: i64,
    pub(super) partition: u32,
    pub(super) group: u8,
    pub(super) member: usize,
    pub(super) value: i64,
}

/// A correlation matched: the group, when the window ended, the number reached, the events.
pub(super) type Found = (u8, i64, String, Vec<usize>);

pub(super) struct Naive<'a> {
    pub(super) rule: &'a Correlation,
    pub(super) lateness: i64,
    pub(super) idle: i64,
    /// Most events that a match lists.
    listed: usize,
    heard: Vec<Match>,
    counted: Vec<Match>,
    decided_before: i64,
    fired: Vec<(u8, i64)>,
    watermark: i64,
}

impl<'a> Naive<'a> {
    pub(super) fn new(rule: &'a Correlation, lateness: i64, idle: i64, listed: usize) -> Self {
        let (heard, counted, fired) = (Vec::new(), Vec::new(), Vec::new());
        let (watermark, decided_before) = (i64::MIN, i64::MIN);
        Self { rule, lateness, idle, listed, heard, counted, decided_before, fired, watermark }
    }

    /// Takes the next match.
    pub(super) fn take(&mut self, next: &Match) -> Vec<Found> {
        // That something arrived is known before what it is.
        self.advance(&[(next.partition, None, next.received_at)]);
        let mut found = Vec::new();
        if next.time >= self.watermark {
            self.counted.push(next.clone());
            if self.rule.is_immediate() {
                let ends = self.ends(next.group);
                let ends = ends
                    .into_iter()
                    .filter(|end| (next.time..=next.time + self.rule.span_micros).contains(end));
                found.extend(ends.filter_map(|end| self.look(next.group, end)).collect::<Vec<_>>());
            }
        }
        self.heard.push(next.clone());
        self.advance(&[]);
        found.extend(self.decide());
        found
    }

    pub(super) fn finish(&mut self) -> Vec<Found> {
        self.watermark = i64::MAX;
        self.decide()
    }

    fn advance(&mut self, just_heard: &[(u32, Option<i64>, i64)]) {
        let mut partitions: BTreeMap<u32, (i64, i64)> = BTreeMap::new();
        for heard in &self.heard {
            let time = heard.time.min(heard.received_at);
            let progress = partitions.entry(heard.partition).or_insert((time, heard.received_at));
            *progress = (progress.0.max(time), progress.1.max(heard.received_at));
        }
        for (partition, _, received_at) in just_heard {
            partitions.entry(*partition).and_modify(|progress| progress.1 = progress.1.max(*received_at));
        }
        let arrivals = self.heard.iter().map(|heard| heard.received_at);
        let now = arrivals.chain(just_heard.iter().map(|heard| heard.2)).max().unwrap_or(0);
        let live = partitions.values().filter(|(_, heard)| *heard >= now - self.idle);
        if let Some(slowest) = live.map(|(time, _)| *time).min() {
            self.watermark = self.watermark.max(slowest - self.lateness);
        }
    }

    fn decide(&mut self) -> Vec<Found> {
        if self.rule.is_immediate() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for group in 0..=u8::MAX {
            for end in self.ends(group) {
                if (self.decided_before..self.watermark).contains(&end) {
                    found.extend(self.look(group, end));
                }
            }
        }
        self.decided_before = self.watermark;
        found
    }

    fn ends(&self, group: u8) -> BTreeSet<i64> {
        self.counted.iter().filter(|entry| entry.group == group).map(|entry| entry.time).collect()
    }

    /// Looks at the window that ends at a time.
    fn look(&mut self, group: u8, end: i64) -> Option<Found> {
        let span = self.rule.span_micros;
        let mut window: Vec<&Match> = self
            .counted
            .iter()
            .filter(|entry| entry.group == group && entry.time >= end - span && entry.time <= end)
            .collect();
        // Events of one time stand in the order of the log.
        window.sort_by_key(|entry| (entry.time, entry.partition, entry.number));
        let value = holds(self.rule, &window)?;
        if self.fired.iter().any(|(other, fired)| *other == group && (fired - end).abs() <= span) {
            return None;
        }
        let latest = window.iter().rev().take(self.listed);
        let events: BTreeSet<usize> = latest.map(|entry| entry.number).collect();
        let events = events.into_iter().collect();
        self.fired.push((group, end));
        Some((group, end, crate::text::float_text(value), events))
    }
}

fn holds(rule: &Correlation, window: &[&Match]) -> Option<f64> {
    let mut values: Vec<i64> = window.iter().map(|entry| entry.value).collect();
    values.sort_unstable();
    let members: BTreeSet<usize> = window.iter().map(|entry| entry.member).collect();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let number = |number: i64| number as f64;
    let count = |count: usize| number(i64::try_from(count).unwrap());
    let sum = number(values.iter().sum());
    let value = match rule.kind {
        Kind::EventCount => count(window.len()),
        Kind::ValueCount => count(values.iter().collect::<BTreeSet<_>>().len()),
        Kind::Temporal => count(members.len()),
        Kind::TemporalOrdered => {
            let wanted = super::aggregate::chain(rule);
            let steps = (0..=wanted.len()).rev().find(|steps| in_order(window, &wanted[..*steps]));
            count(steps.unwrap_or(0))
        }
        Kind::Sum => sum,
        Kind::Average => sum / count(values.len()),
        Kind::Median => {
            f64::midpoint(number(values[(values.len() - 1) / 2]), number(values[values.len() / 2]))
        }
        Kind::Percentile(percent) => {
            let enough = |at: &&i64| {
                let below = values.iter().filter(|value| value <= at).count();
                count(below) * 100.0 >= percent * count(values.len())
            };
            number(*values.iter().find(enough).unwrap())
        }
        Kind::NewValue => 1.0,
    };
    let holds = match &rule.condition {
        Condition::Number(bounds) => bounds.iter().all(|bound| bound.holds(value)),
        Condition::Rules(presence) if rule.kind == Kind::TemporalOrdered => {
            let (wanted, unwanted) = presence.as_lists().unwrap();
            in_order(window, &wanted) && unwanted.iter().all(|rule| !members.contains(rule))
        }
        Condition::Rules(presence) => presence.holds(&|rule| members.contains(&rule)),
    };
    holds.then_some(value)
}

/// Whether the rules matched one after the other.
fn in_order(window: &[&Match], wanted: &[usize]) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return true };
    let at = window.iter().position(|entry| entry.member == *first);
    at.is_some_and(|at| in_order(&window[at + 1..], rest))
}
