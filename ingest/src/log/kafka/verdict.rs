//! What one reader found out about a message, for the one that comes to it second.
//!
//! Two readers go through the same messages, and what a message holds does not depend on who decodes it. Of the usual
//! message, one audit event in which nothing had to be changed, it is enough to know where the event stands, its identity
//! and its time. The reader that is ahead keeps that in a queue for each partition, from which the other one takes it;
//! while both are at one place, whoever comes first is ahead. When the queues are full, a reader that runs far ahead keeps
//! nothing more, and the other one decodes for itself what it does not find.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use watchbell_event::{Envelope, EventId, Format, Timestamp};

use super::config::{Contents, TopicConfig, TopicFormat};
use super::message::{Message, Opened};
use crate::decode::Origin;

/// A queue that had room for more gives it back when it is empty.
const ROOMY: usize = 1_024;

/// The only event of a message, whose bytes are part of the message.
#[derive(Debug)]
struct Verdict {
    id: EventId,
    event_time: Timestamp,
    /// Where in the message's value the event begins, and how long it is.
    start: u32,
    length: u32,
    /// Of the message: the event's time depends on it.
    received_at: Timestamp,
    /// CRC-32C of the message's value: a topic made anew can have another message at that offset.
    crc: u32,
}

/// Verdicts on messages of all partitions that one reader has decoded and another has not.
///
/// Metrics: `watchbell_kafka_unshared_messages_total` (there was no room for a verdict).
pub(super) struct Verdicts {
    queues: Mutex<Queues>,
    capacity: usize,
    unshared: metrics::Counter,
}

#[derive(Debug, Default)]
struct Queues {
    /// By log partition.
    partitions: BTreeMap<u32, Queue>,
    /// Verdicts in all of them.
    kept: usize,
}

#[derive(Debug, Default)]
struct Queue {
    /// The reader that is ahead, by its name.
    ahead: Option<Arc<str>>,
    /// Another reader was here, too; before that, nothing is kept.
    has_followers: bool,
    /// By offset, the oldest first.
    verdicts: VecDeque<(i64, Verdict)>,
}

impl Verdicts {
    /// Keeps so many at most, of 56 bytes each.
    pub(super) fn new(capacity: usize) -> Self {
        let unshared = metrics::counter!("watchbell_kafka_unshared_messages_total");
        Self { queues: Mutex::default(), capacity, unshared }
    }

    /// Decodes a message, or takes over what another reader found in it. The second is true of the latter.
    pub(super) fn open(
        &self,
        reader: &Arc<str>,
        partition: u32,
        message: &Message,
        topic: &TopicConfig,
        decode: impl FnOnce() -> Opened,
    ) -> (Opened, bool) {
        if !matches!(topic.contents, Contents::Events { format: TopicFormat::Audit, .. }) {
            return (decode(), false);
        }
        let verdict = self.take(reader, partition, message.offset);
        if let Some(envelope) = verdict.and_then(|verdict| verdict.envelope(message, topic)) {
            return (Opened { events: vec![(0, envelope)], rejected: Vec::new() }, true);
        }
        let opened = decode();
        if let Some(verdict) = Verdict::of(message, &opened) {
            self.keep(reader, partition, message.offset, verdict);
        }
        (opened, false)
    }

    /// What another reader found, if it was here. What it kept of older messages is of no use any more.
    fn take(&self, reader: &Arc<str>, partition: u32, offset: i64) -> Option<Verdict> {
        let mut queues = self.lock();
        let Queues { partitions, kept } = &mut *queues;
        let queue = partitions.get_mut(&partition)?;
        if queue.ahead.as_ref() == Some(reader) {
            return None;
        }
        queue.has_followers = true;
        let older = queue.verdicts.partition_point(|(kept, _)| *kept < offset);
        queue.verdicts.drain(..older);
        *kept -= older;
        let verdict = queue.verdicts.pop_front_if(|(kept, _)| *kept == offset);
        *kept -= usize::from(verdict.is_some());
        if queue.verdicts.is_empty() && queue.verdicts.capacity() > ROOMY {
            queue.verdicts = VecDeque::new();
        }
        verdict.map(|(_, verdict)| verdict)
    }

    fn keep(&self, reader: &Arc<str>, partition: u32, offset: i64, verdict: Verdict) {
        let mut queues = self.lock();
        let Queues { partitions, kept } = &mut *queues;
        let queue = partitions.entry(partition).or_default();
        if queue.verdicts.is_empty() && queue.ahead.as_ref() != Some(reader) {
            queue.ahead = Some(Arc::clone(reader));
        }
        let is_ahead = queue.ahead.as_ref() == Some(reader)
            && queue.verdicts.back().is_none_or(|(newest, _)| *newest < offset);
        match is_ahead && queue.has_followers {
            true if *kept < self.capacity => {
                queue.verdicts.push_back((offset, verdict));
                *kept += 1;
            }
            true => self.unshared.increment(1),
            false => {}
        }
    }

    /// Forgets a partition that ended.
    pub(super) fn forget(&self, partition: u32) {
        let mut queues = self.lock();
        if let Some(queue) = queues.partitions.remove(&partition) {
            queues.kept -= queue.verdicts.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verdict {
    /// None if the message holds anything but one event as it stands there.
    fn of(message: &Message, opened: &Opened) -> Option<Self> {
        let ([(0, envelope)], []) = (&*opened.events, &*opened.rejected) else { return None };
        let start = (envelope.bytes.as_ptr() as usize).checked_sub(message.payload.as_ptr() as usize)?;
        let is_part = start + envelope.bytes.len() <= message.payload.len();
        is_part.then_some(Self {
            id: envelope.id,
            event_time: envelope.event_time,
            start: u32::try_from(start).ok()?,
            length: u32::try_from(envelope.bytes.len()).ok()?,
            received_at: envelope.received_at,
            crc: crc32c::crc32c(&message.payload),
        })
    }

    /// None if it was about another message.
    fn envelope(&self, message: &Message, topic: &TopicConfig) -> Option<Envelope> {
        let Origin { source, cluster, peer, received_at, history } = message.origin(topic);
        let place = self.start as usize..self.start as usize + self.length as usize;
        let is_same = self.received_at == received_at && self.crc == crc32c::crc32c(&message.payload);
        (is_same && place.end <= message.payload.len()).then(|| Envelope {
            id: self.id,
            received_at,
            event_time: self.event_time,
            source,
            cluster,
            format: Format::KubernetesAudit,
            peer,
            history,
            bytes: message.payload.slice(place),
        })
    }
}

#[cfg(test)]
mod tests;
