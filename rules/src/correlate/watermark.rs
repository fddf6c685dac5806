//! The time before which no more events are expected.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Most log partitions that are told apart; further ones share the last.
const MAX_PARTITIONS: u32 = 4_096;

/// Most lanes that have a watermark of their own; further ones share one.
const MAX_LANES: usize = 1_024;

/// Events that are counted together, and whose times are compared: those of one cluster. Imported history is
/// apart, or it would always be late.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lane {
    pub(crate) cluster: Arc<str>,
    /// Imported history.
    pub(crate) history: bool,
}

/// How far one lane has come.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    pub(crate) watermark: Watermark,
    /// The watermark up to which everything is decided: no entry comes before it.
    pub(crate) floor: i64,
    /// Nothing waits that happened before this.
    pub(crate) waits_since: i64,
    /// The watermark at the last look for what is over.
    pub(crate) swept: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { watermark: Watermark::default(), floor: i64::MIN, waits_since: i64::MAX, swept: i64::MIN }
    }
}

/// The clocks of all lanes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clocks {
    pub(super) lanes: Vec<(Lane, Clock)>,
    places: FxHashMap<Lane, usize>,
    /// The place that was asked for last: it is mostly asked for again.
    latest: usize,
}

impl Clocks {
    /// The clock of a lane.
    pub(crate) fn of(&mut self, lane: &Lane) -> &mut Clock {
        if self.lanes.get(self.latest).is_none_or(|(latest, _)| latest != lane) {
            self.latest = self.place_of(lane);
        }
        &mut self.lanes[self.latest].1
    }

    fn place_of(&mut self, lane: &Lane) -> usize {
        if let Some(place) = self.places.get(lane) {
            return *place;
        }
        let shared = Lane { cluster: Arc::from(""), history: false };
        let lane = if self.lanes.len() < MAX_LANES { lane.clone() } else { shared };
        *self.places.entry(lane).or_insert_with_key(|lane| {
            self.lanes.push((lane.clone(), Clock::default()));
            self.lanes.len() - 1
        })
    }

    /// No entry of a lane comes before this.
    pub(crate) fn floor(&self, lane: &Lane) -> i64 {
        self.places.get(lane).map_or(i64::MIN, |place| self.lanes[*place].1.floor)
    }
}

/// How far event time has come: the minimum over the log's partitions that are not idle, less the allowed
/// lateness. It never goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watermark {
    pub(super) partitions: BTreeMap<u32, Progress>,
    /// The latest arrival.
    pub(super) heard: i64,
    pub(super) now: i64,
}

/// How far one partition has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The latest event time.
    pub(super) event_time: i64,
    /// The latest arrival.
    pub(super) heard: i64,
}

impl Default for Watermark {
    fn default() -> Self {
        Self { partitions: BTreeMap::new(), heard: i64::MIN, now: i64::MIN }
    }
}

impl Watermark {
    /// No event before this is expected; microseconds since the epoch.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// Notes that a record arrived, before its own event time counts: partitions that were silent since do
    /// not hold the others back any more.
    pub(crate) fn hear(&mut self, partition: u32, received_at: i64, lateness: i64, idle: i64) {
        self.heard = self.heard.max(received_at);
        if let Some(progress) = self.partitions.get_mut(&partition.min(MAX_PARTITIONS)) {
            progress.heard = progress.heard.max(received_at);
        }
        self.advance(lateness, idle);
    }

    /// Notes an event time. An event cannot move the watermark beyond its own arrival, or one from the future
    /// would make those after it late.
    pub(crate) fn observe(
        &mut self,
        partition: u32,
        event_time: i64,
        received_at: i64,
        lateness: i64,
        idle: i64,
    ) {
        let event_time = event_time.min(received_at);
        let new = Progress { event_time, heard: received_at };
        let progress = self.partitions.entry(partition.min(MAX_PARTITIONS)).or_insert(new);
        progress.event_time = progress.event_time.max(event_time);
        self.advance(lateness, idle);
    }

    /// No more events will come.
    pub(crate) fn finish(&mut self) {
        self.now = i64::MAX;
    }

    fn advance(&mut self, lateness: i64, idle: i64) {
        let since = self.heard.saturating_sub(idle);
        let live = self.partitions.values().filter(|progress| progress.heard >= since);
        if let Some(slowest) = live.map(|progress| progress.event_time).min() {
            self.now = self.now.max(slowest.saturating_sub(lateness));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds (partition, event time, arrival) and compares the watermark after each.
    fn check(records: &[(u32, i64, i64)], expect: &[i64]) {
        let mut watermark = Watermark::default();
        let mut found = Vec::new();
        for &(partition, event_time, received_at) in records {
            watermark.hear(partition, received_at, 10, 100);
            watermark.observe(partition, event_time, received_at, 10, 100);
            found.push(watermark.now());
        }
        assert_eq!(found, expect);
    }

    #[test]
    fn follows_the_slowest_partition_that_is_not_idle_and_never_goes_back() {
        check(&[(0, 50, 50), (0, 40, 51), (0, 60, 60)], &[40, 40, 50]);
        check(&[(0, 50, 50), (1, 20, 51), (0, 90, 90), (1, 70, 91)], &[40, 40, 40, 60]);
        // Partition 1 was last heard of at 50; beyond 150 it holds nothing back.
        check(&[(1, 50, 50), (0, 100, 100), (0, 150, 150), (0, 151, 151)], &[40, 40, 40, 141]);
        // And when it comes back, its events may be late.
        check(&[(1, 0, 0), (0, 200, 200), (1, 5, 201), (0, 210, 210)], &[-10, 190, 190, 190]);
    }

    #[test]
    fn an_event_from_the_future_moves_it_no_further_than_its_arrival() {
        check(&[(0, 50, 50), (0, 350, 51), (0, 52, 52)], &[40, 41, 42]);
    }
}
