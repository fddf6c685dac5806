//! Correlations: rules over the matches of other rules, within sliding windows of event time.
//!
//! ```text
//! matches of base rules ──Fields──► entries of groups ──Window──► Fire ──► the correlations above it
//!                                        ▲                          └────► detections
//!                        Watermark ──────┘ decides what waited; forgets what no window can reach
//! ```
//!
//! Most groups stay far from what a condition asks for. As long as `reach.rs` tells that no window of a group can
//! fulfil it, the group waits for no watermark, and is touched only when an entry comes.
//!
//! The engine has no clock and does no I/O. What it holds is a function of the records it was given, so that
//! a snapshot and the records after it lead to the same state again. What correlations mean is decided in
//! `SEMANTICS.md`; `naive.rs` says it once more as plainly as possible.

mod aggregate;
mod correlator;
mod decisive;
mod engine;
mod fields;
mod groups;
mod model;
mod novelty;
mod plan;
mod reach;
mod snapshot;
mod state;
mod waiting;
mod watermark;
mod window;
mod wire;

pub use correlator::{Correlated, Correlator, Observed};
pub use engine::{CorrelationConfig, EventRef};
pub use plan::{counted_rules, with_counted};
pub use snapshot::{Restored, Snapshot, SnapshotError};
pub use state::CorrelationStats;

pub(crate) use model::{
    Bound, Comparison, Condition, Correlation, GroupField, Kind, MAX_COUNTED_FIELDS, MAX_REFERENCES,
    MAX_THRESHOLD, Presence, Reference,
};
pub(crate) use plan::{Plan, Refused, link};

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
