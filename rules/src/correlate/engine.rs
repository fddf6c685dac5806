//! Runs all correlations of a set: hands matches to those that count them, and what fires to those above.

use std::sync::Arc;

use watchbell_event::{EventId, Position, Timestamp};

use super::aggregate::units;
use super::fields::Fields;
use super::groups::{Scope, group_key, hash_of_values};
use super::model::Kind;
use super::plan::{Feed, Plan, Planned, Source, Sources};
use super::snapshot::Snapshot;
use super::state::{CorrelationStats, Fire, State};
use super::watermark::{Clocks, Lane};
use super::window::{Chained, Entry};
use crate::evaluate::Evaluator;

/// How long events are waited for, and how much memory correlations take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrelationConfig {
    /// How far an event may lie before the latest one and still be counted, in microseconds.
    pub lateness_micros: i64,
    /// A partition of which nothing was heard for so long holds the watermark back no more, in microseconds.
    pub idle_micros: i64,
    /// Memory of one correlation, in bytes.
    pub rule_budget_bytes: usize,
    /// Memory of all correlations, in bytes.
    pub total_budget_bytes: usize,
    /// Most events that a match lists; it says how many more there were.
    pub listed_events: usize,
}

impl Default for CorrelationConfig {
    fn default() -> Self {
        Self {
            lateness_micros: 60_000_000,
            idle_micros: 30_000_000,
            rule_budget_bytes: 64 << 20,
            total_budget_bytes: 256 << 20,
            listed_events: 100,
        }
    }
}

/// An event that takes part in a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRef {
    /// Which event.
    pub id: EventId,
    /// Where it stands in the log.
    pub position: Position,
    /// When it happened.
    pub time: Timestamp,
}

impl EventRef {
    pub(super) fn of(entry: &Entry) -> Self {
        Self { id: entry.event, position: entry.position(), time: Timestamp::from_micros(entry.time) }
    }

    pub(super) fn order(&self) -> (Timestamp, Position) {
        (self.time, self.position)
    }
}

/// One event, as far as correlations look at it.
pub(crate) struct Incoming<'a> {
    /// What read it last.
    pub(crate) evaluator: &'a Evaluator,
    pub(crate) lane: Lane,
    pub(crate) event: EventId,
    pub(crate) position: Position,
    pub(crate) time: i64,
    pub(crate) received_at: i64,
}

/// All correlations of a set and what they know.
pub(crate) struct Engine {
    pub(super) plan: Arc<Plan>,
    pub(super) config: CorrelationConfig,
    pub(super) states: Vec<State>,
    pub(super) clocks: Clocks,
    /// Matches that came too late to be counted.
    pub(super) late: u64,
    /// The snapshot that is being made.
    pub(super) copying: Option<Snapshot>,
    fields: Fields,
    fires: Vec<Fire>,
    /// Memory that all states take, in bytes.
    total_bytes: usize,
    /// The correlations that wait for the watermark.
    waiters: Vec<usize>,
}

/// How often correlations are asked to forget what is over, in microseconds of event time.
const SWEEP_EVERY_MICROS: i64 = 1_000_000;

/// Fires of the correlation of this index in the plan.
pub(crate) type Fired = (usize, Fire);

impl Engine {
    /// Without any state.
    pub(crate) fn new(plan: Arc<Plan>, config: CorrelationConfig) -> Self {
        Self {
            states: plan.correlations.iter().map(|_| State::new(config.listed_events)).collect(),
            clocks: Clocks::default(),
            late: 0,
            copying: None,
            fields: Fields::default(),
            fires: Vec::new(),
            total_bytes: 0,
            waiters: (0..plan.correlations.len())
                .filter(|index| !plan.correlations[*index].definition.is_immediate())
                .collect(),
            plan,
            config,
        }
    }

    /// To be called after states were put in from outside.
    pub(super) fn recount(&mut self) {
        self.total_bytes = self.states.iter().map(State::bytes).sum();
        for (lane, clock) in &mut self.clocks.lanes {
            let waits_since = self.states.iter().filter_map(|state| state.waits_since(lane)).min();
            clock.waits_since = waits_since.unwrap_or(i64::MAX);
        }
        (0..self.states.len()).for_each(|correlation| self.keep_to_budget(correlation));
    }

    /// Takes the next event and the rules it matched, and adds what fires. Events that matched nothing move
    /// the watermark, too.
    pub(crate) fn take(&mut self, event: &Incoming<'_>, matches: &[usize], fired: &mut Vec<Fired>) {
        if self.plan.is_empty() {
            return;
        }
        let CorrelationConfig { lateness_micros, idle_micros, .. } = self.config;
        let (partition, time, received_at) = (event.position.partition, event.time, event.received_at);
        let watermark = &mut self.clocks.of(&event.lane).watermark;
        watermark.hear(partition, received_at, lateness_micros, idle_micros);
        self.count(event, matches, fired);
        let watermark = &mut self.clocks.of(&event.lane).watermark;
        watermark.observe(partition, time, received_at, lateness_micros, idle_micros);
        self.decide(&event.lane, fired);
    }

