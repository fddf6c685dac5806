//! What one correlation knows: its groups, which of them wait for the watermark, and how much memory they
//! take.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use watchbell_event::EventId;

use super::decisive;
use super::engine::EventRef;
use super::fields::Value;
use super::groups::{Content, Group, Groups, Place, Scope};
use super::model::{Correlation, Kind};
use super::novelty::Novelty;
use super::waiting::Waiting;
use super::watermark::{Clocks, Lane};
use super::window::{Entry, Hit, Window};

/// Least time between two looks for groups that are over, in microseconds.
const SWEEP_AT_LEAST_MICROS: i64 = 1_000_000;
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
    /// The first event; if entries are dropped that make no difference, the first of those that are listed.
    pub(crate) first: EventRef,
    /// The latest events, oldest first; bounded in number.
    pub(crate) events: Vec<EventRef>,
    /// How many more there were; if entries are dropped that make no difference, at least.
    pub(crate) beyond: u64,
    /// Values that correlations above read.
    pub(crate) carried: Vec<Value>,
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
    waiting: Waiting,
    /// How far each lane had come at the last look for groups that are over.
    swept: FxHashMap<Lane, i64>,
    bytes: usize,
    /// Most events that a match lists.
    listed: usize,
    pub(super) evicted_groups: u64,
    pub(super) evicted_entries: u64,
}

impl State {
    /// Without groups.
    pub(crate) fn new(listed: usize) -> Self {
        Self {
            listed,
            groups: Groups::default(),
            waiting: Waiting::default(),
            swept: FxHashMap::default(),
            bytes: 0,
            evicted_groups: 0,
            evicted_entries: 0,
        }
    }

