//! How far the readers of topics are, for people and for metrics, and what came through each topic.

use serde_json::{Value, json};
use watchbell_event::Positions;
use watchbell_ingest::log::kafka::{Contents, KafkaStatus, TopicConfig, Topics};

use super::ingest::Ingested;
use super::stage::READER_INDEX;
use crate::clock;
use crate::sources::{Delivery, Lag, Source, Sources};

/// Readers by name, with their positions.
type Readers<'a> = [(&'static str, &'a Positions)];

/// What `GET /api/v1/status` says of Kafka.
pub(super) fn to_json(status: &KafkaStatus, readers: &Readers<'_>) -> Value {
    let mut value = json!(status);
    for (index, topic) in status.topics.iter().enumerate() {
        for (at, partition) in topic.partitions.iter().enumerate() {
            for (reader, positions) in readers {
                value["topics"][index]["partitions"][at][reader] = json!({
                    "offset": partition.offset(positions), "lag": partition.lag(positions),
                });
            }
        }
    }
    value
}

/// Sets the gauges of lag.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
pub(super) fn publish_lag(status: &KafkaStatus, readers: &Readers<'_>) {
    for topic in &status.topics {
        for partition in &topic.partitions {
            for (reader, positions) in readers {
                let labels = [
                    ("topic", topic.topic.clone()),
                    ("partition", partition.partition.to_string()),
                    ("reader", (*reader).to_owned()),
                ];
                let lag = partition.lag(positions) as f64;
                metrics::gauge!("watchbell_kafka_lag_messages", &labels).set(lag);
            }
        }
    }
}

/// Counts with the sources what was read of each topic since the last time, by the reader that makes events
/// searchable, and how many messages the slowest reader is behind.
pub(super) fn note_sources(topics: &Topics, sources: &Sources, readers: &Readers<'_>) {
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
    for (topic, status) in topics.topics().iter().zip(topics.status().topics) {
        let lag = readers.iter().map(|(_, positions)| status.lag(positions)).max().unwrap_or(0);
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
        Contents::Envelopes => None,
    }
}
