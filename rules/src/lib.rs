//! Detection: Sigma rules in, detections out. Pure and synchronous: no I/O, no clock, no panics on any input.
//!
//! ```text
//! files ──load──► Rule ──compile──► RuleSet ──Evaluator──► indexes of rules that match an event
//!                                      ├──────Correlator─► Correlated, from matches over time
//!                                      └──────Detector───► Detection from both, for alerting
//! ```
//!
//! What rules mean is decided in `SEMANTICS.md`. The rules that ship are in [`library`].

mod compile;
mod correlate;
mod detect;
mod evaluate;
mod expression;
mod formula;
mod json;
pub mod library;
mod lists;
mod load;
mod moment;
pub mod mutate;
mod pattern;
mod problems;
mod rule;
pub mod samples;
mod sigma;
pub mod suite;
mod text;

pub use compile::RuleSet;
pub use correlate::{
    Correlated, CorrelationConfig, CorrelationStats, Correlator, EventRef, Observed, Restored, SnapshotError,
};
pub use detect::Detector;
pub use evaluate::{Evaluator, MAX_DEPTH};
pub use lists::{List, Lists};
pub use load::{Loaded, load, load_over};
pub use problems::LoadError;
pub use rule::{LogSource, Rule};
