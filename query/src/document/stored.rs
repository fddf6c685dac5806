//! What the index keeps of an event: `ID TAB SOURCE TAB CLUSTER-LENGTH TAB CLUSTER EVENT`, as one text.

use std::fmt::Write;

use watchbell_event::{Envelope, EventId};

/// Writes what is stored, and says where in it the event's own bytes begin.
pub(super) fn write(envelope: &Envelope) -> (String, usize) {
    let event = String::from_utf8_lossy(&envelope.bytes);
    let cluster: &str = &envelope.cluster;
    let mut text = String::with_capacity(64 + cluster.len() + event.len());
    // Writing to a String cannot fail.
    let _ = write!(text, "{}\t{}\t{}\t{cluster}", envelope.id, envelope.format, cluster.len());
    let event_start = text.len();
    text.push_str(&event);
    (text, event_start)
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
