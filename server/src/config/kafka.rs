//! `kafka:`, the topics that are read.

use std::sync::Arc;

use watchbell_ingest::log::kafka::{
    Connection, Contents, Sasl, SaslMechanism, Start, Tls, TopicConfig, TopicFormat,
};

use super::MIB;
use super::reader::Section;
use crate::tokens::check_cluster_name;

/// Where topics are, and which.
#[derive(Debug)]
pub(crate) struct KafkaConfig {
    pub(crate) connection: Connection,
    pub(crate) group: String,
    pub(crate) topics: Vec<TopicConfig>,
    /// Bytes that each reader may have fetched ahead.
    pub(crate) prefetch_bytes: u64,
    /// The topic that takes the place of the journal.
    pub(crate) log: Option<KafkaLogConfig>,
}

/// A topic that this server writes.
#[derive(Debug)]
pub(crate) struct KafkaLogConfig {
    pub(crate) topic: Arc<str>,
    /// Where goes what rules match, if they are evaluated and alerted on by different processes.
    pub(crate) matches_topic: Arc<str>,
    /// Answer also when only one replica has an event.
    pub(crate) allow_single_replica: bool,
}

const MAX_TOPICS: usize = 64;
/// What Kafka allows.
const MAX_TOPIC_NAME_BYTES: usize = 249;

impl KafkaConfig {
    pub(super) fn read(section: Section<'_>, given: bool) -> Option<Self> {
        if !given {
            section.finish();
            return None;
        }
        let log = read_log(section.section("log"), section.get("log").is_some());
        let mut config = Self {
            connection: Connection {
                brokers: section.texts("brokers").join(","),
                tls: read_tls(section.section("tls")),
                sasl: section.get("sasl").and_then(|_| read_sasl(section.section("sasl"))),
            },
            group: section.text("group").unwrap_or_else(|| "watchbell".to_owned()),
            topics: read_topics(&section),
            prefetch_bytes: section.bytes("prefetch", 64 * MIB),
            log: None,
        };
        if let Some(log) = log {
            for (key, topic) in [("topic", &log.topic), ("matches_topic", &log.matches_topic)] {
                if config.topics.iter().any(|other| other.topic == *topic) {
                    let reason = format!("kafka.log.{key} is one of kafka.topics, too");
                    section.errors().add(section.line_of("log"), reason);
                }
            }
            let (topic, contents) = (Arc::clone(&log.topic), Contents::Envelopes);
            config.topics.push(TopicConfig { topic, contents, start: Start::Earliest });
            config.log = Some(log);
        }
        let Connection { brokers, tls, sasl } = &config.connection;
        if brokers.is_empty() {
            section.errors().add(section.line(), "kafka.brokers is missing");
        }
        if config.topics.is_empty() {
            section.errors().add(section.line(), "kafka.topics is missing");
        }
        if sasl.is_some() && tls.is_none() && !are_loopback(brokers) {
            let reason = "kafka.sasl: the password would travel readable; set kafka.tls.enabled: true";
            section.errors().add(section.line_of("sasl"), reason);
        }
        section.finish();
        Some(config)
    }
}

fn read_log(section: Section<'_>, given: bool) -> Option<KafkaLogConfig> {
    let log = given.then(|| {
        let topic = read_topic_name(&section, "topic");
        let matches_topic = match section.get("matches_topic") {
            Some(_) => read_topic_name(&section, "matches_topic"),
            None => format!("{topic}-matches").into(),
        };
        if topic == matches_topic {
            let reason = "kafka.log.matches_topic must be another topic than kafka.log.topic";
            section.errors().add(section.line_of("matches_topic"), reason);
        }
        let allow_single_replica = section.flag("allow_single_replica", false);
        KafkaLogConfig { topic, matches_topic, allow_single_replica }
    });
    section.finish();
    log
}

