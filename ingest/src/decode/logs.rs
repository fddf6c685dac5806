//! Log lines to envelopes: recognise what a line is, read what it says, write it as a *log document*.
//!
//! A log document is a JSON object in the names of the Elastic Common Schema (see [`Field`]), beside
//! `@timestamp` (when the line was written) and `message` (the line; of a JSON line the text in it that is for
//! people). Three layers go into it, and a later one never replaces what an earlier one has said:
//!
//! 1. what the transport knows itself ([`LogRecord::known`]): the path of a file, the stream of a container;
//! 2. the members that an agent sent beside the line ([`LogRecord::attributes`]), under their own paths; from
//!    `kubernetes.*` and `k8s.*` fields of the schema are filled. What contradicts the transport is below `agent`;
//! 3. what the line says: members of a JSON line, pairs of a logfmt line, the fields of an access log. A member
//!    whose first key is one of the schema's or of an agent's stands below `line` (`line.user`), and so does
//!    whatever a line says of where it comes from.
//!
//! Whoever writes a log line must not be able to forge the pod or the address it came from.
//!
//! Lines are never refused: what is not recognised is text. What had to change says so in `log.flags`:
//! `truncated` (the line was too long), `not_utf8`, `members_cut` (an agent sent too much).

mod agent;
mod body;
mod bulk;
mod common;
mod cri;
mod docker;
mod draft;
mod field;
mod forward;
mod identity;
mod level;
mod line;
mod otlp;
mod record;
mod syslog;
mod time;

use std::borrow::Cow;

use bytes::BytesMut;
use serde_json::{Map, Value};
use watchbell_event::{Envelope, EventId, Format, Timestamp};

pub use body::{BodyForm, decode_log_body};
pub use bulk::{BulkAction, BulkItem, BulkRefusal, DecodedBulk, decode_bulk};
pub use common::CommonFacts;
pub use cri::CriLine;
pub use docker::DockerLine;
pub use field::Field;
pub use forward::{
    EntriesForm, ForwardError, ForwardFrames, ForwardMessage, Ping, ack, decode_forward, helo, pong,
};
pub use identity::Sequence;
pub use level::of_syslog_severity;
pub use otlp::{OtlpForm, decode_otlp};
pub use syslog::{SyslogFrame, SyslogFrames, SyslogMessage, decode_syslog};

use self::draft::Draft;
use super::Origin;
use crate::json::{self, Tape};
use crate::redact::Redactor;

/// Seldom is more known and said of a record, so that [`LogRecord::known`] made for so many need not grow.
pub(crate) const MOST_FACTS: usize = 16;

const TRUNCATED: &str = "truncated";
const NOT_UTF8: &str = "not_utf8";
const MEMBERS_CUT: &str = "members_cut";
/// How much memory documents share; a document keeps all of it.
const SHARED_BYTES: usize = 64 << 10;
/// A document is seldom longer than its line by more than this; one that is moves to other memory.
const ADDED_BYTES: usize = 2 << 10;

/// Bounds of log records.
#[derive(Clone, Debug)]
pub struct LogLimits {
    /// Longest line; what is longer is cut. Also how much an agent may send beside a line.
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
    /// nginx and Apache access logs, common and combined, and that of nginx's ingress controller.
    Access,
    /// Envoy and Istio access logs in text form.
    Envoy,
    /// sshd, PAM and sudo, with or without a syslog header.
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
    /// What the transport knows of this record and others alike.
    pub common: Option<&'a CommonFacts>,
    /// What else the transport knows by itself. Of a field given twice the first counts.
    pub known: Vec<(Field, Fact<'a>)>,
    /// The members that an agent sent beside the line, such as `kubernetes` or `k8s.pod.name`.
    pub attributes: Map<String, Value>,
    /// The format, where it is configured.
    pub format: Option<LineFormat>,
    /// By which the record is recognised if it is sent again: see [`Sequence::id`].
    pub identity: EventId,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    /// Text; also for addresses.
    Text(Cow<'a, str>),
    /// A whole number.
    Number(u64),
}

impl Fact<'_> {
    fn into_owned(self) -> Fact<'static> {
        match self {
            Self::Text(text) => Fact::Text(Cow::Owned(text.into_owned())),
            Self::Number(number) => Fact::Number(number),
        }
    }
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

impl<'a> From<Cow<'a, str>> for Fact<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self::Text(text)
    }
}

/// Makes envelopes of log records; no record is refused. Of what a document holds, only what the redactor's
/// configured paths name is replaced.
#[must_use]
pub fn decode_logs<'a>(
    records: impl IntoIterator<Item = LogRecord<'a>>,
    origin: &Origin,
    limits: &LogLimits,
    redactor: &Redactor,
) -> Vec<Envelope> {
    let mut decoder = LogDecoder::new(origin, limits, redactor);
    records.into_iter().map(|record| decoder.decode(record)).collect()
}

