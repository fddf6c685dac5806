//! Looks at the topics from time to time, in a thread of its own: which partitions there are, where they begin and
//! end, whether brokers answer; and shows other tools how far readers are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::config::{Start, TopicConfig};
use super::replicas::Replicas;
use super::state::{Bounds, Place, Shared};
use super::status::BrokerState;
use super::{Client, client, describe, position, serve};
use crate::log::LogError;

/// How long brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon it is looked again for what is missing.
const SOON: Duration = Duration::from_secs(1);

/// What is wrong with a topic that does not exist.
pub(super) const NO_SUCH_TOPIC: &str = "there is no such topic";

/// Starts the thread. It ends when the topics are closed or nobody has them any more.
pub(super) fn start(shared: &Arc<Shared>, wake: Receiver<()>) -> Result<(), LogError> {
    let replicas = (!shared.config.replicated.is_empty()).then(|| Replicas::new(shared)).transpose()?;
    let watch = Watch { client: client(shared, 1)?, replicas, committed: BTreeMap::new() };
    let shared = Arc::downgrade(shared);
    let thread = std::thread::Builder::new().name("kafka-watch".to_owned());
    let started = thread.spawn(move || watch.run(&shared, &wake));
    started.map(drop).map_err(|source| LogError::Kafka {
        action: "start the thread that looks at topics",
        reason: source.to_string(),
    })
}

struct Watch {
    client: Client,
    replicas: Option<Replicas>,
    /// The offsets that Kafka was told last, by log partition.
    committed: BTreeMap<u32, i64>,
}

/// Why a look was given up.
enum Trouble {
    /// No broker answers.
    Away(KafkaError),
    /// It concerns one topic or partition only.
    Here(String),
}

impl Watch {
    fn run(mut self, shared: &Weak<Shared>, wake: &Receiver<()>) {
        loop {
            let Some(shared) = shared.upgrade() else { return };
            if shared.is_closed() {
                return;
            }
            let all_well = self.look(&shared);
            let interval = shared.config.watch_interval;
            let pause = if all_well { interval } else { interval.min(SOON) };
            drop(shared);
            if wake.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Looks at everything once; false if it should be done again soon.
    fn look(&mut self, shared: &Shared) -> bool {
        shared.looks.fetch_add(1, Ordering::AcqRel);
        serve(&self.client);
        let mut all_well = true;
        let mut silent = BTreeSet::new();
        for topic in &shared.config.topics {
            match self.look_at(shared, topic, &mut silent) {
                Ok(()) => shared.note_problem(place(topic, None), None),
                Err(Trouble::Here(problem)) => {
                    all_well = false;
                    shared.note_problem(place(topic, None), Some(problem));
                }
                Err(Trouble::Away(error)) => {
                    serve(&self.client);
                    note_away(shared, &error);
                    return false;
                }
            }
        }
        note_connected(shared);
        shared.announce();
        self.commit(shared);
        all_well
    }

    /// Finds new partitions of a topic and where all of them begin and end. Leaders in `silent` did not answer during
    /// this look, and are not waited for again.
    fn look_at(
        &self,
        shared: &Shared,
        topic: &TopicConfig,
        silent: &mut BTreeSet<i32>,
    ) -> Result<(), Trouble> {
        let look = shared.looks.load(Ordering::Acquire);
        for (partition, leader) in self.partitions(shared, topic)? {
            if silent.contains(&leader) {
                let problem = "its leader did not answer".to_owned();
                shared.note_problem(place(topic, Some(partition)), Some(problem));
                continue;
            }
            let bounds = self.client.fetch_watermarks(&topic.topic, partition, PATIENCE);
            let (low, high) = match bounds {
                Ok(bounds) => bounds,
                Err(error) => {
                    // its leader may be away while others are not
                    if leader < 0 || is_silence(&error) {
                        silent.insert(leader);
                    }
                    shared.note_problem(place(topic, Some(partition)), Some(describe(&error)));
                    continue;
                }
            };
            shared.note_problem(place(topic, Some(partition)), None);
            let bounds = Bounds { low, high, look };
            let number = self.number(shared, topic, partition, bounds)?;
            shared.lock().bounds.insert(number, bounds);
        }
        Ok(())
    }

    /// The partitions that a topic has, and their leaders.
    fn partitions(&self, shared: &Shared, topic: &TopicConfig) -> Result<Vec<(i32, i32)>, Trouble> {
        let metadata = self.client.fetch_metadata(Some(&topic.topic), PATIENCE).map_err(Trouble::Away)?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == &*topic.topic) else {
            return Err(Trouble::Here(NO_SUCH_TOPIC.to_owned()));
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                return Err(Trouble::Here(NO_SUCH_TOPIC.to_owned()));
            }
            Some(code) => return Err(Trouble::Here(code.to_string())),
        }
        if let Some(replicas) =
            self.replicas.as_ref().filter(|_| shared.config.replicated.contains(&topic.topic))
        {
            note_replicas(shared, &topic.topic, replicas.too_few(found));
        }
        let found = found.partitions().iter();
        let mut partitions: Vec<_> = found.map(|partition| (partition.id(), partition.leader())).collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// The number of a partition, which is given one if it is new.
    fn number(
        &self,
        shared: &Shared,
        topic: &TopicConfig,
        partition: i32,
        bounds: Bounds,
    ) -> Result<u32, Trouble> {
        let known = {
            let state = shared.lock();
            if let Some(entry) = state.registry.find(&topic.topic, partition) {
                return Ok(entry.number);
            }
            state.registry.knows(&topic.topic)
        };
        // partitions that a topic gets later are new: nothing in them is to be passed over
        let start = if known { Start::Earliest } else { topic.start };
        let ends = (bounds.low, bounds.high);
        let first = first(&self.client, topic, partition, start, ends).map_err(|error| {
            Trouble::Here(format!("where reading begins is not known: {}", describe(&error)))
        })?;
        let added = shared.lock().registry.add(&topic.topic, partition, first);
        let entry = added.map_err(|error| Trouble::Here(error.to_string()))?;
        tracing::info!(
            topic = &*topic.topic,
            partition,
            log_partition = entry.number,
            first,
            "reading a new partition"
        );
        Ok(entry.number)
    }

    /// Tells Kafka how far the slowest reader is, for other tools. Nothing depends on it, so nobody waits for the
    /// answer; a failure is noticed by a later look.
    fn commit(&mut self, shared: &Shared) {
        if self.client.context().take_commit_failed() {
            self.committed.clear();
        }
        let mut offsets = TopicPartitionList::new();
        let mut changed = BTreeMap::new();
        let readers: Vec<_> = shared.lock().readers.values().cloned().collect();
        for entry in shared.partitions() {
            let of_topic =
                readers.iter().filter(|reader| reader.topics.iter().any(|topic| **topic == *entry.topic));
            let Some(slowest) = of_topic.map(|reader| reader.at.next(entry.number)).min() else { continue };
            let offset = position::message(slowest).max(entry.first);
            if self.committed.get(&entry.number) != Some(&offset)
                && offsets.add_partition_offset(&entry.topic, entry.partition, Offset::Offset(offset)).is_ok()
            {
                changed.insert(entry.number, offset);
            }
        }
        if changed.is_empty() {
            return;
        }
        match self.client.commit(&offsets, CommitMode::Async) {
            Ok(()) => self.committed.extend(changed),
            Err(error) => {
                self.client.context().note(&error);
                tracing::debug!(reason = describe(&error), "failed to show positions to Kafka");
            }
        }
    }
}

/// The offset where reading of a partition with these ends begins.
pub(super) fn first(
    client: &Client,
    topic: &TopicConfig,
    partition: i32,
    start: Start,
    (low, high): (i64, i64),
) -> KafkaResult<i64> {
    let time = match start {
        Start::Earliest => return Ok(low),
        Start::Latest => return Ok(high),
        Start::At(time) => time,
    };
    let mut asked = TopicPartitionList::new();
    // a message's time has milliseconds
    let millis = time.as_micros().div_euclid(1000);
    asked.add_partition_offset(&topic.topic, partition, Offset::Offset(millis))?;
    let found = client.offsets_for_times(asked, PATIENCE)?;
    let found = found.find_partition(&topic.topic, partition);
    match found.map(|found| found.error().map(|()| found.offset())).transpose()? {
        Some(Offset::Offset(offset)) => Ok(offset),
        _ => Ok(high),
    }
}

/// Whether a broker did not answer, rather than refuse.
fn is_silence(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
        )
    )
}

