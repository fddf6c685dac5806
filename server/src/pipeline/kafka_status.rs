//! How far the readers of topics are, for people and for metrics, and what came through each topic.

use serde_json::{Value, json};
use watchbell_ingest::log::kafka::{Contents, HeldPartition, TopicConfig, TopicStatus, Topics};

use super::Reader;
use super::ingest::Ingested;
use super::stage::{READER_DETECT, READER_INDEX};
use crate::clock;
use crate::sources::{Delivery, Lag, Source, Sources};

/// What `GET /api/v1/status` says of Kafka.
pub(super) fn to_json(topics: &Topics, readers: &[Reader<'_>]) -> Value {
    let status = topics.status();
    let mut value = json!(status);
    for (index, topic) in status.topics.iter().enumerate() {
        for (at, partition) in topic.partitions.iter().enumerate() {
            for Reader { name, positions, .. } in of(topic, readers) {
                value["topics"][index]["partitions"][at][*name] = json!({
                    "offset": partition.offset(positions), "lag": partition.lag(positions),
                });
            }
        }
    }
    value
}

/// Those that read a topic.
fn of<'a>(topic: &TopicStatus, readers: &'a [Reader<'a>]) -> impl Iterator<Item = &'a Reader<'a>> {
    readers.iter().filter(|reader| reader.log.topics().is_some_and(|topics| topics.reads(&topic.topic)))
}

/// Sets the gauges of lag.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
pub(super) fn publish_lag(topics: &Topics, readers: &[Reader<'_>]) {
    let publish = |reader: &str, topic: &str, partition: i32, lag: u64| {
        let labels = [
            ("topic", topic.to_owned()),
            ("partition", partition.to_string()),
            ("reader", reader.to_owned()),
        ];
        metrics::gauge!("watchbell_kafka_lag_messages", &labels).set(lag as f64);
    };
    for topic in &topics.status().topics {
        for partition in &topic.partitions {
            for Reader { name, positions, .. } in of(topic, readers) {
                publish(name, &topic.topic, partition.partition, partition.lag(positions));
            }
        }
    }
    for HeldPartition { topic, partition, lag, .. } in topics.held() {
        publish(READER_DETECT, &topic, partition, lag);
    }
}

/// Counts with the sources what was read of each topic since the last time, by the reader that makes events
/// searchable, and how many messages the slowest reader is behind.
pub(super) fn note_sources(topics: &Topics, sources: &Sources, readers: &[Reader<'_>]) {
    let now = clock::now();
    for (topic, tally) in topics.take_tallies(READER_INDEX) {
        let Some(source) = source(&topic) else { continue };
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let ingested = Ingested {
            stored: count(tally.events),
            duplicates: count(tally.duplicates),
            rejected: count(tally.rejected),
            ..Ingested::default()
        };
        let delivery = Delivery { peer: None, bytes: tally.bytes, outcome: Ok(&ingested) };
        sources.note(&source, &delivery, now);
    }
    for (topic, status) in topics.topics().zip(topics.status().topics) {
        let lag = of(&status, readers).map(|reader| status.lag(&reader.positions)).max().unwrap_or(0);
        if let Some(source) = source(topic) {
            sources.note_lag(&source, Lag::Messages(lag), now);
        }
    }
}

/// None of the own log, whose events came from sources of their own.
fn source(topic: &TopicConfig) -> Option<Source> {
    match &topic.contents {
        Contents::Events { cluster, .. } => {
            Some(Source { cluster: cluster.to_string(), route: topic.source().into(), credential: None })
        }
        Contents::Envelopes | Contents::Matches => None,
    }
}
