//! A topic as the log that this server writes itself: one envelope per message, in the form that the journal
//! stores, keyed by its cluster so that each cluster keeps its order.
//!
//! An append is answered when all in-sync replicas have its messages. Replicas that stay behind are taken out
//! of that set, down to the leader alone; so a topic whose `min.insync.replicas` is below two, or that has
//! fewer than two in sync, takes nothing unless that is allowed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::Delivery;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use watchbell_event::{Envelope, Position, Positions, Timestamp, stored};

use super::context::Context;
use super::status::BrokerState;
use super::{Topics, describe, error_of, position};
use crate::log::{AppendError, LogError, LogState, LogStatus, RecentIds};

/// The client's queue holds at least this: an append may exceed the bytes in flight if it is the only one.
const MIN_QUEUE_KBYTES: usize = 1 << 20;

/// The topic, and bounds of what waits for it.
#[derive(Clone, Debug)]
pub struct OwnTopic {
    /// Its name. [`super::KafkaConfig::topics`] has it, too, so that it is read.
    pub topic: Arc<str>,
    /// Answer also when only one replica has a message.
    pub allow_single_replica: bool,
    /// Bytes of appends that wait for their answer; beyond it they are refused.
    pub in_flight_bytes: usize,
    /// Longest message. The topic's `max.message.bytes` must allow it, too.
    pub message_bytes: usize,
    /// How long replicas may take.
    pub timeout: Duration,
}

/// A log of which one topic is written by this server. Clones are handles on the same one.
#[derive(Clone)]
pub struct KafkaLog {
    /// All topics, the own one among them.
    pub topics: Topics,
    own: OwnTopic,
    producer: FutureProducer<Context>,
    in_flight: Arc<AtomicUsize>,
    /// After the newest messages that were answered, by the topic's partition.
    answered: Arc<Mutex<BTreeMap<i32, i64>>>,
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog").field("own", &self.own).finish_non_exhaustive()
    }
}

