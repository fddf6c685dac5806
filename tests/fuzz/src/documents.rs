//! What has to hold of log documents, whatever they are made of.

use std::collections::HashSet;

use serde_json::Value;
use watchbell_event::{Envelope, Format, Timestamp};
use watchbell_ingest::decode::logs::{LogLimits, Sequence};
use watchbell_ingest::decode::{Decoded, Origin};
use watchbell_ingest::redact::Redactor;

pub fn origin() -> Origin {
    Origin {
        source: "fuzz".into(),
        cluster: "fuzzed".into(),
        peer: None,
        received_at: Timestamp::from_micros(1_770_000_000_000_000),
        history: false,
    }
}

pub fn delivery() -> Sequence {
    Sequence::delivery(&origin(), b"1")
}

pub fn redactor() -> Redactor {
    Redactor::new([7; 32], vec!["password".to_owned()])
}

/// Those of the server, and tight ones.
pub fn limits() -> [LogLimits; 2] {
    [LogLimits::default(), LogLimits { line_bytes: 64, depth: 3, values: 20, records: 8 }]
}

/// All records are kept or rejected within the limit, sound, and have identities of their own.
pub fn all_sound(decoded: &Decoded, limits: &LogLimits) {
    assert!(decoded.envelopes.len() + decoded.rejected.len() <= limits.records);
    let ids: HashSet<_> = decoded.envelopes.iter().map(|envelope| envelope.id).collect();
    assert_eq!(ids.len(), decoded.envelopes.len());
    for envelope in &decoded.envelopes {
        sound(envelope);
    }
}

/// The document, which is one JSON object with all that search and rules rely on.
pub fn sound(envelope: &Envelope) -> Value {
    assert_eq!(envelope.format, Format::Log);
    let document: Value = serde_json::from_slice(&envelope.bytes).expect("a document that is not JSON");
    let time = document["@timestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    assert!(time.is_some() && document["event.dataset"].is_string(), "{document}");
    document
}
