use serde::Serialize;
use watchbell_event::Positions;

use super::config::Contents;
use super::state::Shared;
use super::{Topics, position};

/// How topics and brokers are.
#[derive(Clone, Debug, Serialize)]
pub struct KafkaStatus {
    /// Whether brokers answer.
    pub brokers: BrokerState,
    /// The configured topics.
    pub topics: Vec<TopicStatus>,
}

/// Whether brokers answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BrokerState {
    /// None was asked yet.
    Unknown,
    /// One answered when it was asked last.
    Connected,
    /// None did. They are waited for.
    Away {
        /// Since when.
        since: watchbell_event::Timestamp,
        /// What was said last.
        reason: String,
    },
}

/// One topic.
#[derive(Clone, Debug, Serialize)]
pub struct TopicStatus {
    /// Its name.
    pub topic: String,
    /// What its messages hold; none of the own log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<&'static str>,
    /// The cluster its events belong to; none of the own log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Why it is not read, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its partitions, as far as they are known.
    pub partitions: Vec<PartitionStatus>,
}

/// One partition of a topic.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionStatus {
    /// Its number within the topic.
    pub partition: i32,
    /// The log partition that stands for it.
    pub log_partition: u32,
    /// Offset of the oldest message, if known.
    pub oldest: Option<i64>,
    /// Offset after the newest message, if known.
    pub end: Option<i64>,
    /// Why it is not read, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    #[serde(skip)]
    first: i64,
}

/// What a reader made of the messages of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages.
    pub messages: u64,
    /// Their values.
    pub bytes: u64,
    /// Events and lines in them that were handed out.
    pub events: u64,
    /// Copies, which were not.
    pub duplicates: u64,
    /// What could not be read.
    pub rejected: u64,
    /// Messages that another reader had decoded.
    pub reused: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.events += other.events;
        self.duplicates += other.duplicates;
        self.rejected += other.rejected;
        self.reused += other.reused;
    }
}

impl Tally {
    /// Counts it in the metrics.
    pub(super) fn count(&self, reader: &str, topic: &str) {
        let labels = [("reader", reader.to_owned()), ("topic", topic.to_owned())];
        metrics::counter!("watchbell_kafka_messages_total", &labels).increment(self.messages);
        metrics::counter!("watchbell_kafka_events_total", &labels).increment(self.events);
        metrics::counter!("watchbell_kafka_duplicate_events_total", &labels).increment(self.duplicates);
        metrics::counter!("watchbell_kafka_rejected_events_total", &labels).increment(self.rejected);
        metrics::counter!("watchbell_kafka_reused_messages_total", &labels).increment(self.reused);
    }
}

/// Says that messages are gone which nobody has read.
pub(super) fn report_lost(reader: &str, topic: &str, partition: i32, messages: u64, goes_on_at: i64) {
    let labels = [("reader", reader.to_owned()), ("topic", topic.to_owned())];
    metrics::counter!("watchbell_kafka_lost_messages_total", &labels).increment(messages);
    tracing::error!(
        reader,
        topic,
        partition,
        messages,
        goes_on_at,
        "messages were deleted from the topic before they were read: its retention is shorter than this server \
         was away or behind"
    );
}

impl TopicStatus {
    /// Messages that a reader at `at` has yet to read, as far as is known.
    #[must_use]
    pub fn lag(&self, at: &Positions) -> u64 {
        self.partitions.iter().map(|partition| partition.lag(at)).sum()
    }
}

impl PartitionStatus {
    /// Offset of the message that a reader at `at` needs next.
    #[must_use]
    pub fn offset(&self, at: &Positions) -> i64 {
        position::message(at.next(self.log_partition)).max(self.first)
    }

    /// Messages that a reader at `at` has yet to read, as far as is known.
    #[must_use]
    pub fn lag(&self, at: &Positions) -> u64 {
        let lag = self.end.map_or(0, |end| end.saturating_sub(self.offset(at)));
        u64::try_from(lag).unwrap_or(0)
    }
}

/// A partition that this process holds as a member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldPartition {
    /// The topic.
    pub topic: String,
    /// Its number within the topic.
    pub partition: i32,
    /// Offset of the message that is needed next, if known.
    pub offset: Option<i64>,
    /// Messages that are yet to be read, as far as is known.
    pub lag: u64,
}

pub(super) fn held(shared: &Shared) -> Vec<HeldPartition> {
    let state = shared.lock();
    let held = state.held.iter().map(|((topic, partition), offset)| {
        let number = state.registry.find(topic, *partition).map(|entry| entry.number);
        let end = number.and_then(|number| state.bounds.get(&number)).map(|bounds| bounds.high);
        let lag = end.zip(*offset).map_or(0, |(end, offset)| end.saturating_sub(offset));
        HeldPartition {
            topic: topic.to_string(),
            partition: *partition,
            offset: *offset,
            lag: u64::try_from(lag).unwrap_or(0),
        }
    });
    held.collect()
}

pub(super) fn status(topics: &Topics) -> KafkaStatus {
    let state = topics.shared.lock();
    let topics = topics.topics().map(|topic| {
        let problem = |partition| {
            let mut problems = state.problems.iter();
            let found = problems.find(|(at, _)| at.topic == topic.topic && at.partition == partition);
            found.map(|(_, problem)| problem.clone())
        };
        let entries = state.registry.current().filter(|entry| entry.topic == *topic.topic);
        let mut partitions: Vec<PartitionStatus> = entries
            .map(|entry| {
                let bounds = state.bounds.get(&entry.number);
                PartitionStatus {
                    partition: entry.partition,
                    log_partition: entry.number,
                    oldest: bounds.map(|bounds| bounds.low),
                    end: bounds.map(|bounds| bounds.high),
                    problem: problem(Some(entry.partition)),
                    first: entry.first,
                }
            })
            .collect();
        partitions.sort_by_key(|partition| partition.partition);
        let (format, cluster) = match &topic.contents {
            Contents::Events { format, cluster } => (Some(format.name()), Some(cluster.to_string())),
            Contents::Envelopes | Contents::Matches => (None, None),
        };
        TopicStatus { topic: topic.topic.to_string(), format, cluster, problem: problem(None), partitions }
    });
    KafkaStatus { topics: topics.collect(), brokers: state.brokers.clone() }
}
