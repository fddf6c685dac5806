//! What one member of a consumer group reads of the topics, and what it passes on, both in one transaction.
//!
//! ```text
//! topics ──► members of a group, each with some of the partitions ──chosen events──► topic of matches
//!                       └──── how far they are, in the same transaction ────► group
//! ```
//!
//! # Exactly once
//! A member keeps nothing that must survive. A transaction holds the chosen events of whole messages and the offsets
//! behind these messages; both become valid together, or neither. After a transaction that was not committed, and
//! wherever a partition goes to another member, reading goes on where the group's offsets say. Offsets are sent under
//! the member's name and generation as of the last change of its share, so that one who was taken for dead and goes on
//! is refused. A member that starts ends the transaction that it left open when it was killed.
//!
//! # Order and time
//! Events of a partition stay in their order. The partitions of all topics are numbered one after the other, and each goes
//! to the partition of matches of that number, modulo how many there are: two that shared one would not be read by time
//! where one of them lags.
//! Of each cluster in each partition, a transaction also holds the newest event, chosen or not: whoever reads the
//! matches must know how time passes. So there is a transaction at least once in [`QUIET_WAIT`] while messages come.

mod pending;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use watchbell_event::Envelope;

use super::config::{Start, TopicConfig};
use super::context::{Change, Context};
use super::message::Message;
use super::state::{Held, Shared};
use super::status::{Tally, report_lost};
use super::{Topics, describe, error_of, watch};
use crate::log::LogError;

use pending::Pending;
use transaction::Transactions;

pub(super) use transaction::is_late;

/// How others call the reader that shares partitions out.
const READER: &str = "detect";
/// How long brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for messages at most.
const TICK: Duration = Duration::from_millis(250);
/// How long a chosen event waits for others.
const MATCH_WAIT: Duration = Duration::from_millis(50);
/// How long what was read waits if nothing of it was chosen.
const QUIET_WAIT: Duration = Duration::from_secs(1);
/// More messages than are ever fetched ahead.
const MOST_FETCHED: usize = 1_000_000;
/// A member that is not heard of for so long is taken for dead.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How a share is read, and where goes what is chosen of it.
#[derive(Clone, Debug)]
pub struct ShareConfig {
    /// The consumer group.
    pub group: String,
    /// The name of this member's transactions, which no other member has and which stays over restarts.
    pub transactional_id: String,
    /// Where chosen events go: one of [`super::KafkaConfig::topics`], which is not read here.
    pub target: Arc<str>,
    /// Pass on also when only one replica would have an event.
    pub allow_single_replica: bool,
    /// Longest message that is written.
    pub message_bytes: usize,
}

/// A message of the share.
#[derive(Debug)]
pub struct ShareMessage {
    /// What it holds. What cannot be decoded is counted only: whoever indexes keeps it.
    pub events: Vec<Envelope>,
    place: Held,
    offset: i64,
}

