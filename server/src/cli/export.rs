//! The events that a server keeps, in the order of its log.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use watchbell_event::{Envelope, EventId, Format, Position, Record, Timestamp};

use super::client::Client;

/// Most events of one page: enough to be quick, and soon there.
const PAGE: usize = 5_000;

/// An export on its way.
pub(crate) struct Export<'a> {
    client: &'a Client,
    /// Query and times.
    asked: Vec<(&'static str, String)>,
    cursor: Option<String>,
    ended: bool,
    taken: u64,
}

impl<'a> Export<'a> {
    /// Begins to export what a query finds between two times, each written as searches take it.
    pub(crate) fn new(client: &'a Client, query: &str, from: Option<&str>, to: Option<&str>) -> Self {
        let mut asked = vec![("q", query.to_owned())];
        for (name, time) in [("from", from), ("to", to)] {
            asked.extend(time.map(|time| (name, time.to_owned())));
        }
        Self { client, asked, cursor: None, ended: false, taken: 0 }
    }

    /// How many events it will be, if the server can tell at once. Should something be wrong, the first page says what.
    pub(crate) async fn total(&self) -> Option<u64> {
        let query = [&self.asked[..], &[("limit", "1".to_owned())]].concat();
        let answer = self.client.get("/api/v1/search", &query).await.ok()?;
        let total = &answer["total"];
        total["value"].as_u64().filter(|_| total["relation"] == "eq")
    }

    /// The next events; nothing at the end. Positions count them from 0.
    ///
    /// # Errors
    /// What the server said, or why it was not reached or not understood.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Record>>> {
        if self.ended {
            return Ok(None);
        }
        let mut query = self.asked.clone();
        query.push(("limit", PAGE.to_string()));
        query.extend(self.cursor.take().map(|cursor| ("cursor", cursor)));
        let (lines, cursor) = self.client.page("/api/v1/export", &query).await?;
        self.ended = cursor.is_none();
        self.cursor = cursor;
        let mut records = Vec::new();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            records.push(record(line, self.taken).context("the server's answer is not an export of events")?);
            self.taken += 1;
        }
        Ok(Some(records))
    }
}

/// One line of an export.
#[derive(Deserialize)]
struct Line<'a> {
    id: EventId,
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
    received_at: Option<Timestamp>,
    #[serde(default)]
    history: bool,
    #[serde(borrow)]
    cluster: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    event: &'a RawValue,
}

fn record(line: &[u8], number: u64) -> Result<Record> {
    let line: Line<'_> = serde_json::from_slice(line)?;
    let format: Format = line.source.parse()?;
    let envelope = Envelope {
        id: line.id,
        received_at: line.received_at.unwrap_or(line.timestamp),
        event_time: line.timestamp,
        source: Arc::from(format.name()),
        cluster: Arc::from(&*line.cluster),
        format,
        peer: None,
        history: line.history,
        bytes: Bytes::copy_from_slice(line.event.get().as_bytes()),
    };
    Ok(Record { position: Position { partition: 0, offset: number }, envelope })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_the_record_that_the_log_had() {
        let line = r#"{"id":"00112233445566778899aabbccddeeff","@timestamp":"2026-01-31T08:15:00.000001Z",
            "received_at":"2026-01-31T08:15:01.000000Z","history":true,"cluster":"a\"b",
            "source":"kubernetes_audit","event":{"verb":"get" }}"#
            .replace('\n', "");
        let Record { position, envelope } = record(line.as_bytes(), 7).unwrap();
        assert_eq!((position.offset, &*envelope.cluster, envelope.history), (7, "a\"b", true));
        assert_eq!(envelope.received_at.micros_since(envelope.event_time), 999_999);
        assert_eq!(&*envelope.bytes, br#"{"verb":"get" }"#);
        let unknown = line.replace("kubernetes_audit", "syslog");
        assert!(record(unknown.as_bytes(), 0).unwrap_err().to_string().contains("unknown format"));
    }
}