fn place(topic: &TopicConfig, partition: Option<i32>) -> Place {
    Place { topic: Arc::clone(&topic.topic), partition, reader: None }
}

fn note_replicas(shared: &Shared, topic: &Arc<str>, too_few: Option<String>) {
    let mut state = shared.lock();
    let before = match &too_few {
        Some(reason) => state.too_few_replicas.insert(Arc::clone(topic), reason.clone()),
        None => state.too_few_replicas.remove(topic),
    };
    match too_few {
        Some(reason) if before.as_ref() != Some(&reason) => {
            tracing::error!(topic = &**topic, reason, "nothing is written to a topic of Kafka");
        }
        None if before.is_some() => tracing::info!(topic = &**topic, "enough replicas are in sync"),
        _ => {}
    }
}

fn note_connected(shared: &Shared) {
    metrics::gauge!("watchbell_kafka_connected").set(1.0);
    let before = std::mem::replace(&mut shared.lock().brokers, BrokerState::Connected);
    if let BrokerState::Away { since, .. } = before {
        let away_seconds = (shared.config.now)().micros_since(since) / 1_000_000;
        tracing::info!(away_seconds, "Kafka answers again; reading goes on");
    }
}

fn note_away(shared: &Shared, error: &KafkaError) {
    metrics::gauge!("watchbell_kafka_connected").set(0.0);
    let said = shared.errors.take();
    let mut state = shared.lock();
    let reason = said.unwrap_or_else(|| describe(error));
    if let BrokerState::Away { reason: before, .. } = &mut state.brokers {
        *before = reason;
        return;
    }
    tracing::warn!(
        brokers = shared.config.connection.brokers,
        reason,
        "no Kafka broker answers; nothing is lost, reading goes on when one does"
    );
    state.brokers = BrokerState::Away { since: (shared.config.now)(), reason };
}
