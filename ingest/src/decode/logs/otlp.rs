//! OpenTelemetry's log records: an `ExportLogsServiceRequest`, as Protocol Buffers or as JSON.
//! <https://opentelemetry.io/docs/specs/otlp/>, <https://opentelemetry.io/docs/specs/otel/logs/data-model/>
//!
//! A request is read from its bytes record by record, and not into a tree of its messages first: of bytes that say
//! nothing (a body of empty attributes) such a tree would be forty times as large as they are.
//!
//! The attributes of the resource and of the record are what an agent says ([`super::LogRecord::attributes`]), the body
//! is the line; a body with members is a JSON line. An attribute of a record does not replace one of its resource,
//! because collectors make the former of lines and know the latter by themselves; it stands below `agent`.

mod json;
mod protobuf;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde_json::{Map, Value};
use watchbell_event::{EventId, Timestamp};

use super::super::{DecodeError, Decoded, Origin, Place, Reason, Rejected};
use super::{Field, LogDecoder, LogLimits, LogRecord, Sequence};
use crate::redact::Redactor;

/// What all documents of one request may take: each of them repeats what its resource says.
const MAX_DOCUMENTS_BYTES: usize = 256 << 20;

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpForm {
    /// `application/x-protobuf`, and gRPC.
    Protobuf,
    /// `application/json`.
    Json,
}

impl OtlpForm {
    /// The form of a request about which nothing is said: no message of Protocol Buffers that can be read begins with
    /// a brace.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        if body.trim_ascii_start().starts_with(b"{") { Self::Json } else { Self::Protobuf }
    }
}

/// Reads all log records of a request, which `delivery` numbers in their order. A request without any is good.
///
/// Exporters send a request again until it is answered, and say nothing by which it could be recognised. So a record
/// that says to less than a millisecond when it was is numbered by the bytes of its request instead: nobody makes the
/// same request at the same moment twice.
///
/// # Errors
/// If it cannot be read from one record to the next, has more records than allowed, or its records together with what
/// their resources say would take more than 256 MiB.
pub fn decode_otlp(
    body: &Bytes,
    form: OtlpForm,
    origin: &Origin,
    delivery: &Sequence,
    limits: &LogLimits,
    redactor: &Redactor,
) -> Result<Decoded, DecodeError> {
    let decoder = LogDecoder::new(origin, limits, redactor);
    let content = Sequence::delivery(origin, blake3::hash(body).as_bytes());
    let decoded = Decoded::default();
    Export { body, content, delivery, limits, decoder, decoded, records: 0, room: MAX_DOCUMENTS_BYTES }
        .read(form)
}

/// What the records of one resource and scope share.
#[derive(Default)]
struct Context {
    resource: Map<String, Value>,
    scope: String,
}

/// One log record, in whatever form it came.
#[derive(Default)]
struct Record {
    /// Nanoseconds since 1970; zero if unknown.
    time: u64,
    /// When the collector saw it.
    observed: u64,
    severity: u64,
    severity_text: String,
    body: Value,
    /// True if some of the body is missing.
    body_cut: bool,
    attributes: Map<String, Value>,
    /// In hexadecimal digits.
    trace_id: String,
    span_id: String,
    event_name: String,
}

impl Record {
    fn tells_its_moment(&self) -> bool {
        [self.time, self.observed].iter().any(|nanos| nanos % 1_000_000 != 0)
    }
}

/// A request being read.
struct Export<'a> {
    body: &'a Bytes,
    /// Numbers the records of this request however often it is sent.
    content: Sequence,
    delivery: &'a Sequence,
    limits: &'a LogLimits,
    decoder: LogDecoder<'a>,
    decoded: Decoded,
    /// Records so far, good and bad.
    records: usize,
    /// Bytes that further documents may take.
    room: usize,
}

impl Export<'_> {
    fn read(mut self, form: OtlpForm) -> Result<Decoded, DecodeError> {
        let body = self.body;
        match form {
            OtlpForm::Protobuf => protobuf::read(body, &mut self)?,
            OtlpForm::Json => json::read(body, &mut self)?,
        }
        Ok(self.decoded)
    }

    fn record(&mut self, record: Record, context: &Context) -> Result<(), DecodeError> {
        let number = self.next()? as u64;
        let sequence = if record.tells_its_moment() { &self.content } else { self.delivery };
        let identity = sequence.id(number);
        let envelope = self.decoder.decode(log_record(record, context, identity));
        self.room = self
            .room
            .checked_sub(envelope.bytes.len())
            .ok_or(DecodeError::TooLong { limit_bytes: MAX_DOCUMENTS_BYTES })?;
        self.decoded.envelopes.push(envelope);
        Ok(())
    }

    fn reject(&mut self, range: Range<usize>, reason: Reason) -> Result<(), DecodeError> {
        let place = Place { event: self.next()?, offset: range.start };
        self.decoded.rejected.push(Rejected {
            cluster: None,
            place,
            reason,
            repaired: false,
            bytes: self.body.slice(range),
        });
        Ok(())
    }

    /// The number of the next record.
    fn next(&mut self) -> Result<usize, DecodeError> {
        if self.records >= self.limits.records {
            return Err(DecodeError::TooManyEvents { limit: self.limits.records });
        }
        self.records += 1;
        Ok(self.records - 1)
    }

    /// The request cannot be read on from here.
    fn broken(&self, offset: usize, reason: &'static str) -> DecodeError {
        let place = Place { event: self.records, offset };
        DecodeError::Unusable { place, reason: Reason::Protocol(reason) }
    }
}

fn log_record(record: Record, context: &Context, identity: EventId) -> LogRecord<'static> {
    let Record { time, observed, severity, body, attributes, event_name, .. } = record;
    let mut known = Vec::new();
    if let Some(level) = level(severity) {
        known.push((Field::LogLevel, level.into()));
    }
    for (field, text) in [
        (Field::LogLevel, record.severity_text),
        (Field::TraceId, record.trace_id),
        (Field::SpanId, record.span_id),
        (Field::LogLogger, context.scope.clone()),
    ] {
        if !text.is_empty() {
            known.push((field, text.into()));
        }
    }
    let mut said = context.resource.clone();
    for (key, value) in attributes {
        let key = if context.resource.contains_key(&key) { format!("agent.{key}") } else { key };
        said.insert(key, value);
    }
    if !event_name.is_empty() {
        said.entry("event.name").or_insert(event_name.into());
    }
    let line = match body {
        Value::Null => String::new(),
        Value::String(line) => line,
        body => body.to_string(),
    };
    LogRecord {
        time: nanos(time).or(nanos(observed)),
        line: Cow::Owned(line.into_bytes()),
        cut: record.body_cut,
        common: None,
        known,
        attributes: said,
        format: None,
        identity,
    }
}

fn nanos(nanos: u64) -> Option<Timestamp> {
    let micros = i64::try_from(nanos / 1_000).ok().filter(|micros| *micros > 0)?;
    Some(Timestamp::from_micros(micros))
}

/// The level of a severity number.
fn level(severity: u64) -> Option<&'static str> {
    Some(match severity {
        1..=4 => "trace",
        5..=8 => "debug",
        9..=12 => "info",
        13..=16 => "warning",
        17..=20 => "error",
        21..=24 => "fatal",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