/// A member of a group.
pub struct Share {
    topics: Topics,
    config: ShareConfig,
    consumer: BaseConsumer<Context>,
    transactions: Transactions,
    /// What reading begins with once it is known.
    is_subscribed: bool,
    /// The partitions of this member, with the offset that is needed next once that is known.
    held: BTreeMap<Held, Option<i64>>,
    /// Who this member is, since its share changed last.
    member: Option<ConsumerGroupMetadata>,
    pending: Pending,
    /// Something was read that was not passed on, and must be read again.
    must_go_back: bool,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Share")
            .field("config", &self.config)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Share {
    pub(super) fn new(topics: Topics, config: ShareConfig) -> Result<Self, LogError> {
        let shared = &topics.shared;
        let context = Context::new(Arc::clone(&shared.errors));
        let mut client = shared.config.consumer(1);
        client
            .set("group.id", &config.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION_TIMEOUT.as_millis().to_string())
            .set("heartbeat.interval.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "false")
            // what retention took is noticed by the offsets of what comes
            .set("auto.offset.reset", "earliest");
        let consumer =
            client.create_with_context(context).map_err(|error| error_of("make a Kafka client", &error))?;
        Ok(Self {
            transactions: Transactions::new(config.clone()),
            topics,
            config,
            consumer,
            is_subscribed: false,
            held: BTreeMap::new(),
            member: None,
            pending: Pending::default(),
            must_go_back: false,
        })
    }

    /// Waits for a message, but no longer than until something is due to be passed on.
    ///
    /// # Errors
    /// If it is closed, or what reading begins with is not known at the moment. It may be tried again.
    pub fn poll(&mut self) -> Result<Option<ShareMessage>, LogError> {
        if self.shared().is_closed() {
            return Err(LogError::Closed);
        }
        self.subscribe()?;
        self.go_back()?;
        let message = match self.consumer.poll(self.pending.wait(TICK)) {
            None => None,
            Some(Ok(message)) => {
                let place: Held = (message.topic().into(), message.partition());
                let kept_bytes = self.shared().quarantine.entry_bytes();
                Some((place, Message::new(&message, &self.shared().config, kept_bytes)))
            }
            Some(Err(error)) => {
                self.consumer.context().note(&error);
                tracing::debug!(
                    reason = describe(&error),
                    "failed to read a share of the topics; trying again"
                );
                None
            }
        };
        self.follow();
        Ok(message.and_then(|(place, message)| self.open(place, &message)))
    }

    /// Takes a message as read, and the events of it that are chosen, each with its number within the message.
    pub fn take(&mut self, message: ShareMessage, chosen: &[usize]) {
        let ShareMessage { events, place, offset } = message;
        self.pending.take(place, offset, events, chosen);
    }

    /// Whether it is time to pass on what was taken.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.pending.is_due(Instant::now())
    }

    /// Passes on what was chosen, and notes in the group what was read. Returns how many events were passed on.
    ///
    /// # Errors
    /// If that failed; then all of it is read again.
    pub fn pass_on(&mut self) -> Result<u64, LogError> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(0);
        }
        let passed = self.transact(&pending);
        match &passed {
            Ok(events) => metrics::counter!("watchbell_detect_forwarded_events_total").increment(*events),
            Err(_) => {
                self.must_go_back = true;
                metrics::counter!("watchbell_kafka_aborted_transactions_total").increment(1);
            }
        }
        passed
    }

    fn transact(&mut self, pending: &Pending) -> Result<u64, LogError> {
        let shared = Arc::clone(&self.topics.shared);
        if let Some(reason) = self.refusal() {
            return Err(failed("pass events on", reason));
        }
        let partitions =
            shared.partitions().iter().filter(|entry| entry.topic == *self.config.target).count();
        let partitions = i32::try_from(partitions).unwrap_or(0);
        let Some(member) = self.member.as_ref().filter(|_| partitions > 0) else {
            return Err(failed("pass events on", format!("{} is not known yet", self.config.target)));
        };
        let places = self.places();
        let target =
            |place: &Held| places.get(place).map_or(place.1, |number| *number).rem_euclid(partitions);
        self.transactions.commit(&shared, pending, &target, member)
    }

    /// The partitions of all topics, numbered one after the other in an order that all members have.
    fn places(&self) -> BTreeMap<Held, i32> {
        let mut places: Vec<Held> =
            self.topics.partitions().into_iter().map(|entry| (entry.topic.into(), entry.partition)).collect();
        places.sort_unstable();
        places.into_iter().zip(0..).collect()
    }

    /// Why nothing is to be written, if so.
    fn refusal(&self) -> Option<String> {
        let state = self.shared().lock();
        state.too_few_replicas.get(&self.config.target).filter(|_| !self.config.allow_single_replica).cloned()
    }

    fn shared(&self) -> &Shared {
        &self.topics.shared
    }

    /// Joins the group, once the transaction that was left open when this member was killed has ended and the group knows
    /// where to begin.
    fn subscribe(&mut self) -> Result<(), LogError> {
        if self.is_subscribed {
            return Ok(());
        }
        self.transactions.open(&self.topics.shared)?;
        for topic in self.topics.topics().filter(|topic| topic.start != Start::Earliest) {
            self.begin(topic)?;
        }
        let names: Vec<&str> = self.topics.topics().map(|topic| &*topic.topic).collect();
        self.consumer.subscribe(&names).map_err(|error| error_of("join the group", &error))?;
        self.is_subscribed = true;
        Ok(())
    }

    /// Tells the group where a topic begins that is not read from its oldest message, unless it knows. Partitions that
    /// the topic gets later are read from theirs.
    fn begin(&self, topic: &TopicConfig) -> Result<(), LogError> {
        let failed = |error: KafkaError| error_of("find where a topic begins", &error);
        let name = &*topic.topic;
        let metadata = self.consumer.fetch_metadata(Some(name), PATIENCE).map_err(failed)?;
        let mut asked = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|found| found.partitions()) {
            asked.add_partition(name, partition.id());
        }
        let known = self.consumer.committed_offsets(asked, PATIENCE).map_err(failed)?;
        if known.elements().iter().any(|element| offset_of(element.offset()).is_some()) {
            return Ok(());
        }
        let mut begins = TopicPartitionList::new();
        for element in known.elements() {
            let partition = element.partition();
            let (low, high) = self.consumer.fetch_watermarks(name, partition, PATIENCE).map_err(failed)?;
            let first =
                watch::first(&self.consumer, topic, partition, topic.start, (low, high)).map_err(failed)?;
            begins.add_partition_offset(name, partition, Offset::Offset(first)).map_err(failed)?;
        }
        self.consumer.commit(&begins, CommitMode::Sync).map_err(failed)
    }

    /// Reads again what was not passed on.
    fn go_back(&mut self) -> Result<(), LogError> {
        if !self.must_go_back {
            return Ok(());
        }
        self.transactions.open(&self.topics.shared)?;
        // what was fetched is fetched again, and what was taken away must be known
        let mut fetched = (0..MOST_FETCHED).map(|_| self.consumer.poll(Duration::ZERO));
        while fetched.next().is_some_and(|message| message.is_some()) {}
        self.follow();
        let failed = |error: KafkaError| error_of("go back to where the group is", &error);
        let committed = self.committed(self.held.keys())?;
        for (place @ (topic, partition), next) in &mut self.held {
            let offset = match committed.get(place) {
                Some(offset) => Offset::Offset(*offset),
                None => Offset::Beginning,
            };
            self.consumer.seek(topic, *partition, offset, PATIENCE).map_err(failed)?;
            *next = committed.get(place).copied();
        }
        self.must_go_back = false;
        Ok(())
    }

    /// How far the group is with these partitions, where it has begun. Transactions that are not done are waited for.
    fn committed<'a>(&self, places: impl Iterator<Item = &'a Held>) -> Result<BTreeMap<Held, i64>, LogError> {
        let mut asked = TopicPartitionList::new();
        for (topic, partition) in places {
            asked.add_partition(topic, *partition);
        }
        if asked.count() == 0 {
            return Ok(BTreeMap::new());
        }
        let found = self.consumer.committed_offsets(asked, PATIENCE);
        let found = found.map_err(|error| error_of("ask how far the group is", &error))?;
        let known = found.elements();
        let known = known.iter().filter_map(|element| {
            Some(((element.topic().into(), element.partition()), offset_of(element.offset())?))
        });
        Ok(known.collect())
    }

    /// Takes up changes of the share.
    fn follow(&mut self) {
        let changes = self.consumer.context().take_changes();
        if changes.is_empty() {
            return;
        }
        for change in changes {
            metrics::counter!("watchbell_kafka_rebalances_total").increment(1);
            match change {
                Change::Assigned(places) => {
                    tracing::info!(partitions = ?places, "partitions were added to the share of this process");
                    let places =
                        places.into_iter().map(|(topic, partition)| ((topic.into(), partition), None));
                    self.held.extend(places);
                }
                Change::Revoked(places) => {
                    tracing::info!(partitions = ?places, "partitions were taken from the share of this process");
                    for (topic, partition) in places {
                        let place = (topic.into(), partition);
                        self.held.remove(&place);
                        self.pending.forget(&place);
                    }
                }
            }
        }
        self.member = self.consumer.group_metadata();
        // without it, only a loss would go unnoticed
        let new = self.held.iter().filter(|(_, next)| next.is_none()).map(|(place, _)| place);
        let committed = self.committed(new).unwrap_or_default();
        for (place, offset) in committed {
            self.held.insert(place, Some(offset));
        }
        self.publish();
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
    fn publish(&self) {
        metrics::gauge!("watchbell_kafka_partitions_held").set(self.held.len() as f64);
        self.shared().lock().held.clone_from(&self.held);
    }

    /// Decodes a message, unless its partition is another member's by now.
    fn open(&mut self, place: Held, message: &Message) -> Option<ShareMessage> {
        let topic = self.shared().topic(&place.0)?.clone();
        let next = *self.held.get(&place)?;
        if let Some(expected) = next.filter(|expected| *expected != message.offset) {
            self.explain_gap(&place, expected, message.offset);
        }
        let next = Some(message.offset + 1);
        self.held.insert(place.clone(), next);
        if let Some(shown) = self.shared().lock().held.get_mut(&place) {
            *shown = next;
        }
        let opened = message.open(&topic, place.1, &self.shared().config);
        let tally = Tally {
            messages: 1,
            bytes: message.bytes as u64,
            events: opened.events.len() as u64,
            duplicates: 0,
            reused: 0,
            rejected: opened.rejected.iter().filter(|rejected| !rejected.repaired).count() as u64,
        };
        tally.count(READER, &topic.topic);
        let events = opened.events.into_iter().map(|(_, envelope)| envelope).collect();
        Some(ShareMessage { events, place, offset: message.offset })
    }

    /// Offsets are left out where transactions leave marks, and where messages were deleted before they were read. A
    /// topic that was made anew begins again.
    fn explain_gap(&self, (topic, partition): &Held, expected: i64, found: i64) {
        if found < expected {
            tracing::error!(
                topic = &**topic,
                partition,
                expected,
                found,
                "the partition begins anew: the topic was deleted and made anew, or its end was lost with a broker"
            );
            return;
        }
        let low = self.consumer.fetch_watermarks(topic, *partition, PATIENCE).map(|(low, _)| low);
        let lost = low.unwrap_or(expected).min(found).saturating_sub(expected);
        if let Some(lost) = u64::try_from(lost).ok().filter(|lost| *lost > 0) {
            report_lost(READER, topic, *partition, lost, found);
        }
    }
}

fn offset_of(offset: Offset) -> Option<i64> {
    match offset {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

fn failed(action: &'static str, reason: String) -> LogError {
    LogError::Kafka { action, reason }
}
