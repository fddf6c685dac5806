use std::collections::{HashMap, HashSet, VecDeque};

use tokio::sync::watch;
use watchbell_event::{Envelope, EventId, FUTURE_TOLERANCE_MICROS, Positions, Timestamp};

use super::OlderEvent;
use crate::log::{AppendError, RecentId, RecentIds};
use crate::mix::Mix;

/// Parts of the window, of which the oldest is forgotten at once. A new event is looked for in each.
const BUCKETS: usize = 4;

/// What became of an append; none while it is in flight.
pub(super) type Outcome = Option<Result<(), AppendError>>;

/// What is known about an event.
pub(super) enum Known {
    /// Nothing; whoever asked must settle it now.
    New,
    /// It is being appended, with this outcome.
    InFlight(watch::Receiver<Outcome>),
    /// It is durable.
    Stored,
}

/// The identities of the newest events. All 128 bits are compared: half of them would let a sender find
/// two events of its own with one identity and hide the second.
#[derive(Debug)]
pub(super) struct Window {
    /// The oldest first.
    buckets: VecDeque<Bucket>,
    in_flight: HashMap<EventId, watch::Receiver<Outcome>, Mix>,
    mix: Mix,
    /// All events that happened later are in a bucket; none if all there ever were are.
    forgotten_until: Option<Timestamp>,
    /// All events that were forgotten stand before this in the log.
    forgotten_end: Positions,
    ids: usize,
    max_ids: usize,
    window_micros: i64,
}

#[derive(Debug)]
struct Bucket {
    /// The first arrival that was noted.
    since: Timestamp,
    /// The latest arrival.
    until: Timestamp,
    /// When the latest of its events happened.
    latest_event: Timestamp,
    /// All of its events stand before this in the log.
    end: Positions,
    ids: HashSet<EventId, Mix>,
}

impl Bucket {
    fn new(since: Timestamp, latest_event: Timestamp, mix: Mix) -> Self {
        let ids = HashSet::with_hasher(mix);
        Self { since, until: since, latest_event, end: Positions::default(), ids }
    }
}

impl Window {
    /// `end` is where the log ended after `recent` was read.
    pub(super) fn new(max_ids: usize, window_micros: i64, recent: RecentIds, end: &Positions) -> Self {
        let mix = Mix::new();
        let mut window = Self {
            buckets: VecDeque::new(),
            in_flight: HashMap::with_hasher(mix),
            mix,
            // what arrived before had happened at most this much later
            forgotten_until: recent.complete_since.map(|since| since.plus_micros(FUTURE_TOLERANCE_MICROS)),
            // where exactly those that are not among them stand is not known
            forgotten_end: recent.complete_since.map(|_| end.clone()).unwrap_or_default(),
            ids: 0,
            max_ids: max_ids.max(BUCKETS),
            window_micros,
        };
        let mut ids = recent.ids;
        ids.sort_unstable_by_key(|id| id.received_at);
        ids.into_iter().for_each(|id| window.remember(id, end));
        window
    }

    /// What to look for if an event that is not in the window may have been stored before.
    pub(super) fn may_have_forgotten(&self, envelope: &Envelope) -> Option<OlderEvent> {
        let until = self.forgotten_until?;
        let Envelope { id, event_time, received_at, .. } = *envelope;
        // then the event's own time is not known, and a copy of it would have had another
        let claims_none = event_time == received_at;
        let is_clamped = event_time.micros_since(received_at) >= FUTURE_TOLERANCE_MICROS;
        let time = (!claims_none && !is_clamped).then_some(event_time);
        (time.is_none() || event_time <= until).then_some(OlderEvent { id, time })
    }

    /// Says what is known about an event, and notes a new one as in flight with `outcome`.
    pub(super) fn claim(&mut self, id: EventId, outcome: &watch::Sender<Outcome>) -> Known {
        if self.buckets.iter().rev().any(|bucket| bucket.ids.contains(&id)) {
            return Known::Stored;
        }
        if let Some(outcome) = self.in_flight.get(&id) {
            return Known::InFlight(outcome.clone());
        }
        self.in_flight.insert(id, outcome.subscribe());
        Known::New
    }

    /// All events that were forgotten stand before this in the log.
    pub(super) fn forgotten_end(&self) -> &Positions {
        &self.forgotten_end
    }

    /// The event is no longer in flight, and if it is stored, before `end`, it is remembered.
    pub(super) fn settle(&mut self, envelope: &Envelope, stored: Option<&Positions>) {
        let Envelope { id, received_at, event_time, .. } = *envelope;
        self.in_flight.remove(&id);
        if let Some(end) = stored {
            self.remember(RecentId { id, received_at, event_time }, end);
        }
    }

    /// Forgets what arrived longer ago than the window reaches.
    pub(super) fn forget_before(&mut self, now: Timestamp) {
        let since = now.plus_micros(self.window_micros.saturating_neg());
        while self.buckets.front().is_some_and(|oldest| oldest.until < since) {
            self.forget_oldest();
        }
        metrics::gauge!("watchbell_ingest_window_ids").set(self.ids as f64);
    }

    /// Number of events remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids
    }

    fn remember(&mut self, RecentId { id, received_at, event_time }: RecentId, end: &Positions) {
        let (span, limit) = (self.window_micros / BUCKETS as i64, self.max_ids / BUCKETS);
        let full =
            |bucket: &Bucket| bucket.ids.len() >= limit || received_at.micros_since(bucket.since) >= span;
        if self.buckets.back().is_none_or(full) {
            self.buckets.push_back(Bucket::new(received_at, event_time, self.mix));
        }
        if let Some(bucket) = self.buckets.back_mut() {
            self.ids += usize::from(bucket.ids.insert(id));
            bucket.until = bucket.until.max(received_at);
            bucket.latest_event = bucket.latest_event.max(event_time);
            advance(&mut bucket.end, end);
        }
        while self.ids > self.max_ids {
            metrics::counter!("watchbell_ingest_window_evicted_early_total").increment(self.forget_oldest());
        }
    }

    /// Forgets the oldest bucket and returns how many events it held.
    fn forget_oldest(&mut self) -> u64 {
        let Some(oldest) = self.buckets.pop_front() else { return 0 };
        self.ids -= oldest.ids.len();
        self.forgotten_until = self.forgotten_until.max(Some(oldest.latest_event));
        advance(&mut self.forgotten_end, &oldest.end);
        oldest.ids.len() as u64
    }
}

/// Moves `end` to where `other` is further.
fn advance(end: &mut Positions, other: &Positions) {
    for (partition, next) in other.iter() {
        end.set_next(partition, next.max(end.next(partition)));
    }
}
