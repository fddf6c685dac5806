//! Topics of a cluster that librdkafka plays.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use tempfile::TempDir;
use watchbell_event::{Positions, Record, Timestamp};

use super::*;
use crate::decode::DecodeLimits;
use crate::decode::logs::LogLimits;
use crate::log::Batch;
use crate::quarantine::QuarantineConfig;
use crate::redact::Redactor;

/// How long what must come is waited for; machines that test may be slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The time at which tests take place.
pub(super) fn now() -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000)
}

/// A configuration that looks often and starts at the oldest message.
pub(in crate::log) fn config(brokers: &str, topics: &[&str]) -> KafkaConfig {
    let topic = |name: &&str| TopicConfig {
        topic: (*name).into(),
        contents: Contents::Events { format: TopicFormat::Audit, cluster: "test".into() },
        start: Start::Earliest,
    };
    KafkaConfig {
        connection: Connection { brokers: brokers.to_owned(), tls: None, sasl: None },
        group: "watchbell".to_owned(),
        topics: topics.iter().map(topic).collect(),
        limits: DecodeLimits::default(),
        log_limits: LogLimits::default(),
        message_bytes: 1 << 20,
        redactor: Redactor::new([7; 32], Vec::new()),
        prefetch_bytes: 8 << 20,
        recent_ids: 100_000,
        recent_messages: 1_000,
        replicated: Vec::new(),
        watch_interval: Duration::from_millis(100),
        now,
    }
}

/// A cluster, and a data directory that outlives the topics opened in it.
pub(in crate::log) struct Cluster {
    pub(super) mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
    dir: TempDir,
}

impl Cluster {
    pub(super) fn new() -> Self {
        let mock = MockCluster::new(1).unwrap();
        let mut producer = ClientConfig::new();
        producer.set("bootstrap.servers", mock.bootstrap_servers()).set("message.max.bytes", "4000000");
        Self { mock, producer: producer.create().unwrap(), dir: tempfile::tempdir().unwrap() }
    }

    /// Makes topics with two partitions each.
    pub(in crate::log) fn with_topics(topics: &[&str]) -> Self {
        let cluster = Self::new();
        topics.iter().for_each(|topic| cluster.mock.create_topic(topic, 2, 1).unwrap());
        cluster
    }

    /// Writes a message as of so many seconds before now.
    pub(super) fn produce(&self, topic: &str, partition: i32, seconds_ago: i64, payload: &[u8]) {
        let millis = now().as_micros() / 1000 - seconds_ago * 1000;
        let record =
            BaseRecord::<(), [u8]>::to(topic).partition(partition).timestamp(millis).payload(payload);
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
        self.producer.flush(PATIENCE).unwrap();
    }

    pub(super) fn config(&self, topics: &[&str]) -> KafkaConfig {
        config(&self.mock.bootstrap_servers(), topics)
    }

    pub(super) fn open(&self, topics: &[&str]) -> Topics {
        self.open_with(self.config(topics))
    }

    pub(super) fn open_with(&self, config: KafkaConfig) -> Topics {
        Topics::open(self.dir.path(), config, Arc::new(self.quarantine())).unwrap()
    }

    pub(super) fn open_quarantining(&self, topics: &[&str], quarantine: Arc<Quarantine>) -> Topics {
        Topics::open(self.dir.path(), self.config(topics), quarantine).unwrap()
    }

    /// A topic of two partitions as the log.
    pub(in crate::log) fn own_log(&self) -> crate::log::Log {
        self.own_log_with(own_topic())
    }

    pub(super) fn own_log_with(&self, own: OwnTopic) -> crate::log::Log {
        let mut config = self.config(&["own"]);
        config.topics[0].contents = Contents::Envelopes;
        crate::log::Log::Kafka(KafkaLog::open(self.open_with(config), own).unwrap())
    }

    /// Opens a topic of log records.
    pub(super) fn open_records(&self, topic: &str, format: TopicFormat) -> Topics {
        let mut config = self.config(&[topic]);
        config.topics[0].contents = Contents::Events { format, cluster: "test".into() };
        self.open_with(config)
    }

    /// Where the quarantine's files are.
    pub(super) fn quarantine_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("quarantine")
    }

    pub(super) fn quarantine(&self) -> Quarantine {
        Quarantine::open(&self.quarantine_dir(), QuarantineConfig::default()).unwrap()
    }
}

/// A topic with low limits.
pub(super) fn own_topic() -> OwnTopic {
    OwnTopic {
        topic: "own".into(),
        allow_single_replica: true,
        in_flight_bytes: 1 << 20,
        message_bytes: 1 << 16,
        timeout: Duration::from_secs(3),
    }
}

/// An audit event with this id.
pub(super) fn event(id: &str) -> String {
    format!(r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"{id}","verb":"get"}}"#)
}

/// The ids of events, in the order of the records.
pub(super) fn ids(records: &[Record]) -> Vec<String> {
    let id = |record: &Record| {
        let event: serde_json::Value = serde_json::from_slice(&record.envelope.bytes).unwrap();
        event["auditID"].as_str().unwrap().to_owned()
    };
    records.iter().map(id).collect()
}

/// Reads at least so many records, by few at a time.
pub(super) async fn read(reader: &mut TopicReader, count: usize) -> (Vec<Record>, Positions) {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(next(reader, 3).await.records);
    }
    (records, reader.positions().clone())
}

/// The next records, which must come soon.
pub(super) async fn next(reader: &mut TopicReader, max_events: usize) -> Batch {
    tokio::time::timeout(PATIENCE, reader.next(max_events, 1 << 20)).await.expect("no records").unwrap()
}

/// Nothing comes for a while.
pub(super) async fn expect_nothing(reader: &mut TopicReader) {
    let until = std::time::Instant::now() + Duration::from_millis(700);
    while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
        if let Ok(batch) = tokio::time::timeout(left, reader.next(10, 1 << 20)).await {
            assert_eq!(ids(&batch.unwrap().records), Vec::<String>::new());
        }
    }
}
