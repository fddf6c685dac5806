use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use serde::Deserialize;

/// The last thing a client said was wrong, for whoever reports that brokers are away.
#[derive(Debug, Default)]
pub(super) struct Errors {
    last: Mutex<Option<String>>,
}

impl Errors {
    /// Takes it.
    pub(super) fn take(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, reason: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

/// What a client does with its errors and its log: they are counted, and the last one is remembered. It repeats
/// them every second while brokers are away; that is said once, by `watch`.
pub(super) struct Context {
    errors: Arc<Errors>,
    /// Positions could not be shown to Kafka since somebody asked.
    commit_failed: AtomicBool,
    said: Mutex<Said>,
}

/// What a client said since somebody asked.
#[derive(Default)]
struct Said {
    changes: Vec<Change>,
    ends: Option<Ends>,
    undelivered: Option<String>,
}

/// The share of a member of a group changed.
#[derive(Debug)]
pub(super) enum Change {
    /// These partitions were added.
    Assigned(Vec<(String, i32)>),
    /// These were taken away.
    Revoked(Vec<(String, i32)>),
}

/// Up to which offset the messages of a partition were fetched, by topic and partition, where there were no more then.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<String, BTreeMap<i32, i64>>);

impl Ends {
    /// Of a partition, if its end was reached.
    pub(super) fn of(&self, topic: &str, partition: i32) -> Option<i64> {
        self.0.get(topic)?.get(&partition).copied().filter(|end| *end >= 0)
    }
}

impl Context {
    pub(super) fn new(errors: Arc<Errors>) -> Self {
        Self { errors, commit_failed: AtomicBool::new(false), said: Mutex::default() }
    }

    /// True if positions could not be shown to Kafka since this was asked last.
    pub(super) fn take_commit_failed(&self) -> bool {
        self.commit_failed.swap(false, Ordering::AcqRel)
    }

    /// How the share changed since this was asked last.
    pub(super) fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.said().changes)
    }

    /// How far partitions were fetched, if that was said since this was asked last.
    pub(super) fn take_ends(&self) -> Option<Ends> {
        self.said().ends.take()
    }

    /// Why a message was not delivered, if one was not since this was asked last.
    pub(super) fn take_undelivered(&self) -> Option<String> {
        self.said().undelivered.take()
    }

    /// Counts an error.
    pub(super) fn note(&self, error: &KafkaError) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        self.count(code);
    }

    fn count(&self, code: RDKafkaErrorCode) {
        metrics::counter!("watchbell_kafka_errors_total", "reason" => format!("{code:?}")).increment(1);
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        // that a partition was read to its end is told like an error, and is none
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        self.count(code);
        // that none is left says less than why the last one went
        if code != RDKafkaErrorCode::AllBrokersDown {
            self.errors.note(reason.to_owned());
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) => self.said().ends = Some(statistics.ends()),
            Err(error) => tracing::debug!(%error, "librdkafka's statistics cannot be read"),
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let change = match rebalance {
            Rebalance::Assign(partitions) => Change::Assigned(places(partitions)),
            Rebalance::Revoke(partitions) => Change::Revoked(places(partitions)),
            Rebalance::Error(error) => return self.note(error),
        };
        self.said().changes.push(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            self.commit_failed.store(true, Ordering::Release);
            self.note(&error);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, _)) = result else { return };
        // what a transaction that is given up had not sent yet says nothing of why it is
        let purged = [Some(RDKafkaErrorCode::PurgeQueue), Some(RDKafkaErrorCode::PurgeInflight)];
        if !purged.contains(&error.rdkafka_error_code()) {
            self.note(error);
            self.said().undelivered = Some(super::describe(error));
        }
    }
}

fn places(partitions: &TopicPartitionList) -> Vec<(String, i32)> {
    partitions.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}

/// Of librdkafka's statistics, what is needed here.
/// <https://github.com/confluentinc/librdkafka/blob/master/STATISTICS.md>
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    topics: BTreeMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
struct TopicStatistics {
    #[serde(default)]
    partitions: BTreeMap<i32, PartitionStatistics>,
}

#[derive(Deserialize)]
struct PartitionStatistics {
    eof_offset: i64,
}

impl Statistics {
    fn ends(self) -> Ends {
        let of_topic = |topic: TopicStatistics| {
            topic.partitions.into_iter().map(|(partition, found)| (partition, found.eof_offset)).collect()
        };
        Ends(self.topics.into_iter().map(|(name, topic)| (name, of_topic(topic))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_partition_is_no_error() {
        let errors = Arc::<Errors>::default();
        let context = Context::new(Arc::clone(&errors));
        for (code, expect) in
            [(RDKafkaErrorCode::PartitionEOF, None), (RDKafkaErrorCode::Resolve, Some("reason"))]
        {
            context.error(KafkaError::Global(code), "reason");
            assert_eq!(errors.take().as_deref(), expect, "{code:?}");
        }
    }

    #[test]
    fn ends_are_read_from_statistics_and_only_where_they_were_reached() {
        let context = Context::new(Arc::default());
        assert!(context.take_ends().is_none());
        context.stats_raw(
            br#"{"name":"x","topics":{"a":{"age":3,"partitions":{"0":{"eof_offset":7,"msgs":1},
                "1":{"eof_offset":-1001},"-1":{"eof_offset":-1001}}}}}"#,
        );
        let ends = context.take_ends().unwrap();
        assert_eq!([ends.of("a", 0), ends.of("a", 1), ends.of("b", 0)], [Some(7), None, None]);
        context.stats_raw(b"{");
        assert!(context.take_ends().is_none());
    }
}
