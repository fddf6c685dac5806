//! Detection: Sigma and Falco rules in, detections out. Pure and synchronous: no I/O, no clock, no panics on any input.
//!
//! ```text
//! files ──load──► Rule ──compile──► RuleSet ──Evaluator──► indexes of rules that match an event
//!                                      ├──────Correlator─► Correlated, from matches over time
//!                                      └──────Detector───► Detection from both, for alerting
//! ```
//!
//! What rules mean is decided in `SEMANTICS.md`. The rules that ship are in [`library`].

mod audit_policy;
mod compile;
mod correlate;
mod coverage;
mod demand;
mod derived;
mod detect;
mod evaluate;
mod explain;
mod expression;
mod falco;
mod formula;
mod json;
pub mod library;
mod lint;
mod lists;
mod load;
mod moment;
pub mod mutate;
mod pattern;
mod problems;
mod rule;
pub mod samples;
mod schema;
mod sigma;
pub mod suite;
mod text;

pub use audit_policy::{
    AuditLevel, AuditPolicy, Decision, GroupResources, PolicyRule, Request, Resource, STAGES,
    generate as generate_audit_policy,
};
pub use compile::{RuleSet, Traffic};
pub use correlate::{
    Correlated, CorrelationConfig, CorrelationStats, Correlator, EventRef, Observed, Restored, Snapshot,
    SnapshotError, counted_rules, with_counted,
};
pub use coverage::{Cell, TACTICS, coverage};
pub use detect::Detector;
pub use evaluate::{Evaluator, MAX_DEPTH};
pub use explain::{Part, Verdict, explain};
pub use lint::{Finding, FindingKind, lint, lint_text};
pub use lists::{List, Lists};
pub use load::{Loaded, load, load_over};
pub use problems::LoadError;
pub use rule::{Language, LogSource, Rule, needed_bodies};
