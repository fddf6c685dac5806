//! What one correlation knows: its groups, which of them wait for the watermark, and how much memory they
//! take.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use watchbell_event::EventId;

use super::engine::{EventRef, MAX_LISTED_EVENTS};
use super::fields::Value;
use super::groups::{Content, Group, Groups, Scope};
use super::model::{Correlation, Kind};
use super::novelty::Novelty;
use super::window::{Entry, Hit, Window};

/// Memory of one place in the queue of waiting groups, in bytes.
const WAITING_BYTES: usize = 32;
/// Places that may be out of date before the queue is made anew.
const SURPLUS_WAITING: usize = 1_024;

/// A correlation matched within one group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fire {
    /// The group's key.
    pub(crate) key: EventId,
    /// The group.
    pub(crate) scope: Arc<Scope>,
    /// When the window ended.
    pub(crate) time: i64,
    /// The number reached.
    pub(crate) value: f64,
    /// The first event.
    pub(crate) first: EventRef,
    /// The latest events, at most [`MAX_LISTED_EVENTS`], oldest first.
    pub(crate) events: Vec<EventRef>,
    /// How many more there were.
    pub(crate) beyond: u64,
    /// Values that correlations above read.
    pub(crate) carried: Vec<Value>,
    /// All events are imported history.
    pub(crate) history: bool,
}

/// How much a correlation holds, and what it had to give up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrelationStats {
    /// What identifies the rule.
    pub rule: Arc<str>,
    /// Groups it holds.
    pub groups: usize,
    /// Memory they take, in bytes.
    pub bytes: usize,
    /// Groups that went, not used for longest, because the budget was used up.
    pub evicted_groups: u64,
    /// Entries that went because a group alone was too large.
    pub evicted_entries: u64,
}

/// What one correlation knows.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(super) groups: Groups,
    /// When the first entry that waits in a group happened. May hold groups that do not wait any more.
    waiting: BinaryHeap<Reverse<(i64, EventId)>>,
    bytes: usize,
    pub(super) evicted_groups: u64,
    pub(super) evicted_entries: u64,
}

impl State {
    /// Without groups.
    pub(crate) fn new() -> Self {
        Self {
            groups: Groups::default(),
            waiting: BinaryHeap::new(),
            bytes: 0,
            evicted_groups: 0,
            evicted_entries: 0,
        }
    }

