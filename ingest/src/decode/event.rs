use std::borrow::Cow;

use bytes::Bytes;
use watchbell_event::{Envelope, Format, Timestamp};

use super::{DecodeLimits, Origin, Reason, repair};
use crate::identity;
use crate::json::{self, Edit, Flaw, Kind, Limits, SyntaxError, Tape, Value};
use crate::redact::Redactor;

/// Makes envelopes of the events of one body.
pub(super) struct Decoder<'a> {
    origin: &'a Origin,
    limits: &'a DecodeLimits,
    redactor: &'a Redactor,
    /// Reused from event to event.
    tape: Tape,
    canonical: Vec<u8>,
}

/// An event, and what had to be repaired to keep it.
pub(super) struct Kept {
    pub(super) envelope: Envelope,
    pub(super) repaired: Option<Reason>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(origin: &'a Origin, limits: &'a DecodeLimits, redactor: &'a Redactor) -> Self {
        Self { origin, limits, redactor, tape: Tape::default(), canonical: Vec::new() }
    }

    pub(super) fn limits(&self) -> &DecodeLimits {
        self.limits
    }

    /// JSON that is rejected as it goes into quarantine.
    pub(super) fn withhold_secrets(&self, bytes: &Bytes) -> Bytes {
        withhold_secrets(bytes, self.limits, self.redactor)
    }

    /// Reads the value that begins at `start` and returns where it ends. It is the subject of the next
    /// call of [`Self::decode`].
    pub(super) fn parse(&mut self, body: &[u8], start: usize) -> Result<usize, SyntaxError> {
        let end = json::parse(body, start, repair::parse_limits(self.limits), &mut self.tape)
            .map_err(|error| SyntaxError { offset: start + error.offset, ..error })?;
        Ok(start + end)
    }

    /// Makes an envelope of the value just parsed, whose bytes are `bytes`. `in_list` says that the list
    /// around it has already said what its items are.
    pub(super) fn decode(&mut self, bytes: &Bytes, in_list: bool) -> Result<Kept, Reason> {
        let (text, repaired) = repair::repair(bytes, self.limits, &mut self.tape)?;
        let event = self.tape.root(&text).ok_or(Reason::NotAnObject)?;
        let claimed = check(event, in_list)?;
        let edits = self.redactor.redact(event);
        let redacted = (!edits.is_empty()).then(|| json::apply(&text, edits));
        if let Some(redacted) = &redacted {
            self.parse(redacted.as_bytes(), 0).map_err(|error| Reason::Syntax(error.reason))?;
        }
        let stored = redacted.map_or(text, Cow::Owned);
        let event = self.tape.root(&stored).ok_or(Reason::NotAnObject)?;
        let origin = self.origin;
        let envelope = Envelope {
            id: identity::event_id(&origin.cluster, event, &mut self.canonical),
            received_at: origin.received_at,
            event_time: Timestamp::event_time(claimed, origin.received_at),
            source: origin.source.clone(),
            cluster: origin.cluster.clone(),
            format: Format::KubernetesAudit,
            peer: origin.peer,
            history: origin.history,
            bytes: match stored {
                Cow::Borrowed(_) => bytes.clone(),
                Cow::Owned(changed) => changed.into(),
            },
        };
        Ok(Kept { envelope, repaired })
    }
}

/// Members of an event that hold no secret, whatever is wrong with it. They stay in what is quarantined.
const HARMLESS: [&str; 7] = [
    "user",
    "impersonatedUser",
    "objectRef",
    "sourceIPs",
    "responseStatus",
    "annotations",
    "authenticationMetadata",
];
/// Stands in the place of what could not be redacted.
const WITHHELD: &str = "\"left out by watchbell: it may hold secrets\"";

/// JSON that is no good event, without secrets. What cannot be relied on to be found by their names, because
/// names are given twice or not all was read, goes as a whole.
fn withhold_secrets(bytes: &Bytes, limits: &DecodeLimits, redactor: &Redactor) -> Bytes {
    let text = String::from_utf8_lossy(bytes);
    let mut tape = Tape::default();
    let mut parse = |limits| json::parse(text.as_bytes(), 0, limits, &mut tape).is_ok();
    let full = repair::parse_limits(limits);
    if !parse(full) {
        return bytes.clone();
    }
    if tape.flaws() == [Flaw::TooManyValues] {
        // one level only
        json::parse(text.as_bytes(), 0, Limits { depth: 1, ..full }, &mut tape).ok();
    }
    let Some(value) = tape.root(&text) else { return Bytes::from_static(WITHHELD.as_bytes()) };
    let withheld =
        |value: Value<'_>| Edit { range: value.start()..value.end(), replacement: WITHHELD.into() };
    let mut edits = redactor.redact_any(value);
    if !tape.flaws().is_empty() && value.kind() != Kind::Object {
        edits.push(withheld(value));
    }
    if !tape.flaws().is_empty() {
        let is_harmless = |key: Value<'_>| HARMLESS.iter().any(|name| key.is(name));
        let doubtful = value.members().filter(|(key, value)| {
            key.is("requestURI") || !matches!(value.kind(), Kind::Plain | Kind::Number) && !is_harmless(*key)
        });
        edits.extend(doubtful.map(|(_, value)| withheld(value)));
    }
    edits.extend(tape.flaws().iter().filter_map(|flaw| match flaw {
        Flaw::TooDeep(range) => Some(Edit { range: range.clone(), replacement: WITHHELD.into() }),
        _ => None,
    }));
    match edits.is_empty() {
        true => bytes.clone(),
        false => json::apply(&text, edits).into(),
    }
}

/// Checks that this is an audit event, and returns when it says it happened: the first of its times that is
/// one, as [`watchbell_event::audit::AuditEvent::claimed_time`] reads it.
fn check(event: Value<'_>, in_list: bool) -> Result<Option<Timestamp>, Reason> {
    if event.kind() != Kind::Object {
        return Err(Reason::NotAnObject);
    }
    let [kind, api_version, audit_id, stage_time, request_time, early_time] = event.pick([
        "kind",
        "apiVersion",
        "auditID",
        "stageTimestamp",
        "requestReceivedTimestamp",
        "timestamp",
    ]);
    if kind.is_some_and(|kind| !kind.is("Event")) || api_version.is_some_and(|version| !is_audit(version)) {
        return Err(wrong_kind(kind, api_version));
    }
    let named = in_list || api_version.is_some();
    if !named && audit_id.and_then(|id| id.as_text()).is_none() {
        return Err(Reason::NotAnEvent);
    }
    let mut times = [stage_time, request_time, early_time].into_iter().flatten();
    Ok(times.find_map(|time| time.as_text()?.parse().ok()))
}

/// True for the versions of the audit API that are read.
pub(super) fn is_audit(api_version: Value<'_>) -> bool {
    api_version.is("audit.k8s.io/v1") || api_version.is("audit.k8s.io/v1beta1")
}

pub(super) fn wrong_kind(kind: Option<Value<'_>>, api_version: Option<Value<'_>>) -> Reason {
    let text = |value: Option<Value<'_>>| match value {
        Some(value) => value.as_text().unwrap_or_else(|| value.raw().into()).chars().take(64).collect(),
        None => String::new(),
    };
    Reason::WrongKind { kind: text(kind), api_version: text(api_version) }
}
