//! What one reader found out about a message, for the one that comes to it second.
//!
//! Two readers go through the same messages, and what a message holds does not depend on who decodes it. Of the usual
//! message, one audit event in which nothing had to be changed, it is enough to know where the event stands, its identity
//! and its time. The reader that is ahead keeps that in a queue for each partition, from which the other one takes it;
//! while both are at one place, whoever comes first is ahead. When the queues are full, a reader that runs far ahead keeps
//! nothing more, and the other one decodes for itself what it does not find.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use watchbell_event::{Envelope, EventId, Format, Timestamp};

use super::config::{Contents, TopicConfig, TopicFormat};
use super::message::{Message, Opened};

/// The only event of a message, whose bytes are part of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    id: EventId,
    event_time: Timestamp,
    /// Where in the message's value the event begins, and how long it is.
    start: u32,
    length: u32,
    /// Of the message: an event's time depends on it, and a topic made anew has another message at that offset.
    time: Timestamp,
    bytes: u32,
}

/// Verdicts on messages of all partitions that one reader has decoded and another has not.
#[derive(Debug)]
pub(super) struct Verdicts {
    queues: Mutex<Queues>,
    capacity: usize,
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
    /// Keeps so many at most, of 64 bytes each.
    pub(super) fn new(capacity: usize) -> Self {
        Self { queues: Mutex::default(), capacity }
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
        let Contents::Events { format: TopicFormat::Audit, cluster } = &topic.contents else {
            return (decode(), false);
        };
        let envelope = self
            .take(reader, partition, message)
            .and_then(|verdict| verdict.envelope(message, topic, cluster));
        if let Some(envelope) = envelope {
            return (Opened { events: vec![(0, envelope)], rejected: Vec::new() }, true);
        }
        let opened = decode();
        if let Some(verdict) = Verdict::of(message, &opened) {
            self.keep(reader, partition, message.offset, verdict);
        }
        (opened, false)
    }

    /// What another reader found, if it was here. What it kept of older messages is of no use any more.
    fn take(&self, reader: &Arc<str>, partition: u32, message: &Message) -> Option<Verdict> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let Queues { partitions, kept } = &mut *queues;
        let queue = partitions.get_mut(&partition)?;
        if queue.ahead.as_ref() == Some(reader) {
            return None;
        }
        queue.has_followers = true;
        while let Some((offset, _)) = queue.verdicts.front().filter(|(offset, _)| *offset <= message.offset) {
            let is_this = *offset == message.offset;
            let verdict = queue.verdicts.pop_front();
            *kept -= 1;
            if is_this {
                return verdict.map(|(_, verdict)| verdict);
            }
        }
        None
    }

    fn keep(&self, reader: &Arc<str>, partition: u32, offset: i64, verdict: Verdict) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let Queues { partitions, kept } = &mut *queues;
        let queue = partitions.entry(partition).or_default();
        if queue.verdicts.is_empty() && queue.ahead.as_ref() != Some(reader) {
            queue.ahead = Some(Arc::clone(reader));
        }
        let is_ahead = queue.ahead.as_ref() == Some(reader)
            && queue.verdicts.back().is_none_or(|(newest, _)| *newest < offset);
        if is_ahead && queue.has_followers && *kept < self.capacity {
            queue.verdicts.push_back((offset, verdict));
            *kept += 1;
        }
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
            time: message.time,
            bytes: u32::try_from(message.bytes).ok()?,
        })
    }

    /// None if it was about another message.
    fn envelope(&self, message: &Message, topic: &TopicConfig, cluster: &Arc<str>) -> Option<Envelope> {
        let (start, end) = (self.start as usize, self.start as usize + self.length as usize);
        let is_same = self.time == message.time && self.bytes as usize == message.bytes;
        (is_same && end <= message.payload.len()).then(|| Envelope {
            id: self.id,
            received_at: message.time,
            event_time: self.event_time,
            source: topic.source().into(),
            cluster: Arc::clone(cluster),
            format: Format::KubernetesAudit,
            peer: None,
            history: false,
            bytes: message.payload.slice(start..end),
        })
    }
}

#[cfg(test)]
mod tests;
