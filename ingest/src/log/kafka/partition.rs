use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;
use watchbell_event::Timestamp;

use super::config::{Contents, TopicConfig};
use super::context::Context;
use super::message::Message;
use super::registry::Entry;
use super::state::{Place, Shared};
use super::status::Tally;
use super::{Client, Topics, describe, error_of, position, share};
use crate::log::LogError;

/// What the partitions of one reader share.
pub(super) struct Reading {
    pub(super) reader: Arc<str>,
    pub(super) shared: Arc<Shared>,
    /// What is read.
    pub(super) topics: Topics,
    pub(super) client: Arc<Client>,
    /// Told when there are messages again.
    pub(super) nonempty: Arc<Notify>,
}

/// One partition as a reader goes through it.
pub(super) struct Cursor {
    pub(super) entry: Entry,
    pub(super) topic: TopicConfig,
    queue: PartitionQueue<Context>,
    /// The next event that is needed, as a log offset. What comes before it is only learned.
    pub(super) next: u64,
    /// Where fetching began, which may be before that.
    start: i64,
    /// A message that waits for its turn.
    pub(super) head: Option<Message>,
    /// Nothing more was there when it was looked last.
    pub(super) at_end: bool,
    /// It was waited for in vain: nobody waits until it has messages again.
    pub(super) given_up: bool,
    /// The time of the last message.
    pub(super) last_time: Option<Timestamp>,
    /// What was made of its messages and is not told yet.
    pub(super) tally: Tally,
    /// The position is not in the topic; no message comes until it is known why.
    stranded: bool,
    /// A position that was reached, and the number of the last look that may have begun before that.
    reached: (i64, u64),
    /// How many looks in a row found that the partition ends before that position.
    doubts: u32,
    has_problem: bool,
}

/// What became of a position that is not in the topic.
pub(super) enum Rescue {
    /// It is, or nothing is known yet, or fetching goes on.
    NotNeeded,
    /// So many messages are lost, reading goes on behind them.
    Lost(u64),
}

/// How far the others may be ahead of a partition that is known to have more.
const MAX_SKEW_MICROS: i64 = 2_000_000;
/// It may be without a leader.
const PATIENCE: Duration = Duration::from_secs(3);
/// How far others may be ahead of a partition that is at its end while detection elsewhere catches up.
const MAX_SKEW_OF_DETECTION_MICROS: i64 = 20_000_000;
/// Whoever detects may have been killed; others take over in that time.
const PATIENCE_WITH_DETECTION: Duration = Duration::from_secs(20);

/// A leader that was just elected may not know yet how far it goes; looks that must agree on that.
const CERTAIN: u32 = 2;

impl Cursor {
    /// Begins to fetch a partition from `back` messages before the event that is needed next.
    pub(super) fn begin(
        reading: &Reading,
        topic: TopicConfig,
        entry: Entry,
        next: u64,
        back: u64,
    ) -> Result<Self, LogError> {
        let next = next.max(position::at(entry.first));
        let back = i64::try_from(back).unwrap_or(i64::MAX);
        let start = position::message(next).saturating_sub(back).max(entry.first);
        let Some(mut queue) = reading.client.split_partition_queue(&entry.topic, entry.partition) else {
            let reason = format!("partition {} of {}", entry.partition, entry.topic);
            return Err(LogError::Kafka { action: "make a queue", reason });
        };
        let nonempty = Arc::clone(&reading.nonempty);
        queue.set_nonempty_callback(move || nonempty.notify_one());
        let cursor = Self {
            entry,
            topic,
            queue,
            next,
            start,
            head: None,
            at_end: false,
            given_up: false,
            last_time: None,
            tally: Tally::default(),
            stranded: false,
            reached: (position::message(next), reading.shared.ask()),
            doubts: 0,
            has_problem: false,
        };
        cursor.assign(&reading.client)?;
        Ok(cursor)
    }

    fn assign(&self, client: &Client) -> Result<(), LogError> {
        let at = self.list(Offset::Offset(self.start));
        at.and_then(|at| client.incremental_assign(&at))
            .map_err(|error| error_of("begin to read a partition", &error))
    }

    pub(super) fn unassign(&self, client: &Client) -> Result<(), LogError> {
        let this = self.list(Offset::Invalid);
        this.and_then(|this| client.incremental_unassign(&this))
            .map_err(|error| error_of("stop reading a partition", &error))
    }

