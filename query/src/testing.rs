//! Events and an index for tests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use watchbell_event::predicate::Predicate;
use watchbell_event::stored::{self, Packed};
use watchbell_event::{Envelope, EventId, Format, Position, Record, Timestamp};

use crate::{Config, Index, SearchRequest, SearchResponse, Searcher, parse};

pub(crate) const NOON: &str = "2026-01-31T12:00:00Z";

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A record that arrived `seconds` after noon and happened a second before.
pub(crate) fn record(offset: u64, seconds: i64, json: &str) -> Record {
    let received_at = time(NOON).plus_micros(seconds * 1_000_000);
    Record {
        position: Position { partition: 0, offset },
        envelope: Envelope {
            id: EventId::from_hash(&blake3::hash(format!("{offset} {json}").as_bytes())),
            received_at,
            event_time: received_at.plus_micros(-1_000_000),
            source: Arc::from("audit"),
            cluster: Arc::from(if offset.is_multiple_of(2) { "prod" } else { "test" }),
            format: Format::KubernetesAudit,
            peer: None,
            history: false,
            bytes: Bytes::from(json.to_owned()),
        },
    }
}

/// Records as the log keeps them together.
pub(crate) fn packed(records: &[Record]) -> Packed {
    let mut raw = Vec::new();
    for record in records {
        stored::write_with_length(&record.envelope, &mut raw);
    }
    Packed { payload: zstd::bulk::compress(&raw, 1).unwrap().into(), raw_len: raw.len() }
}

pub(crate) fn small() -> Config {
    Config { heap_bytes: 15_000_000, retention_days: 7, ..Config::default() }
}

/// An index with these events committed in two segments, arrived a second apart.
pub(crate) fn index_of(events: &[&str]) -> (TempDir, Index) {
    let dir = TempDir::new().unwrap();
    let mut index = Index::open(small(), dir.path()).unwrap();
    let records: Vec<Record> = (0..).zip(events).map(|(n, json)| record(n, n as i64, json)).collect();
    let (first, second) = records.split_at(records.len() / 2);
    for half in [first, second] {
        index.add(half).unwrap();
        index.commit().unwrap();
    }
    (dir, index)
}

pub(crate) fn request(query: &str) -> SearchRequest {
    request_for(parse(query).unwrap())
}

pub(crate) fn request_for(query: Predicate) -> SearchRequest {
    SearchRequest { limit: 1000, ..SearchRequest::new(query, Instant::now() + Duration::from_secs(60)) }
}

pub(crate) fn ids(response: &SearchResponse) -> Vec<EventId> {
    response.hits.iter().map(|hit| hit.id).collect()
}

/// All events on all pages.
pub(crate) fn all_events(searcher: &Searcher) -> Vec<String> {
    let mut request = request("*");
    let mut events = Vec::new();
    loop {
        let response = searcher.search(&request).unwrap();
        events.extend(response.hits.iter().map(|hit| hit.event.get().to_owned()));
        match response.next_cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => return events,
        }
    }
}