/// Makes envelopes of one source's records, one by one, as [`decode_logs`] does.
pub struct LogDecoder<'o> {
    origin: &'o Origin,
    limits: &'o LogLimits,
    redactor: &'o Redactor,
    /// Reused from line to line.
    tape: Tape,
    /// The document that is being written, and room for those that follow it.
    document: BytesMut,
    counts: Counts,
}

impl<'o> LogDecoder<'o> {
    /// For records of this origin.
    #[must_use]
    pub fn new(origin: &'o Origin, limits: &'o LogLimits, redactor: &'o Redactor) -> Self {
        Self {
            origin,
            limits,
            redactor,
            tape: Tape::default(),
            document: BytesMut::new(),
            counts: Counts::default(),
        }
    }

    /// Makes an envelope of one record.
    #[must_use]
    pub fn decode(&mut self, record: LogRecord<'_>) -> Envelope {
        let LogRecord { time, line, cut, common, known, attributes, format, identity } = record;
        let kept = self.limits.line_bytes.min(line.len());
        let is_cut = cut || kept < line.len();
        let text = text_of(&line[..kept], is_cut);
        let mut draft = Draft::new(common, known, self.origin.received_at);
        // so that what the line says of it need not be read
        draft.time = time;
        if is_cut {
            draft.flags.push(TRUNCATED);
        }
        if let Cow::Owned(_) = text {
            draft.flags.push(NOT_UTF8);
        }
        if !attributes.is_empty() {
            agent::absorb(attributes, self.limits, &mut draft);
        }
        let is_json = matches!(format, None | Some(LineFormat::Json));
        let parsed = is_json.then(|| line::json::parse(&text, self.limits, &mut self.tape)).flatten();
        match parsed.as_deref().and_then(|parsed| self.tape.root(parsed)) {
            Some(object) => line::json::read(object, &mut draft),
            None => line::read(&text, format, &mut draft),
        }
        self.counts.count(&draft);
        // what a line says comes from whoever wrote it: the future would make everything else late
        let claimed = time.or(draft.time.map(|time| time.min(self.origin.received_at)));
        let room = text.len() + ADDED_BYTES;
        if self.document.capacity() < room {
            self.document.reserve(room.max(SHARED_BYTES));
        }
        draft.write(claimed.unwrap_or(self.origin.received_at), &text, &mut self.document);
        drop(draft);
        self.envelope(claimed, identity)
    }

    fn envelope(&mut self, claimed: Option<Timestamp>, identity: EventId) -> Envelope {
        let origin = self.origin;
        if let Some(redacted) = self.redacted() {
            self.document.clear();
            self.document.extend_from_slice(redacted.as_bytes());
        }
        Envelope {
            id: identity,
            received_at: origin.received_at,
            event_time: Timestamp::event_time(claimed, origin.received_at),
            source: origin.source.clone(),
            cluster: origin.cluster.clone(),
            format: Format::Log,
            peer: origin.peer,
            history: origin.history,
            bytes: self.document.split().freeze(),
        }
    }

    /// The document without what the configured paths name, if it has any of it.
    fn redacted(&mut self) -> Option<String> {
        if !self.redactor.has_paths() {
            return None;
        }
        let document = str::from_utf8(&self.document).ok()?;
        let limits = json::Limits { depth: 127, values: usize::MAX };
        json::parse(document.as_bytes(), 0, limits, &mut self.tape).ok()?;
        let edits = self.redactor.redact_paths(self.tape.root(document)?);
        (!edits.is_empty()).then(|| json::apply(document, edits))
    }
}

/// The text of a line; what is not UTF-8 is replaced.
fn text_of(line: &[u8], is_cut: bool) -> Cow<'_, str> {
    match str::from_utf8(line) {
        Ok(text) => Cow::Borrowed(text),
        // the cut may have gone through a character
        Err(error) if is_cut && error.error_len().is_none() => {
            Cow::Borrowed(str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default())
        }
        Err(_) => String::from_utf8_lossy(line),
    }
}

/// What was seen, told to the metrics at the end.
#[derive(Default)]
struct Counts {
    datasets: Vec<(&'static str, u64)>,
    flags: Vec<(&'static str, u64)>,
}

impl Counts {
    fn count(&mut self, draft: &Draft<'_>) {
        add(&mut self.datasets, draft.dataset);
        draft.flags.iter().for_each(|flag| add(&mut self.flags, flag));
    }
}

fn add(counts: &mut Vec<(&'static str, u64)>, name: &'static str) {
    match counts.iter_mut().find(|(known, _)| *known == name) {
        Some((_, count)) => *count += 1,
        None => counts.push((name, 1)),
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        for (dataset, count) in &self.datasets {
            metrics::counter!("watchbell_ingest_log_records_total", "dataset" => *dataset).increment(*count);
        }
        for (flag, count) in &self.flags {
            metrics::counter!("watchbell_ingest_flaws_total", "reason" => *flag, "outcome" => "repaired")
                .increment(*count);
        }
    }
}

#[cfg(test)]
mod tests;
