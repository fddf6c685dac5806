//! Detection: Sigma rules in, detections out. Pure and synchronous: no I/O, no clock, no panics on any input.
//!
//! ```text
//! files ──load──► Rule ──compile──► RuleSet ──Evaluator──► indexes of rules that match an event
//!                                      └──────Detector───► Detection, for alerting
//! ```
//!
//! What rules mean is decided in `SEMANTICS.md`. The rules that ship are in [`library`].

mod compile;
mod detect;
mod evaluate;
mod expression;
mod formula;
mod json;
pub mod library;
mod load;
mod pattern;
mod problems;
mod rule;
pub mod samples;
mod sigma;
mod text;

pub use compile::{RuleSet, Traffic};
pub use detect::Detector;
pub use evaluate::{Evaluator, MAX_DEPTH};
pub use load::{Loaded, load, override_rules};
pub use problems::LoadError;
pub use rule::{LogSource, Rule};
