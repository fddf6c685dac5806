//! Topics that others fill, consumed in place: each partition of a topic is a partition of the log.
//!
//! ```text
//! brokers ──messages──► reader detect: decode, redact, identify, drop copies ──► records
//!         ──messages──► reader index:  the same, or what the other found     ──► records
//!    └─topics, ends───► watch: gives partitions their numbers, notes what is wrong, shows how far readers are
//! ```
//!
//! # Positions
//! They are kept with what was made of the messages, as those of a journal are; Kafka is told of them only so that
//! other tools can show them. Each reader assigns itself all partitions, there is no group that could be
//! rebalanced. A position is exact to the event within a message (see `position`). Processes that share partitions out
//! among themselves keep no state: what they pass on and how far they are is one transaction (see `share`).
//!
//! # Determinism
//! A record is a function of its message: it arrived when the message's timestamp says (but not in the future),
//! and its number within the message counts what was rejected, too. Partitions take turns by time, so that one with
//! a long backlog is not read hours ahead of another (see `reader`). Copies are dropped within a bounded window,
//! which a reader that starts fills from the messages before its position.
//!
//! # Limits
//! 64 topics, 4,095 partitions; verdicts on half a million messages (see `verdict`); the rest is in [`KafkaConfig`].

mod config;
mod context;
mod message;
mod own;
mod partition;
mod position;
mod reader;
mod recent;
mod registry;
mod replicas;
mod share;
mod state;
mod status;
mod verdict;
mod watch;

use std::path::Path;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use watchbell_event::Positions;

use super::LogError;
use crate::quarantine::Quarantine;

pub use config::{
    Connection, Contents, KafkaConfig, Sasl, SaslMechanism, Start, Tls, TopicConfig, TopicFormat,
};
pub use message::{Message, Opened, WHOLE_MESSAGE};
pub use own::{KafkaLog, OwnTopic};
pub use reader::TopicReader;
pub use share::{Share, ShareConfig, ShareMessage};
pub use status::{BrokerState, HeldPartition, KafkaStatus, PartitionStatus, Tally, TopicStatus};

use context::Context;
use registry::Entry;
use state::{Reader, Shared};

/// The client of this process. It is polled from one place at a time.
type Client = BaseConsumer<Context>;

/// Topics that are read: all that are configured, or some of them. Clones share them.
#[derive(Clone)]
pub struct Topics {
    shared: Arc<Shared>,
    /// The topics that these are.
    names: Arc<[Arc<str>]>,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Topics {
    /// Opens the topics and begins to look for them, in a thread of its own; brokers that are away are waited
    /// for. What cannot be decoded goes into the quarantine.
    ///
    /// # Errors
    /// If the file that numbers partitions cannot be read, or the client's settings are wrong.
    pub fn open(data_dir: &Path, config: KafkaConfig, quarantine: Arc<Quarantine>) -> Result<Self, LogError> {
        let (shared, wake) = Shared::open(data_dir, config, quarantine)?;
        let shared = Arc::new(shared);
        watch::start(&shared, wake)?;
        Ok(Self { shared, names: Arc::from([]) }.all())
    }

    /// Some of the topics; readers of these read no others.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(&TopicConfig) -> bool) -> Self {
        let chosen = self.topics().filter(|topic| wanted(topic));
        let chosen = chosen.map(|topic| Arc::clone(&topic.topic));
        Self { names: chosen.collect(), shared: Arc::clone(&self.shared) }
    }

    /// All topics that are configured.
    #[must_use]
    pub fn all(&self) -> Self {
        let names = self.shared.config.topics.iter().map(|topic| Arc::clone(&topic.topic)).collect();
        Self { names, shared: Arc::clone(&self.shared) }
    }

    /// Whether a topic is one of these.
    #[must_use]
    pub fn reads(&self, topic: &str) -> bool {
        self.names.iter().any(|name| **name == *topic)
    }

