//! What tantivy stores of an event that is not kept as the log packed it: `ID TAB SOURCE TAB ARRIVAL TAB CLUSTER-LENGTH TAB CLUSTER EVENT`, as one text.
//!
//! `ARRIVAL` is `@` and the microseconds since 1970, with `h` behind them if the event is imported history. Indexes made
//! before arrivals were kept have no such part.

use std::borrow::Cow;
use std::fmt::Write;

use watchbell_event::{Envelope, EventId, Timestamp};

/// The event as text. The log keeps only JSON, so anything else is a defect elsewhere and kept readable.
pub(crate) fn event_text(bytes: &[u8]) -> Cow<'_, str> {
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
    let (source, arrival) = (envelope.format.name(), envelope.received_at.as_micros());
    let history = if envelope.history { "h" } else { "" };
    let _ = write!(text, "\t{source}\t@{arrival}{history}\t{}\t{cluster}", cluster.len());
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
    /// When it arrived, if that was kept.
    pub(crate) received_at: Option<Timestamp>,
    pub(crate) history: bool,
    pub(crate) cluster: &'a str,
    pub(crate) event: &'a str,
}

impl<'a> StoredEvent<'a> {
    /// What would be kept of an event; `event` is its text.
    pub(crate) fn of(envelope: &'a Envelope, event: &'a str) -> Self {
        Self {
            id: envelope.id,
            source: envelope.format.name(),
            received_at: Some(envelope.received_at),
            history: envelope.history,
            cluster: &envelope.cluster,
            event,
        }
    }

    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let (id, rest) = text.split_once('\t')?;
        let (source, mut rest) = rest.split_once('\t')?;
        let (mut received_at, mut history) = (None, false);
        if let Some(arrival) = rest.strip_prefix('@') {
            let (arrival, after) = arrival.split_once('\t')?;
            let micros = arrival.strip_suffix('h');
            history = micros.is_some();
            received_at = Some(Timestamp::from_micros(micros.unwrap_or(arrival).parse().ok()?));
            rest = after;
        }
        let (cluster_len, rest) = rest.split_once('\t')?;
        let (cluster, event) = rest.split_at_checked(cluster_len.parse().ok()?)?;
        Some(Self { id: id.parse().ok()?, source, received_at, history, cluster, event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    #[test]
    fn what_is_written_is_read_and_so_is_what_has_no_arrival() {
        let mut envelope = record(0, 7, "{\"a\":\"\t@\"}").envelope;
        for history in [false, true] {
            envelope.history = history;
            let event = event_text(&envelope.bytes);
            let mut text = String::new();
            let start = write(&mut text, &envelope, &event);
            assert_eq!(&text[start..], event);
            let read = StoredEvent::read(&text).unwrap();
            assert_eq!((read.id, read.source, read.cluster), (envelope.id, "kubernetes_audit", "prod"));
            assert_eq!((read.event, read.history), (&*event, history));
            assert_eq!(read.received_at, Some(envelope.received_at));
        }
        let old = format!("{}\tkubernetes_audit\t4\tprod{{}}", envelope.id);
        let read = StoredEvent::read(&old).unwrap();
        assert_eq!((read.received_at, read.history, read.cluster, read.event), (None, false, "prod", "{}"));
    }
}
