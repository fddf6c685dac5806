//! Search: the index over the log, the query language and newest-first search.
//!
//! ```text
//! Record ──DocumentBuilder──► EventDocument ──► Index (partitions by day of arrival)
//!                                                 │ commit publishes
//! text ──parse──► Predicate ──► SearchRequest ──► Searcher ──► SearchResponse, ExportPage
//! ```
//!
//! Everything here is synchronous. [`Index`] has one owner, which adds and commits; [`Searcher`] is cloned
//! freely and sees what was committed last. The index can be deleted and is then rebuilt from the log.

pub mod bare;
mod document;
mod error;
mod index;
pub mod parse;
mod queue;
mod schema;
mod search;
#[cfg(test)]
mod testing;
mod words;

pub use error::{IndexError, SearchError};
pub use index::{Config, Index, Stats};
pub use parse::{ParseError, parse};
pub use search::{
    DEFAULT_LIMIT, ExportPage, Hit, MAX_EXPORTED, MAX_LIMIT, Relation, SearchRequest, SearchResponse,
    Searcher, TOTAL_BOUND, Total,
};
