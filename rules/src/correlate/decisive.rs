//! Which entries can still make a difference. An event count needs every entry; but whether enough distinct values
//! or rules are there depends on the latest entry of each alone, and a chain of rules on the latest chain. Of what is
//! older than the allowed lateness, only these are kept, and the latest ones, which an alert lists.

use std::collections::HashSet;

use super::aggregate::chain;
use super::model::{Correlation, Kind};
use super::window::Entry;

/// Whether a correlation of this kind drops entries that can make no difference.
pub(super) fn drops(kind: Kind) -> bool {
    matches!(kind, Kind::ValueCount | Kind::Temporal | Kind::TemporalOrdered)
}

/// Which of the entries, in the order of time, may still decide a window that ends after all of them, or be among the
/// latest `listed` ones of it, whatever else comes after them.
pub(super) fn needed<'a>(
    entries: impl DoubleEndedIterator<Item = &'a Entry> + ExactSizeIterator + Clone,
    rule: &Correlation,
    listed: usize,
) -> Vec<bool> {
    let events = entries.clone();
    let mut needed = match rule.kind {
        Kind::ValueCount => latest(entries, |entry| Some(entry.counted())),
        Kind::Temporal => latest(entries, |entry| Some(u128::from(entry.member))),
        Kind::TemporalOrdered => {
            let steps = chain(rule);
            let unwanted = |entry: &Entry| {
                (!steps.contains(&usize::from(entry.member))).then_some(u128::from(entry.member))
            };
            let mut needed = latest(entries.clone(), unwanted);
            // What comes may go on with a chain of any length.
            for reached in 1..=steps.len() {
                let chain = latest_chain(entries.clone(), steps.get(..reached).unwrap_or_default());
                needed.iter_mut().zip(chain).for_each(|(needed, chain)| *needed |= chain);
            }
            needed
        }
        _ => vec![true; entries.len()],
    };
    // An event that several rules matched has several entries, which stand together, and is listed once.
    let (mut distinct, mut latest) = (0, None);
    for (needed, entry) in needed.iter_mut().rev().zip(events.rev()) {
        if latest.replace(entry.position()) != Some(entry.position()) {
            distinct += 1;
        }
        if distinct > listed {
            break;
        }
        *needed = true;
    }
    needed
}

/// Marks the latest entry of each key; not those without one.
fn latest<'a>(
    entries: impl DoubleEndedIterator<Item = &'a Entry>,
    key: impl Fn(&Entry) -> Option<u128>,
) -> Vec<bool> {
    let mut seen = HashSet::new();
    let mut latest: Vec<bool> =
        entries.rev().map(|entry| key(entry).is_some_and(|key| seen.insert(key))).collect();
    latest.reverse();
    latest
}

/// Marks the latest entry of the last step, the latest one of the step before it that lies before that, and so on.
fn latest_chain<'a>(entries: impl DoubleEndedIterator<Item = &'a Entry>, steps: &[usize]) -> Vec<bool> {
    let mut steps = steps.iter().rev().peekable();
    let is_next = |entry: &Entry| steps.next_if(|step| **step == usize::from(entry.member)).is_some();
    let mut chain: Vec<bool> = entries.rev().map(is_next).collect();
    chain.reverse();
    chain
}
