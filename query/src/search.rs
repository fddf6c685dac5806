//! Newest-first search over the committed partitions, and their export in the order of the log.
//!
//! A search visits partitions, and in them segments, in the order of their newest event and skips what cannot
//! change the page. The total is exact while that is cheap: it is counted to the end if the query is one
//! exact value or everything, or if the request asks for it; else counting stops with the first segment that
//! is not needed for the page once [`TOTAL_BOUND`] is reached, and the relation says `gte`.

mod collect;
mod compile;
mod cursor;
mod export;
mod lookup;
mod snapshot;
mod window;

use std::time::Instant;

use serde::Serialize;
use serde_json::value::RawValue;
use watchbell_event::predicate::Predicate;
use watchbell_event::{EventId, Timestamp};

pub use collect::TOTAL_BOUND;
pub(crate) use cursor::load_key;
pub use export::{ExportPage, MAX_EXPORTED};
pub use snapshot::Searcher;
#[cfg(test)]
pub(crate) use snapshot::hit;
pub(crate) use snapshot::{Published, Shared};

/// Most hits of one page.
pub const MAX_LIMIT: usize = 1000;
/// Hits of a page unless the request says otherwise.
pub const DEFAULT_LIMIT: usize = 50;

/// What to search for.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// What the events must be like.
    pub query: Predicate,
    /// What was asked for, as it was asked: a cursor continues only the same question. Times relative to now
    /// and names that stand for other things mean something else on every page, so `query`, `from` and `to`
    /// themselves would not do.
    pub asked: String,
    /// Events that happened at this moment or later.
    pub from: Option<Timestamp>,
    /// Events that happened before this moment.
    pub to: Option<Timestamp>,
    /// Hits of the page; brought between 1 and [`MAX_LIMIT`].
    pub limit: usize,
    /// Where an earlier page ended.
    pub cursor: Option<String>,
    /// Count to the end, however long it takes.
    pub exact_total: bool,
    /// When to give up.
    pub deadline: Instant,
}

impl SearchRequest {
    /// The first page of all history.
    #[must_use]
    pub fn new(query: Predicate, deadline: Instant) -> Self {
        let asked = query.to_string();
        let limit = DEFAULT_LIMIT;
        Self { query, asked, from: None, to: None, limit, cursor: None, exact_total: false, deadline }
    }
}

/// One page.
#[derive(Debug, Serialize)]
pub struct SearchResponse {
    /// How many events match, on all pages.
    pub total: Total,
    /// The events, newest first.
    pub hits: Vec<Hit>,
    /// Where the next page begins; nothing after the last one. Events that arrive meanwhile do not shift it.
    pub next_cursor: Option<String>,
}

/// How many events match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Total {
    /// How many were counted.
    pub value: u64,
    /// Whether there may be more.
    pub relation: Relation,
}

/// How a count relates to the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// It is the truth.
    Eq,
    /// There are at least so many.
    Gte,
}

/// A found event.
#[derive(Debug, Serialize)]
pub struct Hit {
    /// Its identity.
    pub id: EventId,
    /// When it happened.
    #[serde(rename = "@timestamp")]
    pub timestamp: Timestamp,
    /// When it arrived; absent in an index that was made before this was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// It is imported history.
    pub history: bool,
    /// The cluster it belongs to.
    pub cluster: String,
    /// The name of its format.
    pub source: String,
    /// The event as the log keeps it.
    pub event: Box<RawValue>,
}

#[cfg(test)]
mod tests;
