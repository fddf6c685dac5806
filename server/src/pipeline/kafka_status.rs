//! How far the readers of topics are, for people and for metrics.

use serde_json::{Value, json};
use watchbell_event::Positions;
use watchbell_ingest::log::kafka::KafkaStatus;

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
