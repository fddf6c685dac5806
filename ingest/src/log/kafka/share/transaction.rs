//! The producer of a share, and its transactions.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use watchbell_event::Timestamp;

use super::super::context::Context;
use super::super::own::value;
use super::super::state::{Held, Shared};
use super::super::{describe, error_of};
use super::ShareConfig;
use super::pending::Pending;
use crate::log::LogError;

/// Brokers end a transaction that was left open after so long. Until then it holds back whoever reads the matches.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long one step may take before it is tried again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a step is tried.
const TRIES: u32 = 3;
/// The client's queue holds at least this: the events of one message may exceed what a transaction is to hold.
const QUEUE_KBYTES: usize = 1 << 20;

/// A header of what was passed on so long after it arrived.
const LATE: &str = "watchbell-late";
const LATE_MICROS: i64 = 20_000_000;

/// Writes transactions, one at a time.
pub(super) struct Transactions {
    config: ShareConfig,
    /// None before the first one, and after one of which it is not known how it ended: another producer of the same
    /// name begins when that is decided.
    producer: Option<ThreadedProducer<Context>>,
}

impl Transactions {
    pub(super) fn new(config: ShareConfig) -> Self {
        Self { config, producer: None }
    }

    /// Ends what was left open under this name before, here or by a process that was killed.
    pub(super) fn open(&mut self, shared: &Shared) -> Result<(), LogError> {
        if self.producer.is_some() {
            return Ok(());
        }
        let mut client = shared.config.connection.client();
        client
            .set("transactional.id", &self.config.transactional_id)
            .set("transaction.timeout.ms", TIMEOUT.as_millis().to_string())
            .set("acks", "all")
            .set("compression.type", "lz4")
            .set("linger.ms", "2")
            .set("message.max.bytes", self.config.message_bytes.saturating_add(1 << 10).to_string())
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES.to_string());
        let failed = |error: KafkaError| error_of("begin to write transactions", &error);
        let context = Context::new(Arc::clone(&shared.errors));
        let producer: ThreadedProducer<Context> = client.create_with_context(context).map_err(failed)?;
        producer.init_transactions(PATIENCE).map_err(failed)?;
        self.producer = Some(producer);
        Ok(())
    }

    /// Writes what is pending, into the partitions that `target` says, and how far that is; returns the number of events.
    ///
    /// # Errors
    /// If it is not valid. It may become so if it is not known how it ended, which is decided at the next
    /// [`Self::open`].
    pub(super) fn commit(
        &mut self,
        shared: &Shared,
        pending: &Pending,
        target: &dyn Fn(&Held) -> i32,
        member: &ConsumerGroupMetadata,
    ) -> Result<u64, LogError> {
        self.open(shared)?;
        let Some(producer) = self.producer.take() else { return Ok(0) };
        let written = self.write(&producer, (pending, target), member, (shared.config.now)());
        let error = match written {
            Ok(events) => {
                self.producer = Some(producer);
                return Ok(events);
            }
            Err(error) => error,
        };
        let undelivered = producer.context().take_undelivered();
        producer.context().note(&error);
        if !is_fatal(&error) && repeat(|| producer.abort_transaction(PATIENCE)).is_ok() {
            self.producer = Some(producer);
        }
        Err(LogError::Kafka {
            action: "pass events on",
            reason: undelivered.unwrap_or_else(|| describe(&error)),
        })
    }

    fn write(
        &self,
        producer: &ThreadedProducer<Context>,
        (pending, target): (&Pending, &dyn Fn(&Held) -> i32),
        member: &ConsumerGroupMetadata,
        now: Timestamp,
    ) -> KafkaResult<u64> {
        producer.begin_transaction()?;
        let mut events = 0;
        for (place, envelope) in pending.events() {
            let value = value(envelope);
            let mut record = BaseRecord::to(&self.config.target)
                .partition(target(place))
                .key(&*envelope.cluster)
                .payload(&value)
                .timestamp(envelope.received_at.as_micros().div_euclid(1000));
            if now.micros_since(envelope.received_at) > LATE_MICROS {
                record = record.headers(OwnedHeaders::new().insert(Header { key: LATE, value: Some("") }));
            }
            send(producer, record)?;
            events += 1;
        }
        let mut offsets = TopicPartitionList::new();
        for ((topic, partition), next) in pending.offsets() {
            offsets.add_partition_offset(topic, *partition, Offset::Offset(next))?;
        }
        repeat(|| producer.send_offsets_to_transaction(&offsets, member, PATIENCE))?;
        repeat(|| producer.commit_transaction(PATIENCE))?;
        Ok(events)
    }
}

/// Whether who passed a message on was behind.
pub(in super::super) fn is_late(message: &BorrowedMessage<'_>) -> bool {
    message.headers().is_some_and(|headers| headers.iter().any(|header| header.key == LATE))
}

/// Waits for room in the client's queue.
fn send(producer: &ThreadedProducer<Context>, record: BaseRecord<'_, str, Vec<u8>>) -> KafkaResult<()> {
    match producer.send(record) {
        Err((error, again)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
            producer.flush(PATIENCE)?;
            producer.send(again).map_err(|(error, _)| error)
        }
        sent => sent.map_err(|(error, _)| error),
    }
}

/// Tries a step again that may be.
fn repeat(step: impl Fn() -> KafkaResult<()>) -> KafkaResult<()> {
    let mut tries = 1;
    loop {
        match step() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

/// The producer is of no use any more.
fn is_fatal(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.is_fatal())
}