    /// No more events come: decides everything that still waits.
    pub(crate) fn finish(&mut self, fired: &mut Vec<Fired>) {
        let mut lanes: Vec<Lane> = self.clocks.lanes.iter().map(|(lane, _)| lane.clone()).collect();
        lanes.sort();
        for lane in lanes {
            self.clocks.of(&lane).watermark.finish();
            self.decide(&lane, fired);
        }
    }

    /// How much each correlation holds.
    pub(crate) fn stats(&self) -> Vec<CorrelationStats> {
        let states = self.plan.correlations.iter().zip(&self.states);
        let stats = states.map(|(planned, state)| CorrelationStats {
            rule: Arc::clone(&planned.key),
            groups: state.groups.len(),
            bytes: state.bytes(),
            evicted_groups: state.evicted_groups,
            evicted_entries: state.evicted_entries,
        });
        stats.collect()
    }

    fn count(&mut self, event: &Incoming<'_>, matches: &[usize], fired: &mut Vec<Fired>) {
        let plan = Arc::clone(&self.plan);
        let feeds = || matches.iter().filter_map(|rule| plan.fed_by.get(*rule)).flatten();
        if feeds().next().is_none() {
            return;
        }
        if event.time < self.clocks.of(&event.lane).watermark.now() {
            self.late += 1;
            metrics::counter!("watchbell_correlation_late_events_total").increment(1);
            return;
        }
        let mut fields = std::mem::take(&mut self.fields);
        fields.begin(plan.fields.len());
        for feed in feeds() {
            let wanted = sources(&plan, *feed).into_iter().flat_map(Sources::fields);
            wanted.for_each(|field| fields.read(field, event.evaluator));
        }
        let value = |source: Source| match source {
            Source::Field(field) => fields.get(field),
            Source::Group(_) | Source::Carried(_) => None,
        };
        for feed in feeds() {
            let time = Timestamp::from_micros(event.time);
            let entry = EventRef { id: event.event, position: event.position, time };
            self.enter(&plan, *feed, entry, Chained::default(), &event.lane, &value, fired);
        }
        self.fields = fields;
    }

    /// Decides what waited for a lane's watermark, those below before those above.
    fn decide(&mut self, lane: &Lane, fired: &mut Vec<Fired>) {
        let clock = self.clocks.of(lane);
        let watermark = clock.watermark.now();
        if watermark <= clock.floor {
            return;
        }
        let plan = Arc::clone(&self.plan);
        if clock.waits_since < watermark {
            for at in 0..self.waiters.len() {
                let Some((index, planned)) = self.waiter(&plan, at) else { continue };
                let mut fires = std::mem::take(&mut self.fires);
                self.change(index, |state| state.decide(&planned.definition, lane, watermark, &mut fires));
                fires.drain(..).for_each(|fire| self.announce(&plan, index, &fire, fired));
                self.fires = fires;
            }
            let waits_since = self.states.iter().filter_map(|state| state.waits_since(lane)).min();
            self.clocks.of(lane).waits_since = waits_since.unwrap_or(i64::MAX);
        }
        self.clocks.of(lane).floor = watermark;
        self.expire(&plan, lane, watermark);
    }

    /// Lets correlations forget what is over; asks them once in a second of event time.
    fn expire(&mut self, plan: &Plan, lane: &Lane, watermark: i64) {
        let clock = self.clocks.of(lane);
        if watermark.saturating_sub(clock.swept) < SWEEP_EVERY_MICROS {
            return;
        }
        clock.swept = watermark;
        let clocks = std::mem::take(&mut self.clocks);
        for (index, planned) in plan.correlations.iter().enumerate() {
            self.change(index, |state| state.expire(&planned.definition, lane, &clocks));
        }
        self.clocks = clocks;
    }

