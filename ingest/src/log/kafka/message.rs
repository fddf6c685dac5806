//! From one message to events.

use std::sync::Arc;

use bytes::Bytes;
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use watchbell_event::{Envelope, Timestamp, stored};

use super::config::{Contents, KafkaConfig, TopicConfig, TopicFormat};
use super::position::MAX_EVENTS;
use crate::decode::logs::{BodyForm, LogLimits, OtlpForm, Sequence, decode_log_body, decode_otlp};
use crate::decode::{DecodeError, DecodeLimits, Decoded, Origin, decode_audit};
use crate::quarantine::QuarantineEntry;

/// With which the place of a message of which nothing could be read ends.
pub const WHOLE_MESSAGE: &str = "the whole message";

/// A message that was fetched.
pub struct Message {
    pub(super) offset: i64,
    /// When it was written, but not later than now.
    pub(super) time: Timestamp,
    /// Whoever passed it on was behind.
    pub(super) is_late: bool,
    /// The same as the message has it, in milliseconds.
    written: Option<i64>,
    /// Its value, or the beginning of one that is too long.
    pub(super) payload: Bytes,
    /// The length of the whole value.
    pub(super) bytes: usize,
}

/// What a message holds.
pub struct Opened {
    /// With their numbers within the message.
    pub events: Vec<(usize, Envelope)>,
    /// What could not be read.
    pub rejected: Vec<QuarantineEntry>,
}

impl Message {
    pub(super) fn new(message: &BorrowedMessage<'_>, config: &KafkaConfig, entry_bytes: usize) -> Self {
        let (written, value) = (message.timestamp().to_millis(), message.payload().unwrap_or_default());
        Self::of_value(message.offset(), written, value, config, entry_bytes)
    }

    /// Takes a value that was written at some time, in milliseconds. Of one that is too long, one byte more than
    /// `entry_bytes` is kept, from which it is seen that it was cut.
    #[must_use]
    pub fn of_value(
        offset: i64,
        written: Option<i64>,
        value: &[u8],
        config: &KafkaConfig,
        entry_bytes: usize,
    ) -> Self {
        let now = (config.now)();
        let written = written.filter(|millis| *millis >= 0);
        let time = written.map(|millis| Timestamp::from_micros(millis.saturating_mul(1000)));
        let is_long = value.len() > config.message_bytes;
        let kept = if is_long { value.len().min(entry_bytes + 1) } else { value.len() };
        Self {
            offset,
            time: time.map_or(now, |time| time.min(now)),
            is_late: false,
            written,
            payload: Bytes::copy_from_slice(value.get(..kept).unwrap_or(value)),
            bytes: value.len(),
        }
    }

    /// Where its events come from; envelopes say that themselves.
    pub(super) fn origin(&self, topic: &TopicConfig) -> Origin {
        let cluster = match &topic.contents {
            Contents::Events { cluster, .. } => Arc::clone(cluster),
            Contents::Envelopes | Contents::Matches => Arc::from(""),
        };
        let source = topic.source().into();
        Origin { source, cluster, peer: None, received_at: self.time, history: false }
    }

    /// Reads the events. The result depends on nothing but the message and the configuration.
    #[must_use]
    pub fn open(&self, topic: &TopicConfig, partition: i32, config: &KafkaConfig) -> Opened {
        let format = match topic.contents {
            Contents::Events { format, .. } => Some(format),
            Contents::Envelopes | Contents::Matches => None,
        };
        let origin = self.origin(topic);
        let whole = |reason: String| Opened {
            events: Vec::new(),
            rejected: vec![self.reject(&origin, partition, WHOLE_MESSAGE, reason, self.payload.clone())],
        };
        if self.bytes > config.message_bytes {
            return whole(format!(
                "a message of {} bytes is longer than {}",
                self.bytes, config.message_bytes
            ));
        }
        let Some(format) = format else {
            return match stored::Reader::default().read(&self.payload) {
                Some(envelope) => Opened { events: vec![(0, envelope)], rejected: Vec::new() },
                None => whole("not an envelope, or of a newer version".to_owned()),
            };
        };
        match self.decode(format, &origin, partition, config) {
            Err(reason) => whole(reason),
            Ok(decoded) => {
                let rejected = decoded.rejected.iter().map(|rejected| {
                    let (place, reason) = (rejected.place.to_string(), rejected.reason.to_string());
                    let entry = self.reject(&origin, partition, &place, reason, rejected.bytes.clone());
                    QuarantineEntry { repaired: rejected.repaired, ..entry }
                });
                Opened { rejected: rejected.collect(), events: numbered(decoded) }
            }
        }
    }

    fn decode(
        &self,
        format: TopicFormat,
        origin: &Origin,
        partition: i32,
        config: &KafkaConfig,
    ) -> Result<Decoded, String> {
        let decoded = match format {
            TopicFormat::Audit => {
                let events = config.limits.events.min(MAX_EVENTS);
                let limits = DecodeLimits { events, ..config.limits.clone() };
                decode_audit(&self.payload, origin, &limits, &config.redactor)
            }
            TopicFormat::Logs | TopicFormat::Otlp => self.decode_records(format, origin, partition, config),
        };
        decoded.map_err(|error| error.to_string())
    }

    fn decode_records(
        &self,
        format: TopicFormat,
        origin: &Origin,
        partition: i32,
        config: &KafkaConfig,
    ) -> Result<Decoded, DecodeError> {
        let records = config.log_limits.records.min(MAX_EVENTS);
        let limits = LogLimits { records, ..config.log_limits.clone() };
        let records = Sequence::message(origin, partition, self.offset, self.written, &self.payload);
        if format == TopicFormat::Otlp {
            let form = OtlpForm::of(&self.payload);
            return decode_otlp(&self.payload, form, origin, &records, &limits, &config.redactor);
        }
        let form = BodyForm::ByContent;
        match decode_log_body(&self.payload, form, origin, &records, &limits, &config.redactor) {
            // as an empty line between others, it is nothing that anybody said
            Err(DecodeError::Empty) => Ok(Decoded::default()),
            decoded => decoded,
        }
    }

    fn reject(
        &self,
        origin: &Origin,
        partition: i32,
        place: &str,
        reason: String,
        bytes: Bytes,
    ) -> QuarantineEntry {
        QuarantineEntry {
            time: self.time,
            source: origin.source.to_string(),
            cluster: origin.cluster.to_string(),
            peer: None,
            place: format!("partition {partition}, offset {}: {place}", self.offset),
            reason,
            repaired: false,
            bytes,
        }
    }
}

/// Events with their numbers among all that the message holds: those that were rejected keep theirs.
fn numbered(decoded: Decoded) -> Vec<(usize, Envelope)> {
    let mut gaps: Vec<usize> = decoded
        .rejected
        .iter()
        .filter(|rejected| !rejected.repaired)
        .map(|rejected| rejected.place.event)
        .collect();
    gaps.sort_unstable();
    let numbers = (0..).filter(|number| gaps.binary_search(number).is_err());
    numbers.zip(decoded.envelopes).collect()
}