    /// Waits until brokers were asked for the first time, and returns the topics that do not exist. None if no broker
    /// answers for so long.
    pub async fn missing(&self, patience: std::time::Duration) -> Option<Vec<Arc<str>>> {
        let mut changed = self.shared.subscribe();
        let connected = async {
            while self.shared.lock().brokers != BrokerState::Connected {
                changed.changed().await.ok()?;
            }
            Some(())
        };
        tokio::time::timeout(patience, connected).await.ok()??;
        let state = self.shared.lock();
        let is_there = |topic: &Arc<str>| state.registry.current().any(|entry| entry.topic == **topic);
        let is_missing = |topic: &&Arc<str>| {
            let here = |(place, problem): (&state::Place, &String)| {
                place.topic == **topic && place.partition.is_none() && problem == watch::NO_SUCH_TOPIC
            };
            !is_there(topic) && state.problems.iter().any(here)
        };
        Some(self.names.iter().filter(is_missing).cloned().collect())
    }

    /// A reader that begins at `from`, and where it names no position, where the topic's configuration says.
    ///
    /// # Errors
    /// If the client cannot be made.
    pub fn reader(&self, name: &str, from: &Positions) -> Result<TopicReader, LogError> {
        let reader = Reader { at: from.clone(), topics: Arc::clone(&self.names) };
        self.shared.lock().readers.entry(name.to_owned()).or_insert(reader);
        TopicReader::new(self.clone(), name, from)
    }

    /// What this process reads as a member of a group, and passes on.
    ///
    /// # Errors
    /// If the client cannot be made.
    pub fn share(&self, config: ShareConfig) -> Result<Share, LogError> {
        Share::new(self.clone(), config)
    }

    /// What this process holds as a member of a group.
    #[must_use]
    pub fn held(&self) -> Vec<HeldPartition> {
        status::held(&self.shared)
    }

    /// Notes that a reader needs nothing before `positions` any more.
    pub fn checkpoint(&self, name: &str, positions: &Positions) {
        let reader = Reader { at: positions.clone(), topics: Arc::clone(&self.names) };
        self.shared.lock().readers.insert(name.to_owned(), reader);
    }

    /// The last checkpoint of a reader, or where it began.
    #[must_use]
    pub fn checkpointed(&self, name: &str) -> Positions {
        self.shared.lock().readers.get(name).map(|reader| reader.at.clone()).unwrap_or_default()
    }

    /// How topics and brokers are.
    #[must_use]
    pub fn status(&self) -> KafkaStatus {
        status::status(self)
    }

    /// Number of messages that a reader at `at` has yet to read, as far as is known.
    #[must_use]
    pub fn lag(&self, at: &Positions) -> u64 {
        self.status().topics.iter().map(|topic| topic.lag(at)).sum()
    }

    /// The topics, in the order of the status.
    pub fn topics(&self) -> impl Iterator<Item = &TopicConfig> {
        self.shared.config.topics.iter().filter(|topic| self.reads(&topic.topic))
    }

    /// Their partitions, as far as they are known.
    fn partitions(&self) -> Vec<Entry> {
        self.shared.partitions().into_iter().filter(|entry| self.reads(&entry.topic)).collect()
    }

    /// What a reader made of the topics that others fill since this was asked last.
    #[must_use]
    pub fn take_tallies(&self, reader: &str) -> Vec<(TopicConfig, Tally)> {
        let tallies = self.shared.lock().tallies.remove(reader).unwrap_or_default();
        let known = |(topic, tally): (Arc<str>, Tally)| Some((self.shared.topic(&topic)?.clone(), tally));
        tallies.into_iter().filter_map(known).collect()
    }

    /// Ends all readers and stops looking.
    pub fn close(&self) {
        self.shared.close();
    }
}

/// A client; it may be made while brokers are away.
fn client(shared: &Shared, partitions: usize) -> Result<Client, LogError> {
    let context = Context::new(Arc::clone(&shared.errors));
    let made = shared.config.consumer(partitions).create_with_context(context);
    made.map_err(|error| error_of("make a Kafka client", &error))
}

fn error_of(action: &'static str, error: &KafkaError) -> LogError {
    LogError::Kafka { action, reason: describe(error) }
}

/// The error in words, without the values of settings, which may be secrets.
fn describe(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => format!("{key}: {reason}"),
        KafkaError::Transaction(error) => error.string(),
        other => other.rdkafka_error_code().map_or_else(|| other.to_string(), |code| code.to_string()),
    }
}

/// Answers what waits in a client's own queue: errors, mostly.
fn serve(client: &Client) {
    const AT_ONCE: usize = 100;
    for _ in 0..AT_ONCE {
        match client.poll(std::time::Duration::ZERO) {
            None => return,
            Some(Ok(_)) => {}
            Some(Err(error)) => client.context().note(&error),
        }
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