    fn waiter<'p>(&self, plan: &'p Plan, at: usize) -> Option<(usize, &'p Planned)> {
        let index = *self.waiters.get(at)?;
        Some((index, plan.correlations.get(index)?))
    }

    /// Changes a state and keeps count of the memory.
    fn change<T>(&mut self, index: usize, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        let state = self.states.get_mut(index)?;
        let before = state.bytes();
        let result = change(state);
        self.total_bytes = (self.total_bytes + state.bytes()).saturating_sub(before);
        Some(result)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one entry and where it comes from")]
    fn enter<'v>(
        &mut self,
        plan: &Arc<Plan>,
        feed: Feed,
        event: EventRef,
        mut chained: Chained,
        lane: &Lane,
        value: &dyn Fn(Source) -> Option<&'v str>,
        fired: &mut Vec<Fired>,
    ) {
        let Some(planned) = plan.correlations.get(feed.correlation) else { return };
        let Some(sources) = planned.members.get(feed.member) else { return };
        let definition = &planned.definition;
        let Some(counted) = counted(definition.kind, &sources.counted, value) else { return };
        let mut entry = Entry::new(&event, member(feed)).counting(counted);
        chained.carried = sources.carried.iter().map(|source| value(*source).map(Arc::from)).collect();
        if chained != Chained::default() {
            entry.chained = Some(Arc::new(chained));
        }
        let group = || sources.group.iter().map(|source| value(*source));
        let key = group_key(&planned.key, lane, group());
        let scope =
            || Scope { lane: lane.clone(), values: group().map(|value| value.map(Arc::from)).collect() };
        let floor = self.clocks.of(lane).floor;
        let fire =
            self.change(feed.correlation, |state| state.take(key, lane, scope, entry, definition, floor));
        if let Some(time) = self.states.get(feed.correlation).and_then(|state| state.waits_since(lane)) {
            let clock = self.clocks.of(lane);
            clock.waits_since = clock.waits_since.min(time);
        }
        self.keep_to_budget(feed.correlation);
        if let Some(fire) = fire.flatten() {
            self.announce(plan, feed.correlation, &fire, fired);
        }
    }

    /// Reports a match, which is also an event for the correlations above.
    fn announce(&mut self, plan: &Arc<Plan>, index: usize, fire: &Fire, fired: &mut Vec<Fired>) {
        fired.push((index, fire.clone()));
        let Some(planned) = plan.correlations.get(index) else { return };
        let value = |source: Source| match source {
            Source::Group(index) => fire.scope.values.get(index)?.as_deref(),
            Source::Carried(index) => fire.carried.get(index)?.as_deref(),
            Source::Field(_) => None,
        };
        for &feed in &planned.feeds {
            let last = fire.events.last().copied().unwrap_or(fire.first);
            let entry = EventRef { time: Timestamp::from_micros(fire.time), ..last };
            let events = fire.events.clone();
            let chained = Chained { carried: Vec::new(), events, beyond: fire.beyond };
            self.enter(plan, feed, entry, chained, &fire.scope.lane, &value, fired);
        }
    }

    /// Gives up what goes beyond the budgets: of one correlation, then of all of them together.
    fn keep_to_budget(&mut self, correlation: usize) {
        self.shrink(correlation, self.config.rule_budget_bytes);
        if self.total_bytes <= self.config.total_budget_bytes {
            return;
        }
        let surplus = self.total_bytes - self.config.total_budget_bytes;
        let largest = self.states.iter().map(State::bytes).enumerate().max_by_key(|(_, bytes)| *bytes);
        if let Some((largest, bytes)) = largest {
            self.shrink(largest, bytes.saturating_sub(surplus));
        }
    }

    fn shrink(&mut self, correlation: usize, budget: usize) {
        if self.states.get(correlation).is_none_or(|state| state.bytes() <= budget) {
            return;
        }
        let Some((groups, entries)) = self.change(correlation, |state| state.shrink_to(budget)) else {
            return;
        };
        if let Some(planned) = self.plan.correlations.get(correlation) {
            let rule = || planned.key.to_string();
            metrics::counter!("watchbell_correlation_evicted_groups_total", "rule" => rule())
                .increment(groups);
            metrics::counter!("watchbell_correlation_evicted_entries_total", "rule" => rule())
                .increment(entries);
        }
    }
}

impl Sources {
    fn fields(&self) -> impl Iterator<Item = usize> {
        let all = self.group.iter().chain(&self.counted).chain(&self.carried);
        all.filter_map(|source| if let Source::Field(field) = source { Some(*field) } else { None })
    }
}

fn sources(plan: &Plan, feed: Feed) -> Option<&Sources> {
    plan.correlations.get(feed.correlation)?.members.get(feed.member)
}

fn member(feed: Feed) -> u16 {
    u16::try_from(feed.member).unwrap_or(u16::MAX)
}

/// What an entry counts for; none if the event lacks the value that is counted, and so is not counted.
fn counted<'v>(kind: Kind, sources: &[Source], value: &dyn Fn(Source) -> Option<&'v str>) -> Option<u128> {
    match kind {
        Kind::EventCount | Kind::Temporal | Kind::TemporalOrdered => Some(0),
        Kind::Sum | Kind::Average | Kind::Percentile(_) | Kind::Median => {
            let text = value(*sources.first()?)?;
            Some(Entry::number(units(crate::formula::number(text)?)?))
        }
        Kind::ValueCount | Kind::NewValue => {
            let values = || sources.iter().map(|source| value(*source));
            values().any(|value| value.is_some()).then(|| hash_of_values(values()))
        }
    }
}