    /// Memory that groups take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.waiting.bytes()
    }

    /// Nothing waits in a lane that happened before this.
    pub(crate) fn waits_since(&self, lane: &Lane) -> Option<i64> {
        self.waiting.since(lane)
    }

    /// Takes one match in. No entry before `floor` comes any more.
    pub(crate) fn take(
        &mut self,
        key: EventId,
        lane: &Lane,
        scope: impl FnOnce() -> Scope,
        entry: Entry,
        rule: &Correlation,
        floor: i64,
    ) -> Option<Fire> {
        let place = self.groups.touch(&key).or_else(|| self.add(key, Arc::new(scope()), rule))?;
        let (_, group) = self.groups.at(place)?;
        let before = group.content.bytes();
        let (evicted, fire) = match &mut group.content {
            Content::Novelty(novelty) => {
                let (span, warm_up) = (rule.span_micros, rule.warm_up_micros);
                let (is_new, evicted) = novelty.see(entry.counted(), entry.time, span, warm_up, floor);
                let fire = is_new
                    .then(|| fire_of_entries(key, &group.scope, &[&entry], 1.0, rule.kind, self.listed));
                (evicted, fire.flatten())
            }
            Content::Window(window) if rule.is_immediate() => {
                let (evicted, hit) = window.insert(entry, rule, floor, self.listed);
                (evicted, hit.and_then(|hit| fire(key, &group.scope, window, hit, rule, self.listed)))
            }
            Content::Window(window) => {
                let waited = window.waits_since();
                let evicted = window.put(entry, rule, floor, self.listed);
                let waits = window.waits_since();
                if let Some(time) = waits.filter(|time| waited.is_none_or(|waited| *time < waited)) {
                    self.waiting.add(lane, time, place);
                }
                (evicted, None)
            }
        };
        self.evicted_entries += evicted;
        self.bytes = (self.bytes + group.content.bytes()).saturating_sub(before);
        fire
    }

    /// Decides all windows of a lane that end before its watermark. What fires is in the order of time.
    pub(crate) fn decide(&mut self, rule: &Correlation, lane: &Lane, watermark: i64, fires: &mut Vec<Fire>) {
        let Self { groups, waiting, bytes, listed, .. } = self;
        waiting.take_turns(lane, watermark, |place| {
            let (key, group) = groups.at(place)?;
            let before = group.content.bytes();
            let Content::Window(window) = &mut group.content else { return None };
            while let Some(hit) = window.decide(rule, watermark) {
                fires.extend(fire(key, &group.scope, window, hit, rule, *listed));
            }
            let waits_since = window.waits_since();
            *bytes = (*bytes + group.content.bytes()).saturating_sub(before);
            waits_since
        });
        // Where a group stands among the others depends on more than the log.
        fires.sort_unstable_by_key(|fire| (fire.time, fire.key));
        self.tidy_waiting();
    }

    /// Forgets groups that cannot matter any more. That looks at all of them, and so only once in an eighth
    /// of the timespan, within which each group was used or is over: the cost per entry stays constant.
    pub(crate) fn expire(&mut self, rule: &Correlation, lane: &Lane, clocks: &Clocks) {
        let floor = clocks.floor(lane);
        let due = self.swept.get(lane).is_none_or(|swept| {
            floor.saturating_sub(*swept) >= (rule.span_micros / 8).max(SWEEP_AT_LEAST_MICROS)
        });
        if !due {
            return;
        }
        self.swept.insert(lane.clone(), floor);
        let over = self.groups.retain(|group| {
            let floor = clocks.floor(&group.scope.lane);
            !match &group.content {
                Content::Window(window) => window.is_over(rule, floor),
                Content::Novelty(novelty) => novelty.is_over(rule.span_micros, floor),
            }
        });
        let bytes: usize = over.iter().map(Group::bytes).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
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
            self.tidy_waiting();
        }
        (self.evicted_groups - before.0, self.evicted_entries - before.1)
    }

    /// Puts a group in as it was in a snapshot.
    pub(super) fn restore(&mut self, key: EventId, group: Group) {
        self.bytes += group.bytes();
        let waits_since = group.waits_since();
        let scope = Arc::clone(&group.scope);
        if let (Some(place), Some(time)) = (self.groups.insert(key, group), waits_since) {
            self.waiting.add(&scope.lane, time, place);
        }
    }

    fn shrink_group(&mut self, key: &EventId) -> bool {
        let Some(group) = self.groups.get_mut(key) else { return false };
        let before = group.content.bytes();
        let dropped = match &mut group.content {
            Content::Window(window) => window.drop_quarter(),
            Content::Novelty(novelty) => novelty.drop_quarter(),
        };
        self.evicted_entries += dropped;
        self.bytes = (self.bytes + group.content.bytes()).saturating_sub(before);
        dropped > 0
    }

    fn add(&mut self, key: EventId, scope: Arc<Scope>, rule: &Correlation) -> Option<Place> {
        let content = match rule.kind {
            Kind::NewValue => Content::Novelty(Novelty::default()),
            _ => Content::Window(Window::new(rule)),
        };
        let group = Group { scope, content };
        self.bytes += group.bytes();
        self.groups.insert(key, group)
    }

    fn remove(&mut self, key: &EventId) {
        let bytes = self.groups.remove(key).map_or(0, |group| group.bytes());
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Makes the queues anew if most of what is in them is out of date.
    fn tidy_waiting(&mut self) {
        if self.waiting.len() <= 2 * self.groups.len() + SURPLUS_WAITING {
            return;
        }
        let mut waiting = Waiting::default();
        for (place, group) in self.groups.places() {
            if let Some(time) = group.waits_since() {
                waiting.add(&group.scope.lane, time, place);
            }
        }
        self.waiting = waiting;
    }
}

fn fire(
    key: EventId,
    scope: &Arc<Scope>,
    window: &Window,
    hit: Hit,
    rule: &Correlation,
    listed: usize,
) -> Option<Fire> {
    fire_of_entries(key, scope, &window.of(hit), hit.value, rule.kind, listed)
}

/// An event that several of the rules matched is listed once.
fn fire_of_entries(
    key: EventId,
    scope: &Arc<Scope>,
    entries: &[&Entry],
    value: f64,
    kind: Kind,
    listed: usize,
) -> Option<Fire> {
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
    let earliest = events.first().copied();
    let surplus = events.len().saturating_sub(listed.max(1));
    events.drain(..surplus);
    // When entries are dropped depends on when there were many: the first event must not.
    let first = if decisive::drops(kind) { events.first().copied() } else { earliest }?;
    Some(Fire {
        key,
        scope: Arc::clone(scope),
        time: last.time,
        value,
        first,
        events,
        beyond: beyond + surplus as u64,
        carried: last.chained.as_ref().map(|chained| chained.carried.clone()).unwrap_or_default(),
    })
}
