use std::collections::{HashMap, HashSet, VecDeque};

use tokio::sync::watch;
use watchbell_event::{EventId, Timestamp};

use crate::log::{AppendError, RecentIds};

/// Parts of the window, of which the oldest is forgotten at once.
const BUCKETS: usize = 8;

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
    in_flight: HashMap<EventId, watch::Receiver<Outcome>>,
    /// Every event that arrived since is in a bucket; none if there never was another.
    complete_since: Option<Timestamp>,
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
    ids: HashSet<EventId>,
}

impl Window {
    pub(super) fn new(max_ids: usize, window_micros: i64, recent: RecentIds) -> Self {
        let mut window = Self {
            buckets: VecDeque::new(),
            in_flight: HashMap::new(),
            complete_since: recent.complete_since,
            ids: 0,
            max_ids: max_ids.max(BUCKETS),
            window_micros,
        };
        let mut ids = recent.ids;
        ids.sort_unstable_by_key(|(_, received_at)| *received_at);
        for (id, received_at) in ids {
            window.remember(id, received_at);
        }
        window
    }

    /// Events that arrived before this may be unknown here; none if all are known.
    pub(super) fn complete_since(&self) -> Option<Timestamp> {
        self.complete_since
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

    /// The event is no longer in flight; it is stored if it has an arrival.
    pub(super) fn settle(&mut self, id: EventId, received_at: Option<Timestamp>) {
        self.in_flight.remove(&id);
        if let Some(received_at) = received_at {
            self.remember(id, received_at);
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

    fn remember(&mut self, id: EventId, received_at: Timestamp) {
        let (span, limit) = (self.window_micros / BUCKETS as i64, self.max_ids / BUCKETS);
        let full =
            |bucket: &Bucket| bucket.ids.len() >= limit || received_at.micros_since(bucket.since) >= span;
        if self.buckets.back().is_none_or(full) {
            self.buckets.push_back(Bucket { since: received_at, until: received_at, ids: HashSet::new() });
        }
        if let Some(bucket) = self.buckets.back_mut() {
            self.ids += usize::from(bucket.ids.insert(id));
            bucket.until = bucket.until.max(received_at);
        }
        while self.ids > self.max_ids {
            metrics::counter!("watchbell_ingest_window_evicted_early_total").increment(self.forget_oldest());
        }
    }

    /// Forgets the oldest bucket and returns how many events it held.
    fn forget_oldest(&mut self) -> u64 {
        let Some(oldest) = self.buckets.pop_front() else { return 0 };
        self.ids -= oldest.ids.len();
        // arrivals are not in strict order between requests, so this may be later than the next bucket's first
        self.complete_since = self.complete_since.max(Some(oldest.until.plus_micros(1)));
        oldest.ids.len() as u64
    }
}
