//! Events for the tests of this crate.

use watchbell_event::{Envelope, EventId, Format, Timestamp};

/// An envelope that differs from that of every other number.
pub(crate) fn envelope(number: u64) -> Envelope {
    let received_at = Timestamp::from_micros(1_800_000_000_000_000 + number as i64 * 1000);
    Envelope {
        id: EventId::from_hash(&blake3::hash(&number.to_le_bytes())),
        received_at,
        event_time: received_at.plus_micros(-500),
        source: "audit".into(),
        cluster: "test".into(),
        format: Format::KubernetesAudit,
        peer: Some("10.0.0.1".parse().unwrap()),
        history: number % 2 == 1,
        bytes: format!(r#"{{"auditID":"{number:08}","verb":"get"}}"#).into(),
    }
}