    /// Memory that groups take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.waiting.len() * WAITING_BYTES
    }

    /// Nothing waits that happened before this.
    pub(crate) fn waits_since(&self) -> Option<i64> {
        self.waiting.peek().map(|Reverse((time, _))| *time)
    }

    /// Takes one match in. No entry before `floor` comes any more.
    pub(crate) fn take(
        &mut self,
        key: EventId,
        scope: impl FnOnce() -> Scope,
        entry: Entry,
        rule: &Correlation,
        floor: i64,
    ) -> Option<Fire> {
        if !self.groups.contains(&key) {
            self.add(key, Arc::new(scope()), rule);
        }
        let group = self.groups.touch(&key)?;
        let before = group.bytes();
        let (evicted, fire) = match &mut group.content {
            Content::Novelty(novelty) => {
                let (span, warm_up) = (rule.span_micros, rule.warm_up_micros);
                let (is_new, evicted) = novelty.see(entry.counted, entry.time, span, warm_up, floor);
                let fire = is_new.then(|| fire_of_entries(key, &group.scope, &[&entry], 1.0));
                (evicted, fire.flatten())
            }
            Content::Window(window) if rule.is_immediate() => {
                let (evicted, hit) = window.insert(entry, rule, floor);
                (evicted, hit.and_then(|hit| fire(key, &group.scope, window, hit)))
            }
            Content::Window(window) => {
                let earliest = window.waits_since();
                let time = entry.time;
                let evicted = window.put(entry, rule);
                if earliest.is_none_or(|earliest| time < earliest) {
                    self.waiting.push(Reverse((time, key)));
                }
                (evicted, None)
            }
        };
        self.evicted_entries += evicted;
        self.bytes = (self.bytes + group.bytes()).saturating_sub(before);
        fire
    }

    /// Decides all windows that end before the watermark.
    pub(crate) fn decide(&mut self, rule: &Correlation, watermark: i64, fires: &mut Vec<Fire>) {
        while let Some(Reverse((time, key))) = self.waiting.peek().copied() {
            if time >= watermark {
                break;
            }
            self.waiting.pop();
            let Some(group) = self.groups.get_mut(&key) else { continue };
            let before = group.bytes();
            if let Content::Window(window) = &mut group.content {
                while let Some(hit) = window.decide(rule, watermark) {
                    fires.extend(fire(key, &group.scope, window, hit));
                }
                self.waiting.extend(window.waits_since().map(|time| Reverse((time, key))));
            }
            self.bytes = (self.bytes + group.bytes()).saturating_sub(before);
        }
        if self.waiting.len() > 2 * self.groups.len() + SURPLUS_WAITING {
            self.queue_all();
        }
    }

    /// Forgets groups that cannot matter any more, as far as they are among those not used for longest.
    pub(crate) fn expire(&mut self, rule: &Correlation, floor: i64) {
        while let Some((key, group)) = self.groups.oldest() {
            let over = match &group.content {
                Content::Window(window) => window.is_over(rule, floor),
                Content::Novelty(novelty) => novelty.is_over(rule.span_micros, floor),
            };
            if !over {
                break;
            }
            self.remove(&key);
        }
    }

    /// Gives up groups, the one not used for longest first, and if only one is left, its oldest entries,
    /// until no more than `budget` bytes are held. Returns how many groups and entries went.
    pub(crate) fn shrink_to(&mut self, budget: usize) -> (u64, u64) {
        let before = (self.evicted_groups, self.evicted_entries);
        while self.bytes() > budget {
            let Some((key, _)) = self.groups.oldest() else { break };
            if self.groups.len() > 1 {
                self.remove(&key);
                self.evicted_groups += 1;
            } else if !self.shrink_group(&key) {
                break;
            }
            if self.waiting.len() > 2 * self.groups.len() + SURPLUS_WAITING {
                self.queue_all();
            }
        }
        (self.evicted_groups - before.0, self.evicted_entries - before.1)
    }

    /// Puts a group in as it was in a snapshot.
    pub(super) fn restore(&mut self, key: EventId, group: Group) {
        self.bytes += group.bytes();
        if let Content::Window(window) = &group.content {
            self.waiting.extend(window.waits_since().map(|time| Reverse((time, key))));
        }
        self.groups.insert(key, group);
    }

    fn shrink_group(&mut self, key: &EventId) -> bool {
        let Some(group) = self.groups.get_mut(key) else { return false };
        let before = group.bytes();
        let dropped = match &mut group.content {
            Content::Window(window) => window.drop_quarter(),
            Content::Novelty(novelty) => novelty.drop_quarter(),
        };
        self.evicted_entries += dropped;
        self.bytes = (self.bytes + group.bytes()).saturating_sub(before);
        dropped > 0
    }

    fn add(&mut self, key: EventId, scope: Arc<Scope>, rule: &Correlation) {
        let content = match rule.kind {
            Kind::NewValue => Content::Novelty(Novelty::default()),
            _ => Content::Window(Window::new(rule)),
        };
        let group = Group { scope, content };
        self.bytes += group.bytes();
        self.groups.insert(key, group);
    }

    fn remove(&mut self, key: &EventId) {
        let bytes = self.groups.remove(key).map_or(0, |group| group.bytes());
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn queue_all(&mut self) {
        let waiting = self.groups.iter().filter_map(|(key, group)| match &group.content {
            Content::Window(window) => window.waits_since().map(|time| Reverse((time, key))),
            Content::Novelty(_) => None,
        });
        self.waiting = waiting.collect();
    }
}

fn fire(key: EventId, scope: &Arc<Scope>, window: &Window, hit: Hit) -> Option<Fire> {
    fire_of_entries(key, scope, &window.of(hit), hit.value)
}

/// An event that several of the rules matched is listed once.
fn fire_of_entries(key: EventId, scope: &Arc<Scope>, entries: &[&Entry], value: f64) -> Option<Fire> {
    let last = entries.last()?;
    let mut events: Vec<EventRef> = Vec::new();
    let mut beyond = 0;
    for entry in entries {
        match &entry.chained {
            Some(chained) if !chained.events.is_empty() => {
                events.extend_from_slice(&chained.events);
                beyond += chained.beyond;
            }
            _ => events.push(EventRef::of(entry)),
        }
    }
    events.sort_by_key(EventRef::order);
    events.dedup();
    let first = *events.first()?;
    let surplus = events.len().saturating_sub(MAX_LISTED_EVENTS);
    events.drain(..surplus);
    Some(Fire {
        key,
        scope: Arc::clone(scope),
        time: last.time,
        value,
        first,
        events,
        beyond: beyond + surplus as u64,
        carried: last.chained.as_ref().map(|chained| chained.carried.clone()).unwrap_or_default(),
        history: entries.iter().all(|entry| entry.history),
    })
}