    fn list(&self, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.entry.topic, self.entry.partition, offset)?;
        Ok(list)
    }

    /// Takes the next message from the queue, if there is none yet.
    pub(super) fn fill(&mut self, reading: &Reading) {
        let shared = &*reading.shared;
        while self.head.is_none() && !self.stranded {
            match self.queue.poll(Duration::ZERO) {
                None => return,
                Some(Ok(message)) => {
                    let is_late = self.topic.contents == Contents::Matches && share::is_late(&message);
                    let mut message = Message::new(&message, &shared.config, shared.quarantine.entry_bytes());
                    message.is_late = is_late;
                    self.head = Some(message);
                    (self.at_end, self.given_up) = (false, false);
                    self.note_problem(reading, None);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    (self.at_end, self.given_up) = (true, false);
                    self.note_problem(reading, None);
                }
                Some(Err(error)) => {
                    reading.client.context().note(&error);
                    match error.rdkafka_error_code() {
                        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                            self.stranded = true;
                            self.reached = (position::message(self.next), shared.ask());
                        }
                        _ => self.note_problem(reading, Some(describe(&error))),
                    }
                }
            }
        }
    }

    /// Goes to where fetching has come, if everything that was fetched is taken: what stands between is no message, but
    /// marks that transactions leave, and what was not committed. Returns whether that was news.
    pub(super) fn pass_over(&mut self, reading: &Reading, end: i64) -> bool {
        // what was fetched before the end was told is in the queue by now
        self.fill(reading);
        let all_taken = self.head.is_none() && self.at_end && !self.stranded;
        let is_news = all_taken && position::at(end) > self.next;
        if is_news {
            self.next = position::at(end);
        }
        is_news
    }

    /// Whether a message of another partition should wait for what may come of this one, and for how long.
    pub(super) fn holds_back(&self, message: &Message) -> Option<Duration> {
        let (skew_micros, patience) = match (self.at_end, message.is_late) {
            (false, _) => (MAX_SKEW_MICROS, PATIENCE),
            (true, true) => (MAX_SKEW_OF_DETECTION_MICROS, PATIENCE_WITH_DETECTION),
            (true, false) => return None,
        };
        let lags = self.last_time.is_none_or(|last| message.time.micros_since(last) > skew_micros);
        (lags && self.head.is_none() && !self.given_up).then_some(patience)
    }

    fn note_problem(&mut self, reading: &Reading, problem: Option<String>) {
        if !self.has_problem && problem.is_none() {
            return;
        }
        self.has_problem = problem.is_some();
        let (topic, reader) = (Arc::clone(&self.topic.topic), Some(Arc::clone(&reading.reader)));
        reading.shared.note_problem(Place { topic, partition: Some(self.entry.partition), reader }, problem);
    }

    /// To be called after each look: if the position is not in the topic, goes on where that is possible.
    pub(super) fn rescue(&mut self, reading: &Reading) -> Result<Rescue, LogError> {
        let Reading { shared, client, .. } = reading;
        let bounds = shared.lock().bounds.get(&self.entry.number).copied();
        let (reached, look) = self.reached;
        let Some(bounds) = bounds.filter(|bounds| bounds.look > look) else { return Ok(Rescue::NotNeeded) };
        let needed = position::message(self.next);
        if reached > bounds.high {
            self.doubts += 1;
            if self.doubts < CERTAIN {
                self.reached = (reached, shared.ask());
                return Ok(Rescue::NotNeeded);
            }
            shared.replace(&self.entry, bounds)?;
            return Ok(Rescue::NotNeeded);
        }
        self.doubts = 0;
        self.reached = (needed, shared.looks());
        if !self.stranded {
            return Ok(Rescue::NotNeeded);
        }
        self.unassign(client)?;
        self.start = self.start.max(bounds.low);
        let lost = u64::try_from(bounds.low.saturating_sub(needed)).unwrap_or(0);
        if lost > 0 {
            self.start = bounds.low;
            self.next = position::at(bounds.low);
        }
        self.assign(client)?;
        self.stranded = false;
        Ok(if lost > 0 { Rescue::Lost(lost) } else { Rescue::NotNeeded })
    }
}
