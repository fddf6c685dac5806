use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;

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
}

impl Context {
    pub(super) fn new(errors: Arc<Errors>) -> Self {
        Self { errors, commit_failed: AtomicBool::new(false) }
    }

    /// True if positions could not be shown to Kafka since this was asked last.
    pub(super) fn take_commit_failed(&self) -> bool {
        self.commit_failed.swap(false, Ordering::AcqRel)
    }

    /// Counts an error.
    pub(super) fn note(&self, error: &KafkaError) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        self.count(code);
    }

    fn count(&self, code: RDKafkaErrorCode) {
        metrics::counter!("watchbell_kafka_errors_total", "reason" => format!("{code:?}")).increment(1);
    }
}

impl ClientContext for Context {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        self.count(code);
        // that none is left says less than why the last one went
        if code != RDKafkaErrorCode::AllBrokersDown {
            self.errors.note(reason.to_owned());
        }
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            self.commit_failed.store(true, Ordering::Release);
            self.note(&error);
        }
    }
}
