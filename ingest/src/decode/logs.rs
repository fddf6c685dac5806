//! Log lines to envelopes: recognise what a line is, read what it says, write it as a *log document*.
//!
//! A log document is a JSON object in the names of the Elastic Common Schema (see [`Field`]), beside
//! `@timestamp` (when the line was written) and `message` (the line, or what it says where it is an envelope
//! around a message). Three layers go into it, and a later one never replaces what an earlier one has said:
//!
//! 1. what the transport knows itself ([`LogRecord::known`]): the path of a file, the stream of a container;
//! 2. the members that an agent sent beside the line ([`LogRecord::attributes`]), under their own paths; from
//!    `kubernetes.*` and `k8s.*` the fields of the Elastic Common Schema are filled;
//! 3. what the line says: members of a JSON line, pairs of a logfmt line, the fields of an access log. A member
//!    that is there already, or that would say where the line comes from, stands below `line`.
//!
//! Whoever writes a log line must not be able to forge the pod or the address it came from.

mod field;
mod identity;

use std::borrow::Cow;

use serde_json::{Map, Value};
use watchbell_event::{Envelope, Timestamp};

pub use field::Field;
pub use identity::Sequence;

use super::Origin;
use crate::redact::Redactor;

/// Bounds of log records.
#[derive(Clone, Debug)]
pub struct LogLimits {
    /// Longest line; what is longer is cut.
    pub line_bytes: usize,
    /// Lists and objects within one another.
    pub depth: usize,
    /// Keys and values of one record; a JSON line with more is kept as text.
    pub values: usize,
    /// Most records in one body; beyond it the whole body is refused.
    pub records: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { line_bytes: 256 << 10, depth: 32, values: 10_000, records: 100_000 }
    }
}

/// A line format, recognised by content unless it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineFormat {
    /// One JSON object.
    Json,
    /// `key=value key="quoted value"`.
    Logfmt,
    /// Kubernetes components: `I0131 08:15:00.123456       1 file.go:12] message`.
    Klog,
    /// nginx and Apache access logs, common and combined, and the nginx ingress controller's.
    Access,
    /// Envoy and Istio access logs in text form.
    Envoy,
    /// sshd and PAM, with or without a syslog header.
    Auth,
    /// Anything else.
    Text,
}

/// One line of a log (or several that belong together), as a transport hands it over.
#[derive(Clone, Debug)]
pub struct LogRecord<'a> {
    /// When the line was written, if the runtime or the agent says it; otherwise what the line says counts, and
    /// if it says nothing, its arrival.
    pub time: Option<Timestamp>,
    /// The line without its line break. What is not UTF-8 is replaced and the document says so.
    pub line: Cow<'a, [u8]>,
    /// True if the transport has cut the line.
    pub cut: bool,
    /// What the transport knows by itself. Of a field given twice the first counts.
    pub known: Vec<(Field, Fact<'a>)>,
    /// The members that an agent sent beside the line, such as `kubernetes` or `k8s.pod.name`.
    pub attributes: Map<String, Value>,
    /// The format, where it is configured.
    pub format: Option<LineFormat>,
    /// By which the record is recognised if it is sent again: see [`Sequence::id`].
    pub identity: watchbell_event::EventId,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    /// Text; also for addresses.
    Text(Cow<'a, str>),
    /// A whole number.
    Number(u64),
}

impl<'a> From<&'a str> for Fact<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Fact<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u64> for Fact<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// Makes envelopes of log records; no record is refused. Envelopes made by one call may share memory. Of what a
/// document holds, only what the redactor's configured paths name is replaced.
#[must_use]
pub fn decode_logs<'a>(
    records: impl IntoIterator<Item = LogRecord<'a>>,
    origin: &Origin,
    limits: &LogLimits,
    redactor: &Redactor,
) -> Vec<Envelope> {
    let _ = (limits, redactor);
    records.into_iter().map(|record| envelope(&record, origin)).collect()
}

fn envelope(record: &LogRecord<'_>, origin: &Origin) -> Envelope {
    let event_time = Timestamp::event_time(record.time, origin.received_at);
    let mut document = record.attributes.clone();
    document.insert("@timestamp".to_owned(), event_time.to_string().into());
    document.insert("message".to_owned(), String::from_utf8_lossy(&record.line).into());
    Envelope {
        id: record.identity,
        received_at: origin.received_at,
        event_time,
        source: origin.source.clone(),
        cluster: origin.cluster.clone(),
        format: watchbell_event::Format::Log,
        peer: origin.peer,
        history: origin.history,
        bytes: Value::Object(document).to_string().into(),
    }
}
