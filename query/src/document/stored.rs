//! What the index keeps of an event: `ID TAB SOURCE TAB CLUSTER-LENGTH TAB CLUSTER EVENT`, as one text.

use std::borrow::Cow;
use std::fmt::Write;

use watchbell_event::{Envelope, EventId};

/// The event as text. The log keeps only JSON, so anything else is a defect elsewhere and kept readable.
pub(super) fn event_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// Writes what is stored, and says where in it the event begins.
pub(super) fn write(text: &mut String, envelope: &Envelope, event: &str) -> usize {
    let cluster: &str = &envelope.cluster;
    for byte in envelope.id.0 {
        text.extend([hex_digit(byte >> 4), hex_digit(byte & 15)]);
    }
    // Writing to a String cannot fail.
    let _ = write!(text, "\t{}\t{}\t{cluster}", envelope.format.name(), cluster.len());
    let event_start = text.len();
    text.push_str(event);
    event_start
}

fn hex_digit(value: u8) -> char {
    char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 })
}

/// What the index kept of an event.
pub(crate) struct StoredEvent<'a> {
    pub(crate) id: EventId,
    pub(crate) source: &'a str,
    pub(crate) cluster: &'a str,
    pub(crate) event: &'a str,
}

impl<'a> StoredEvent<'a> {
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(4, '\t');
        let id = parts.next()?.parse().ok()?;
        let source = parts.next()?;
        let cluster_len: usize = parts.next()?.parse().ok()?;
        let (cluster, event) = parts.next()?.split_at_checked(cluster_len)?;
        Some(Self { id, source, cluster, event })
    }
}
