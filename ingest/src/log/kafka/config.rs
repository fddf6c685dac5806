use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use watchbell_event::Timestamp;

use crate::decode::DecodeLimits;
use crate::decode::logs::LogLimits;
use crate::redact::Redactor;

/// What topics are read, from where, and how.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// How to reach the brokers.
    pub connection: Connection,
    /// The consumer group under which positions are shown to other tools.
    pub group: String,
    /// The topics, each named once.
    pub topics: Vec<TopicConfig>,
    /// Bounds of one message's events, of which there are at most 65,536.
    pub limits: DecodeLimits,
    /// Bounds of one message's log records, of which there are at most 65,536, too.
    pub log_limits: LogLimits,
    /// Longest message that is decoded; a longer one goes into quarantine.
    pub message_bytes: usize,
    /// Takes secrets out of events.
    pub redactor: Redactor,
    /// Bytes that each reader may have fetched ahead, over all partitions.
    pub prefetch_bytes: usize,
    /// How many identities each reader remembers to recognise copies.
    pub recent_ids: usize,
    /// How many messages before its position a reader looks at when it starts, over all partitions, to know
    /// their identities again.
    pub recent_messages: u64,
    /// Topics of which is watched whether enough replicas are in sync.
    pub replicated: Vec<Arc<str>>,
    /// How often topics, their ends and the brokers are looked at.
    pub watch_interval: Duration,
    /// The time, for messages that have none or one from the future.
    pub now: fn() -> Timestamp,
}

/// One topic.
#[derive(Clone, Debug)]
pub struct TopicConfig {
    /// Its name.
    pub topic: Arc<str>,
    /// What its messages hold.
    pub contents: Contents,
    /// Where reading begins when the topic is met for the first time.
    pub start: Start,
}

impl TopicConfig {
    /// The source that its events name.
    #[must_use]
    pub fn source(&self) -> String {
        format!("kafka/{}", self.topic)
    }
}

/// What the messages of others may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicFormat {
    /// Audit events.
    Audit,
    /// Log records as agents send them over HTTP, or plain lines.
    Logs,
    /// OpenTelemetry's `ExportLogsServiceRequest`, as Protocol Buffers or as JSON.
    Otlp,
}

impl TopicFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Audit, Self::Logs, Self::Otlp];

    /// What configuration and status call it: the route that takes the same by HTTP.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Logs => "logs",
            Self::Otlp => "otlp",
        }
    }
}

/// What the messages of a topic hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Events that others wrote.
    Events {
        /// How they are written.
        format: TopicFormat,
        /// The cluster they belong to.
        cluster: Arc<str>,
    },
    /// One envelope each, that [`super::KafkaLog`] wrote.
    Envelopes,
    /// One envelope each, that [`super::Share`] passed on.
    Matches,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest message there is.
    Earliest,
    /// After the newest message there is.
    Latest,
    /// At the first message of this time or later.
    At(Timestamp),
}

/// How to reach the brokers.
#[derive(Clone, Debug)]
pub struct Connection {
    /// `HOST:PORT`, several separated by commas.
    pub brokers: String,
    /// TLS; none for an unencrypted connection.
    pub tls: Option<Tls>,
    /// A user and a password; none for no authentication beside TLS.
    pub sasl: Option<Sasl>,
}

/// TLS towards the brokers.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The authorities that are trusted; those of the system if there is none.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, for brokers that ask for one.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

/// A user and a password.
#[derive(Clone)]
pub struct Sasl {
    /// How they are proven.
    pub mechanism: SaslMechanism,
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Sasl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mechanism, username, .. } = self;
        f.debug_struct("Sasl")
            .field("mechanism", mechanism)
            .field("username", username)
            .finish_non_exhaustive()
    }
}

/// How a password is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// It is sent as it is.
    Plain,
    /// RFC 5802 with SHA-256.
    ScramSha256,
    /// RFC 5802 with SHA-512.
    ScramSha512,
}

impl SaslMechanism {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// As Kafka names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// A broker may not be asked for more than this at once, whatever a batch holds when decompressed.
const MAX_RESPONSE_BYTES: usize = 1 << 30;

impl Connection {
    /// Settings that every client shares.
    pub(super) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "watchbell")
            .set("security.protocol", protocol)
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            .set("allow.auto.create.topics", "false");
        if let Some(tls) = &self.tls {
            let files = [
                ("ssl.ca.location", &tls.ca_file),
                ("ssl.certificate.location", &tls.cert_file),
                ("ssl.key.location", &tls.key_file),
            ];
            for (key, file) in files {
                if let Some(file) = file {
                    client.set(key, file.to_string_lossy());
                }
            }
        }
        if let Some(sasl) = &self.sasl {
            client
                .set("sasl.mechanism", sasl.mechanism.name())
                .set("sasl.username", &sasl.username)
                .set("sasl.password", &sasl.password);
        }
        client
    }
}

impl KafkaConfig {
    /// Settings of a consumer of `partitions` partitions. Positions are our own: the client neither stores nor
    /// commits any, and says so when one is out of range instead of choosing another.
    pub(super) fn consumer(&self, partitions: usize) -> ClientConfig {
        let queue_kbytes = (self.prefetch_bytes / partitions.max(1) / 1024).max(1024);
        let response_bytes = self.message_bytes.saturating_mul(2).clamp(128 << 20, MAX_RESPONSE_BYTES);
        let mut consumer = self.connection.client();
        consumer
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.error.backoff.ms", "200")
            // in them is how far a partition was fetched, marks of transactions included
            .set("statistics.interval.ms", "2000")
            .set("receive.message.max.bytes", response_bytes.to_string())
            .set("queued.max.messages.kbytes", queue_kbytes.to_string());
        consumer
    }
}