/// TLS is on unless it is switched off.
fn read_tls(section: Section<'_>) -> Option<Tls> {
    let tls = Tls {
        ca_file: section.path("ca_file"),
        cert_file: section.path("cert_file"),
        key_file: section.path("key_file"),
    };
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        section.errors().add(section.line(), "kafka.tls needs both cert_file and key_file, or none");
    }
    for file in [&tls.ca_file, &tls.cert_file, &tls.key_file].into_iter().flatten() {
        if !file.is_file() {
            let reason = format!("kafka.tls: there is no file {}", file.display());
            section.errors().add(section.line(), reason);
        }
    }
    let enabled = section.flag("enabled", true);
    section.finish();
    enabled.then_some(tls)
}

fn read_sasl(section: Section<'_>) -> Option<Sasl> {
    let mechanism = section.parsed("mechanism", SaslMechanism::ScramSha512, |name| {
        let mechanism = SaslMechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name);
        mechanism.ok_or_else(|| {
            let known = SaslMechanism::ALL.map(SaslMechanism::name).join(", ");
            format!("unknown mechanism {name:?}; known: {known}")
        })
    });
    let password = section.secret("password", "password_file", "password_env");
    if let Ok(None) = password {
        section.errors().add(section.line(), "kafka.sasl.password is missing");
    }
    let username = section.required_text("username");
    section.finish();
    Some(Sasl { mechanism, username, password: password.ok()?? })
}

fn read_topics(kafka: &Section<'_>) -> Vec<TopicConfig> {
    let mut topics: Vec<TopicConfig> = Vec::new();
    for section in kafka.sections("topics") {
        let topic = read_topic(&section);
        if topics.iter().any(|other| other.topic == topic.topic) {
            section.errors().add(section.line(), format!("topic {:?} is given twice", topic.topic));
        }
        topics.push(topic);
        section.finish();
    }
    if topics.len() > MAX_TOPICS {
        let reason = format!("kafka.topics: {} topics are more than {MAX_TOPICS}", topics.len());
        kafka.errors().add(kafka.line_of("topics"), reason);
    }
    topics
}

fn read_topic_name(section: &Section<'_>, key: &'static str) -> Arc<str> {
    let topic = section.required_text(key);
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.len() > MAX_TOPIC_NAME_BYTES || !topic.chars().all(is_good) {
        let reason = format!("{} is no name that Kafka allows for a topic", section.name(key));
        section.errors().add(section.line_of(key), reason);
    }
    Arc::from(topic)
}

fn read_topic(section: &Section<'_>) -> TopicConfig {
    let topic = read_topic_name(section, "topic");
    let cluster = section.required_text("cluster");
    if let Err(error) = check_cluster_name(&cluster).map_err(|error| format!("{error:#}"))
        && !cluster.is_empty()
    {
        section.errors().add(section.line_of("cluster"), format!("{}: {error}", section.name("cluster")));
    }
    TopicConfig {
        topic,
        contents: Contents::Events {
            format: section.parsed("format", TopicFormat::Audit, parse_format),
            cluster: Arc::from(cluster),
        },
        start: section.parsed("start", Start::Earliest, parse_start),
    }
}

fn parse_format(name: &str) -> Result<TopicFormat, String> {
    TopicFormat::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
        let known = TopicFormat::ALL.map(TopicFormat::name).join(", ");
        format!("unknown format {name:?}; known: {known}")
    })
}

fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        time => time.parse().map(Start::At).map_err(|_| {
            format!("{time:?} is neither earliest, latest nor a time as in 2026-01-31T08:15:00Z")
        }),
    }
}