impl KafkaLog {
    /// Opens the log; brokers that are away are waited for.
    ///
    /// # Errors
    /// If the client's settings are wrong.
    pub fn open(topics: Topics, own: OwnTopic) -> Result<Self, LogError> {
        let shared = &topics.shared;
        let mut client = shared.config.connection.client();
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "2")
            .set("message.max.bytes", own.message_bytes.saturating_add(1 << 10).to_string())
            // an append is one body, and may hold more than fits in what the client would queue by itself
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", (own.in_flight_bytes / 512).max(MIN_QUEUE_KBYTES).to_string())
            .set("message.timeout.ms", own.timeout.as_millis().to_string());
        let context = Context::new(Arc::clone(&shared.errors));
        let producer =
            client.create_with_context(context).map_err(|error| error_of("make a Kafka producer", &error))?;
        Ok(Self { topics, own, producer, in_flight: Arc::default(), answered: Arc::default() })
    }

    /// The same log, of which other topics are read.
    #[must_use]
    pub fn reading(&self, topics: Topics) -> Self {
        Self { topics, ..self.clone() }
    }

    /// The name of what an answer means.
    pub(in crate::log) fn durability(&self) -> &'static str {
        if self.own.allow_single_replica { "in-sync replicas, possibly one" } else { "in-sync replicas" }
    }

    /// As of [`crate::log::Log::append`], but that some messages may be there after an error, too; readers
    /// drop the copies that a repetition makes.
    pub(in crate::log) async fn append(&self, envelopes: &[Envelope]) -> Result<Vec<Position>, AppendError> {
        let values: Vec<Vec<u8>> = envelopes.iter().map(value).collect();
        let bytes: usize = values.iter().map(Vec::len).sum();
        if let Some(long) = values.iter().map(Vec::len).find(|bytes| *bytes > self.own.message_bytes) {
            return Err(AppendError::TooLarge { bytes: long, limit_bytes: self.own.message_bytes });
        }
        self.wait_until_known().await;
        if let Some(refusal) = self.refusal() {
            return Err(AppendError::Failed(refusal.into()));
        }
        let _room = self.enter(bytes)?;
        let sent: Result<Vec<_>, AppendError> =
            envelopes.iter().zip(&values).map(|(envelope, value)| self.send(envelope, value)).collect();
        let mut positions = Vec::with_capacity(envelopes.len());
        for delivery in sent? {
            let delivered = delivery.await.map_err(|_| AppendError::Failed("it is closed".into()))?;
            let delivery = delivered.map_err(|(error, _)| self.refused(&error, bytes))?;
            positions.push(self.note(&delivery));
        }
        Ok(positions)
    }

    fn send(
        &self,
        envelope: &Envelope,
        value: &[u8],
    ) -> Result<rdkafka::producer::future_producer::DeliveryFuture, AppendError> {
        let record = FutureRecord::to(&self.own.topic)
            .key(&*envelope.cluster)
            .payload(value)
            .timestamp(envelope.received_at.as_micros().div_euclid(1000));
        self.producer.send_result(record).map_err(|(error, _)| self.refused(&error, value.len()))
    }

    fn note(&self, delivery: &Delivery) -> Position {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let end = answered.entry(delivery.partition).or_insert(0);
        *end = (*end).max(delivery.offset + 1);
        let state = self.topics.shared.lock();
        let number = state.registry.find(&self.own.topic, delivery.partition).map_or(0, |entry| entry.number);
        Position { partition: number, offset: position::at(delivery.offset) }
    }

    fn refused(&self, error: &KafkaError, bytes: usize) -> AppendError {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => AppendError::Backpressure,
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                AppendError::TooLarge { bytes, limit_bytes: self.own.message_bytes }
            }
            _ => AppendError::Failed(describe(error).into()),
        }
    }

    /// Takes room for bytes that wait; it is given back when the guard is dropped.
    fn enter(&self, bytes: usize) -> Result<Room, AppendError> {
        let taken = self.in_flight.fetch_add(bytes, Ordering::AcqRel);
        let room = Room { in_flight: Arc::clone(&self.in_flight), bytes };
        if taken > 0 && taken.saturating_add(bytes) > self.own.in_flight_bytes {
            return Err(AppendError::Backpressure);
        }
        Ok(room)
    }

    /// At a start it takes a moment until the brokers were asked for the first time.
    async fn wait_until_known(&self) {
        let mut changed = self.topics.shared.subscribe();
        let known = async {
            while self.topics.shared.lock().brokers == BrokerState::Unknown {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(self.own.timeout, known).await;
    }

    /// Why nothing is taken at the moment, if so.
    fn refusal(&self) -> Option<String> {
        let shared = &self.topics.shared;
        if shared.is_closed() {
            return Some("it is closed".to_owned());
        }
        let state = shared.lock();
        match &state.brokers {
            BrokerState::Away { reason, .. } => Some(format!("no Kafka broker answers: {reason}")),
            BrokerState::Unknown => Some("no Kafka broker answered yet".to_owned()),
            BrokerState::Connected if self.own.allow_single_replica => None,
            BrokerState::Connected => state.too_few_replicas.get(&self.own.topic).cloned(),
        }
    }

    pub(in crate::log) fn end(&self) -> Positions {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.topics.shared.lock();
        let own = state.registry.current().filter(|entry| *entry.topic == *self.own.topic);
        let mut end = Positions::default();
        for entry in own {
            let high = state.bounds.get(&entry.number).map(|bounds| bounds.high);
            let answered = answered.get(&entry.partition).copied();
            // where it ends is not known before a broker was asked
            if let Some(next) = high.max(answered) {
                end.set_next(entry.number, position::at(next));
            }
        }
        end
    }

    /// None: they would have to be read from all partitions. So older events are looked up, and readers know
    /// the newest.
    pub(in crate::log) fn recent_ids(&self, since: Timestamp) -> RecentIds {
        let now = (self.topics.shared.config.now)();
        RecentIds { ids: Vec::new(), complete_since: Some(since.max(now)) }
    }

    pub(in crate::log) fn status(&self) -> LogStatus {
        let state = match self.refusal() {
            None => LogState::Open,
            Some(refusal) => LogState::Refusing(refusal.into()),
        };
        let oldest = Positions::default();
        LogStatus { state, bytes: 0, oldest, end: self.end(), corruptions: Vec::new() }
    }

    pub(in crate::log) async fn close(&self) {
        let (producer, timeout) = (self.producer.clone(), self.own.timeout);
        let flushed = tokio::task::spawn_blocking(move || producer.flush(timeout)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(
                reason = describe(&error),
                "not all events were written to Kafka; none was answered"
            );
        }
        self.topics.close();
    }
}

pub(super) fn value(envelope: &Envelope) -> Vec<u8> {
    let mut value = Vec::with_capacity(stored::OVERHEAD_BYTES + envelope.bytes.len());
    stored::write(envelope, &mut value);
    value
}

/// Bytes that wait.
struct Room {
    in_flight: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
