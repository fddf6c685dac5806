//! What was read and is not passed on yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use watchbell_event::{Envelope, Timestamp};

use super::super::state::Held;
use super::{MATCH_WAIT, QUIET_WAIT};

/// A transaction holds at most about so much; a single message may hold more.
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 8 << 20;

/// What the next transaction is to hold.
#[derive(Debug, Default)]
pub(super) struct Pending {
    parts: BTreeMap<Held, Part>,
    events: usize,
    bytes: usize,
    /// When the first message was taken.
    since: Option<Instant>,
    /// When the first event was chosen.
    chosen_since: Option<Instant>,
}

/// What was read of one partition.
#[derive(Debug, Default)]
struct Part {
    /// The offset behind the last message.
    next: i64,
    chosen: Vec<(Place, Envelope)>,
    /// Of each cluster, live and imported, the event that says best how time passes.
    newest: HashMap<Lane, (Place, Envelope)>,
}

/// A message's offset and an event's number within the message.
type Place = (i64, usize);

/// Whose watermark an event moves: of its cluster, and imported history for itself.
type Lane = (Arc<str>, bool);

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes a message whose events of these numbers are chosen.
    pub(super) fn take(&mut self, place: Held, offset: i64, events: Vec<Envelope>, chosen: &[usize]) {
        let now = Instant::now();
        self.since.get_or_insert(now);
        if !chosen.is_empty() {
            self.chosen_since.get_or_insert(now);
        }
        let part = self.parts.entry(place).or_default();
        part.next = offset + 1;
        for (number, envelope) in events.into_iter().enumerate() {
            let (at, bytes) = ((offset, number), envelope.bytes.len());
            let is_newest = part.note_time(at, &envelope);
            let is_chosen = chosen.binary_search(&number).is_ok();
            if is_chosen {
                part.chosen.push((at, envelope));
            }
            if is_chosen || is_newest {
                self.events += 1;
                self.bytes += bytes;
            }
        }
    }

    /// Forgets what was read of a partition, which is another member's now.
    pub(super) fn forget(&mut self, place: &Held) {
        self.parts.remove(place);
        if self.parts.is_empty() {
            *self = Self::default();
        }
    }

    /// Whether it is time for the transaction.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let is_full = self.events >= MAX_EVENTS || self.bytes >= MAX_BYTES;
        is_full || self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// How long further messages may be waited for.
    pub(super) fn wait(&self, most: Duration) -> Duration {
        let left = self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        left.map_or(most, |left| left.min(most))
    }

    fn deadline(&self) -> Option<Instant> {
        let quiet = self.since? + QUIET_WAIT;
        Some(self.chosen_since.map_or(quiet, |since| quiet.min(since + MATCH_WAIT)))
    }

    /// For each partition the offset behind what was read.
    pub(super) fn offsets(&self) -> impl Iterator<Item = (&Held, i64)> {
        self.parts.iter().map(|(place, part)| (place, part.next))
    }

    /// What is to be passed on, by partition and there in the order it was read.
    pub(super) fn events(&self) -> impl Iterator<Item = (&Held, &Envelope)> {
        self.parts.iter().flat_map(|(place, part)| part.events().into_iter().map(move |event| (place, event)))
    }
}

impl Part {
    /// Notes how far an event moves time; false if others moved it as far.
    fn note_time(&mut self, at: Place, envelope: &Envelope) -> bool {
        let lane = (Arc::clone(&envelope.cluster), envelope.history);
        let is_later = |(_, before): &(Place, Envelope)| moves_to(envelope) >= moves_to(before);
        let is_newest = self.newest.get(&lane).is_none_or(is_later);
        if is_newest {
            self.newest.insert(lane, (at, envelope.clone()));
        }
        is_newest
    }

    fn events(&self) -> Vec<&Envelope> {
        let mut events: Vec<&(Place, Envelope)> = self.chosen.iter().chain(self.newest.values()).collect();
        events.sort_by_key(|(at, _)| *at);
        events.dedup_by_key(|(at, _)| *at);
        events.into_iter().map(|(_, envelope)| envelope).collect()
    }
}

/// An event from the future moves time no further than to its arrival.
fn moves_to(envelope: &Envelope) -> Timestamp {
    envelope.event_time.min(envelope.received_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::envelope;

    fn place(partition: i32) -> Held {
        ("log".into(), partition)
    }

    fn event(number: u64, cluster: &str, seconds: i64) -> Envelope {
        let time = Timestamp::from_micros(seconds * 1_000_000);
        Envelope {
            cluster: cluster.into(),
            event_time: time,
            received_at: time,
            history: false,
            ..envelope(number)
        }
    }

    fn passed_on(pending: &Pending) -> Vec<(i32, Envelope)> {
        pending.events().map(|((_, partition), event)| (*partition, event.clone())).collect()
    }

    #[test]
    fn chosen_events_and_the_newest_of_each_cluster_are_passed_on_once_and_in_order() {
        let mut pending = Pending::default();
        let events: Vec<Envelope> = [("a", 1), ("a", 5), ("b", 3), ("a", 2)]
            .iter()
            .zip(0..)
            .map(|((name, at), n)| event(n, name, *at))
            .collect();
        pending.take(place(0), 7, events.clone(), &[0, 1]);
        pending.take(place(0), 8, vec![event(9, "a", 4)], &[]);
        pending.take(place(1), 3, Vec::new(), &[]);
        let expect = [(0, events[0].clone()), (0, events[1].clone()), (0, events[2].clone())];
        assert_eq!(passed_on(&pending), expect);
        let offsets: Vec<_> = pending.offsets().map(|((_, partition), next)| (*partition, next)).collect();
        assert_eq!(offsets, [(0, 9), (1, 4)]);
        pending.forget(&place(0));
        assert_eq!(passed_on(&pending), []);
        pending.forget(&place(1));
        assert!(pending.is_empty() && pending.deadline().is_none());
    }

    #[test]
    fn imported_history_and_events_from_the_future_move_time_for_themselves() {
        let mut pending = Pending::default();
        let history = Envelope { history: true, ..event(1, "a", 9) };
        let future = Envelope { received_at: Timestamp::from_micros(0), ..event(2, "a", 99) };
        let live = event(3, "a", 5);
        pending.take(place(0), 1, vec![history.clone(), live.clone(), future], &[]);
        assert_eq!(passed_on(&pending), [(0, history), (0, live)]);
    }

    #[test]
    fn chosen_events_wait_for_less_time_than_what_says_nothing() {
        let mut pending = Pending::default();
        let now = Instant::now();
        assert!(!pending.is_due(now + QUIET_WAIT));
        pending.take(place(0), 1, vec![event(1, "a", 1)], &[]);
        assert!(!pending.is_due(now + MATCH_WAIT * 2) && pending.is_due(now + QUIET_WAIT * 2));
        pending.take(place(0), 2, vec![event(2, "a", 1)], &[0]);
        assert!(!pending.is_due(now) && pending.is_due(now + MATCH_WAIT * 2));
        let many: Vec<Envelope> = (0..MAX_EVENTS as u64).map(|number| event(number, "a", 1)).collect();
        let all: Vec<usize> = (0..MAX_EVENTS).collect();
        pending.take(place(0), 3, many, &all);
        assert!(pending.is_due(now));
    }
}
