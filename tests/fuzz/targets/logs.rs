//! Log lines: whatever stands in one, its document is sound, and nothing in it speaks for the agent.
#![no_main]

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use watchbell_event::log::LogDocument;
use watchbell_event::{Envelope, Format, Timestamp, secrets};
use watchbell_ingest::decode::Origin;
use watchbell_ingest::decode::logs::{
    BodyForm, CriLine, DockerLine, Field, LogLimits, LogRecord, Sequence, decode_log_body, decode_logs,
};
use watchbell_ingest::redact::Redactor;

/// A byte of a line may become six, in its message and in several fields.
const MAX_GROWTH: usize = 32;
const OVERHEAD_BYTES: usize = 4 << 10;

fuzz_target!(|data: &[u8]| {
    for limits in [LogLimits::default(), LogLimits { line_bytes: 64, depth: 3, values: 20, records: 8 }] {
        line(data, &limits);
        body(data, &limits);
    }
    let _ = (CriLine::parse(data), DockerLine::parse(data));
    if let Ok(text) = str::from_utf8(data) {
        let redacted = secrets::redact(text);
        assert!(redacted.len() <= text.len() * secrets::REDACTED.len());
    }
});

fn origin() -> Origin {
    Origin {
        source: "logs".into(),
        cluster: "fuzzed".into(),
        peer: None,
        received_at: Timestamp::from_micros(1_770_000_000_000_000),
        history: false,
    }
}

fn redactor() -> Redactor {
    Redactor::new([7; 32], vec!["password".to_owned()])
}

/// A line of a container of which the transport knows something.
fn line(data: &[u8], limits: &LogLimits) {
    let origin = origin();
    let record = LogRecord {
        time: None,
        line: Cow::Borrowed(data),
        cut: false,
        common: None,
        known: vec![(Field::OrchestratorNamespace, "shop".into()), (Field::SourceIp, "10.0.0.1".into())],
        attributes: Map::new(),
        format: None,
        identity: Sequence::delivery(&origin, b"1").id(0),
    };
    let envelope = decode_logs([record], &origin, limits, &redactor()).remove(0);
    let document = sound(&envelope);
    assert_eq!(document["orchestrator.namespace"], "shop");
    assert_eq!(document["source.ip"], "10.0.0.1");
    for key in
        ["orchestrator", "orchestrator.resource.name", "host.name", "container", "kubernetes", "source"]
    {
        assert_eq!(document.get(key), None, "{key} of {document}");
    }
    assert!(envelope.event_time <= envelope.received_at);
    assert!(envelope.bytes.len() <= data.len().min(limits.line_bytes) * MAX_GROWTH + OVERHEAD_BYTES);
    assert_eq!(LogDocument::parse(&envelope.bytes).namespace.as_deref(), Some("shop"));
}

/// A body of an agent: all its records are sound and have identities of their own.
fn body(data: &[u8], limits: &LogLimits) {
    let origin = origin();
    let delivery = Sequence::delivery(&origin, b"1");
    for form in [BodyForm::ByContent, BodyForm::Lines] {
        let body = Bytes::copy_from_slice(data);
        let Ok(decoded) = decode_log_body(&body, form, &origin, &delivery, limits, &redactor()) else {
            continue;
        };
        assert!(decoded.envelopes.len() + decoded.rejected.len() <= limits.records);
        let ids: HashSet<_> = decoded.envelopes.iter().map(|envelope| envelope.id).collect();
        assert_eq!(ids.len(), decoded.envelopes.len());
        decoded.envelopes.iter().for_each(|envelope| drop(sound(envelope)));
        decoded.rejected.iter().for_each(|rejected| assert!(rejected.place.offset <= data.len()));
    }
}

/// The document, which is one JSON object with all that search and rules rely on.
fn sound(envelope: &Envelope) -> Value {
    assert_eq!(envelope.format, Format::Log);
    let document: Value = serde_json::from_slice(&envelope.bytes).expect("a document that is not JSON");
    assert!(
        document["@timestamp"].as_str().is_some_and(|time| time.parse::<Timestamp>().is_ok()),
        "{document}"
    );
    assert!(document["event.dataset"].is_string(), "{document}");
    document
}
