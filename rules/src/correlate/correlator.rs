//! Correlations as the rest of the program sees them.

use std::sync::Arc;

use watchbell_event::{EventId, Position, Timestamp};

use super::engine::{CorrelationConfig, Engine, EventRef, Fired, Incoming};
use super::snapshot::{Restored, Snapshot, SnapshotError};
use super::state::CorrelationStats;
use super::watermark::Lane;
use crate::compile::RuleSet;
use crate::evaluate::Evaluator;

/// Counts the matches of rules over time, for one set of rules.
///
/// Metrics: `watchbell_correlation_late_events_total` (matches too late to be counted),
/// `watchbell_correlation_evicted_groups_total{rule}` and `watchbell_correlation_evicted_entries_total{rule}`
/// (given up because the memory was used up).
pub struct Correlator {
    set: Arc<RuleSet>,
    engine: Engine,
    fired: Vec<Fired>,
    /// The rules that matched last, with those that only feed others.
    matched: Vec<usize>,
}

/// One event, in the order of the log.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The cluster it belongs to.
    pub cluster: &'a Arc<str>,
    /// Its identity.
    pub id: EventId,
    /// Where it stands in the log.
    pub position: Position,
    /// When it happened, clamped as [`Timestamp::event_time`] says.
    pub event_time: Timestamp,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Imported history.
    pub history: bool,
}

/// A correlation matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Correlated {
    /// Index of the rule in the set.
    pub rule: usize,
    /// A hash over the rule, the cluster and the values it groups by.
    pub group_key: EventId,
    /// The cluster.
    pub cluster: Arc<str>,
    /// The fields that the rule groups by and their values; several values as a JSON array.
    pub group: Vec<(String, Option<Arc<str>>)>,
    /// The number that was reached, such as that of the events.
    pub value: f64,
    /// When the window began.
    pub window_start: Timestamp,
    /// When it ended: at the event that made the condition true.
    pub window_end: Timestamp,
    /// The first event; where values or rules are counted, the first of those that are listed.
    pub first: EventRef,
    /// The latest events, at most [`CorrelationConfig::listed_events`], oldest first.
    pub events: Vec<EventRef>,
    /// How many more there were. Where values or rules are counted, at least: of what is older than the allowed
    /// lateness, events that make no difference are forgotten.
    pub events_beyond: u64,
    /// They are imported history.
    pub history: bool,
}

impl Correlator {
    /// Prepares to run the correlations of a set.
    #[must_use]
    pub fn new(set: Arc<RuleSet>, config: CorrelationConfig) -> Self {
        let engine = Engine::new(Arc::clone(&set.correlations), config);
        Self { set, engine, fired: Vec::new(), matched: Vec::new() }
    }

    /// Takes the next event and the indexes of the rules it matched, and adds the correlations that match.
    /// Events that no rule matched must be given, too: they tell how time passes. `evaluator` has found the
    /// matches, in the same set of rules, and read no event since.
    pub fn take(
        &mut self,
        event: &Observed<'_>,
        evaluator: &Evaluator,
        matches: &[usize],
        found: &mut Vec<Correlated>,
    ) {
        let incoming = Incoming {
            evaluator,
            lane: Lane { cluster: Arc::clone(event.cluster), history: event.history },
            event: event.id,
            position: event.position,
            time: event.event_time.as_micros(),
            received_at: event.received_at.as_micros(),
        };
        self.engine.take(&incoming, matches, &mut self.fired);
        self.report(found);
    }

    /// No more events come: decides everything that still waits for some.
    pub fn finish(&mut self, found: &mut Vec<Correlated>) {
        self.engine.finish(&mut self.fired);
        self.report(found);
    }

    /// Runs another set. Correlations that did not change go on from where they were.
    pub fn reload(&mut self, set: Arc<RuleSet>) -> Restored {
        let outcome = self.engine.reload(Arc::clone(&set.correlations));
        self.set = set;
        outcome
    }

    /// Begins a snapshot of all that is known now, in place of one that is not done. [`Self::copy`] goes on with it
    /// part by part, while further events are taken; a group that is about to change is copied before.
    pub fn begin_snapshot(&mut self) {
        self.engine.begin_snapshot();
    }

    /// Goes on with the snapshot until about so many bytes were copied, and returns it once it is done. None if
    /// it is not, or if there is none, for instance because rules changed since.
    pub fn copy(&mut self, most_bytes: usize) -> Option<Snapshot> {
        self.engine.copy(most_bytes)
    }

    /// Whether a snapshot was begun that is not done.
    #[must_use]
    pub fn is_copying(&self) -> bool {
        self.engine.copying.is_some()
    }

    /// All that is known, as bytes with a version and a checksum, at once.
    #[must_use]
    pub fn snapshot(&mut self) -> Vec<u8> {
        self.begin_snapshot();
        self.copy(usize::MAX).map(Snapshot::into_bytes).unwrap_or_default()
    }

    /// Goes on from a snapshot. To be given then: the events behind those it knows.
    ///
    /// # Errors
    /// If the bytes are not a sound snapshot; then nothing changes.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<Restored, SnapshotError> {
        self.engine.restore(snapshot)
    }

    /// How much each correlation holds.
    #[must_use]
    pub fn stats(&self) -> Vec<CorrelationStats> {
        self.engine.stats()
    }

    /// Matches that came too late to be counted.
    #[must_use]
    pub fn late_events(&self) -> u64 {
        self.engine.late
    }

    /// The time before which events are too late, for each cluster, without imported history.
    pub fn watermarks(&self) -> impl Iterator<Item = (&Arc<str>, Timestamp)> {
        let live = self.engine.clocks.lanes.iter().filter(|(lane, _)| !lane.history);
        live.map(|(lane, clock)| (&lane.cluster, Timestamp::from_micros(clock.watermark.now())))
    }

    /// The indexes of the correlations that matched at the last call of [`Self::take`] or [`Self::finish`], each as
    /// often as it did; also those that only feed others and are not reported.
    #[must_use]
    pub fn matched(&self) -> &[usize] {
        &self.matched
    }

    /// Rules that only feed others are silent.
    fn report(&mut self, found: &mut Vec<Correlated>) {
        self.matched.clear();
        for (index, fire) in self.fired.drain(..) {
            let Some(planned) = self.engine.plan.correlations.get(index) else { continue };
            self.matched.push(planned.rule);
            if self.set.is_silent(planned.rule) {
                continue;
            }
            let definition = &planned.definition;
            let names = definition.group_by.iter().map(|field| field.name.clone());
            found.push(Correlated {
                rule: planned.rule,
                group_key: fire.key,
                cluster: Arc::clone(&fire.scope.lane.cluster),
                group: names.zip(fire.scope.values.iter().cloned()).collect(),
                value: fire.value,
                window_start: Timestamp::from_micros(fire.time.saturating_sub(definition.span_micros)),
                window_end: Timestamp::from_micros(fire.time),
                first: fire.first,
                events: fire.events,
                events_beyond: fire.beyond,
                history: fire.scope.lane.history,
            });
        }
    }
}
