//! Log lines: whatever stands in one, its document is sound, and nothing in it speaks for the agent.
#![no_main]

use std::borrow::Cow;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Map;
use watchbell_event::log::LogDocument;
use watchbell_event::secrets;
use watchbell_fuzz::documents::{all_sound, delivery, limits, origin, redactor, sound};
use watchbell_ingest::decode::logs::{
    BodyForm, CriLine, DockerLine, Field, LogLimits, LogRecord, decode_log_body, decode_logs,
};

/// A byte of a line may become six, in its message and in several fields.
const MAX_GROWTH: usize = 32;
const OVERHEAD_BYTES: usize = 4 << 10;

fuzz_target!(|data: &[u8]| {
    for limits in limits() {
        line(data, &limits);
        body(data, &limits);
    }
    let _ = (CriLine::parse(data), DockerLine::parse(data));
    if let Ok(text) = str::from_utf8(data) {
        let redacted = secrets::redact(text);
        assert!(redacted.len() <= text.len() * secrets::REDACTED.len());
    }
});

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
        identity: delivery().id(0),
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
    for form in [BodyForm::ByContent, BodyForm::Lines] {
        let body = Bytes::copy_from_slice(data);
        let decoded = decode_log_body(&body, form, &origin(), &delivery(), limits, &redactor());
        let Ok(decoded) = decoded else { continue };
        all_sound(&decoded, limits);
        decoded.rejected.iter().for_each(|rejected| assert!(rejected.place.offset <= data.len()));
    }
}
