//! Detection from a topic, with nothing else running: decode, redact, identify, evaluate, correlate, in this process.
//! Beside it, the same events evaluated from memory, as `bench rules` does it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use watchbell_event::Positions;
use watchbell_ingest::decode::DecodeLimits;
use watchbell_ingest::decode::logs::LogLimits;
use watchbell_ingest::log::LogReader;
use watchbell_ingest::log::kafka::{
    Connection, Contents, KafkaConfig, Start, TopicConfig, TopicFormat, Topics,
};
use watchbell_ingest::quarantine::{Quarantine, QuarantineConfig};
use watchbell_ingest::redact::Redactor;
use watchbell_rules::{CorrelationConfig, Detector, Lists, RuleSet, load};

use super::broker::{Broker, Topic};
use crate::clock;
use crate::rules::{library, watchbell};
use crate::stats::{per_second, quantile};

/// As the server reads.
const MAX_EVENTS: usize = 1_000;
const MAX_BYTES: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
/// Events that rules alone are measured on.
const SAMPLE_EVENTS: usize = 20_000;
/// How often they are measured; the median counts.
const PASSES: usize = 7;

/// Events per second from the topic, and of the rules alone.
pub(super) struct Detection {
    pub(super) from_topic: f64,
    pub(super) rules_alone: f64,
}

pub(super) async fn run(broker: &Broker, topic: &Topic, parent: &Path) -> Result<Detection> {
    let dir = tempfile::tempdir_in(parent)?;
    let quarantine = Quarantine::open(&dir.path().join("quarantine"), QuarantineConfig::default())?;
    let topics = Topics::open(dir.path(), config(broker, topic), Arc::new(quarantine))?;
    let reader = LogReader::Topics(Box::new(topics.reader("detect", &Positions::default())?));
    let mut reader = reader.ahead(MAX_EVENTS, MAX_BYTES)?;
    let rules = library();
    let loaded = load(&[("library".to_owned(), rules.clone())], &Lists::shipped());
    let set = Arc::new(RuleSet::compile(loaded.rules));
    let mut detector = Detector::new(set, CorrelationConfig::default());
    let (mut events, mut sample, mut detections) = (0, Vec::new(), Vec::new());
    let mut begun = None;
    while events < topic.messages {
        let batch = tokio::time::timeout(PATIENCE, reader.next(MAX_EVENTS, MAX_BYTES));
        let batch =
            batch.await.with_context(|| format!("only {events} events came within {PATIENCE:?}"))??;
        begun.get_or_insert_with(Instant::now);
        for record in &batch.records {
            detector.detect(record, &mut detections);
            if sample.len() < SAMPLE_EVENTS {
                sample.push(record.envelope.bytes.clone());
            }
        }
        detections.clear();
        events += batch.records.len() as u64;
        if let Some(traffic) = detector.learned() {
            detector.follow(Arc::new(detector.evaluator().rules().replan(&traffic)));
        }
    }
    let took = begun.context("the topic is empty")?.elapsed();
    topics.close();
    Ok(Detection { from_topic: per_second(events, took), rules_alone: rules_alone(&rules, &sample)? })
}

fn rules_alone(rules: &str, sample: &[bytes::Bytes]) -> Result<f64> {
    let events: Vec<&[u8]> = sample.iter().map(|event| &**event).collect();
    ensure!(!events.is_empty(), "there are no events");
    let mut engine = watchbell(rules, &events).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut passes = [0.0; PASSES];
    for pass in &mut passes {
        let begun = Instant::now();
        for event in &events {
            let outcome = (engine.evaluate)(event);
            std::hint::black_box(outcome.matches);
        }
        *pass = per_second(events.len() as u64, begun.elapsed());
    }
    Ok(quantile(passes.to_vec(), 50))
}

fn config(broker: &Broker, topic: &Topic) -> KafkaConfig {
    let contents = Contents::Events { format: TopicFormat::Audit, cluster: "bench".into() };
    KafkaConfig {
        connection: Connection { brokers: broker.address.clone(), tls: None, sasl: None },
        group: "bench".to_owned(),
        topics: vec![TopicConfig { topic: topic.name.as_str().into(), contents, start: Start::Earliest }],
        limits: DecodeLimits::default(),
        log_limits: LogLimits::default(),
        message_bytes: 64 << 20,
        redactor: Redactor::new([7; 32], Vec::new()),
        prefetch_bytes: 64 << 20,
        recent_ids: 500_000,
        recent_messages: 20_000,
        replicated: Vec::new(),
        watch_interval: Duration::from_millis(500),
        now: clock::now,
    }
}