/// True if no packet leaves this machine.
fn are_loopback(brokers: &str) -> bool {
    brokers.split(',').all(|broker| {
        let host = broker.trim().rsplit_once(':').map_or(broker, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    use super::*;

    #[test]
    fn topics_and_how_to_reach_them_are_read() {
        let text = "kafka:\n  brokers: [k1:9092, k2:9092]\n  sasl: {username: u, password: p, mechanism: PLAIN}\n  \
            topics:\n  - {topic: audit.prod, cluster: prod}\n  - {topic: b, cluster: c, start: latest, format: logs}\n  \
            - {topic: d, cluster: c, start: '2026-01-31T08:15:00Z', format: otlp}\n";
        let kafka = Config::parse(text, "test").unwrap().kafka.unwrap();
        assert_eq!((&*kafka.connection.brokers, &*kafka.group), ("k1:9092,k2:9092", "watchbell"));
        assert!(kafka.connection.tls.is_some());
        let sasl = kafka.connection.sasl.unwrap();
        assert_eq!((sasl.mechanism, &*sasl.username, &*sasl.password), (SaslMechanism::Plain, "u", "p"));
        let starts: Vec<Start> = kafka.topics.iter().map(|topic| topic.start).collect();
        let time = "2026-01-31T08:15:00Z".parse().unwrap();
        assert_eq!(starts, [Start::Earliest, Start::Latest, Start::At(time)]);
        assert_eq!(&*kafka.topics[0].topic, "audit.prod");
        let formats: Vec<TopicFormat> = kafka
            .topics
            .iter()
            .map(|topic| match &topic.contents {
                Contents::Events { format, .. } => *format,
                other => panic!("{other:?} of others"),
            })
            .collect();
        assert_eq!(formats, [TopicFormat::Audit, TopicFormat::Logs, TopicFormat::Otlp]);
        let text = "kafka: {brokers: k, log: {topic: own}}";
        let kafka = Config::parse(text, "test").unwrap().kafka.unwrap();
        assert_eq!(kafka.topics[0].contents, Contents::Envelopes);
        let log = kafka.log.unwrap();
        assert_eq!((log.allow_single_replica, &*log.matches_topic), (false, "own-matches"));
        let text = "kafka: {brokers: k, log: {topic: own, matches_topic: found}}";
        assert_eq!(&*Config::parse(text, "test").unwrap().kafka.unwrap().log.unwrap().matches_topic, "found");
    }

    #[test]
    fn mistakes_are_reported_and_passwords_never_travel_readable() {
        for (text, expect) in [
            ("kafka: {topics: [{topic: a, cluster: b}]}", "kafka.brokers is missing"),
            ("kafka: {brokers: a}", "kafka.topics is missing"),
            ("kafka: {brokers: a, log: {}}", "kafka.log.topic is missing"),
            ("kafka: {brokers: a, log: {topic: a}, topics: [{topic: a, cluster: b}]}", "one of kafka.topics"),
            ("kafka: {brokers: a, log: {topic: a, matches_topic: a}}", "must be another topic"),
            (
                "kafka: {brokers: a, log: {topic: a}, topics: [{topic: a-matches, cluster: b}]}",
                "kafka.log.matches_topic is one of kafka.topics",
            ),
            ("kafka: {brokers: a, topics: [{topic: a}]}", "kafka.topics[0].cluster is missing"),
            ("kafka: {brokers: a, topics: [{topic: a b, cluster: b}]}", "no name that Kafka allows"),
            ("kafka: {brokers: a, topics: [{topic: a, cluster: b}, {topic: a, cluster: c}]}", "given twice"),
            ("kafka: {brokers: a, topics: [{topic: a, cluster: b, start: now}]}", "neither earliest"),
            (
                "kafka: {brokers: a, topics: [{topic: a, cluster: b, format: x}]}",
                "unknown format \"x\"; known: audit, logs, otlp",
            ),
            ("kafka: {brokers: a, tls: {cert_file: /x}, topics: [{topic: a, cluster: b}]}", "needs both"),
            (
                "kafka: {brokers: a, sasl: {username: u}, topics: [{topic: a, cluster: b}]}",
                "password is missing",
            ),
            (
                "kafka: {brokers: 'a:1', tls: {enabled: false}, sasl: {username: u, password: x}, \
                 topics: [{topic: a, cluster: b}]}",
                "the password would travel readable",
            ),
        ] {
            let error = Config::parse(text, "test").unwrap_err().to_string();
            assert!(error.contains(expect), "{text}: {error}");
        }
        let local = "kafka: {brokers: '127.0.0.1:1,[::1]:2,localhost:3', tls: {enabled: false}, \
            sasl: {username: u, password: x}, topics: [{topic: a, cluster: b}]}";
        assert!(Config::parse(local, "test").is_ok());
    }
}
