//! Detection: Sigma and Falco rules in, detections out. Pure and synchronous: no I/O, no clock, no panics on any input.
//!
//! ```text
//! files ──load──► Rule ──compile──► RuleSet ──Evaluator──► indexes of rules that match an event
//!                                      └──────Detector───► Detection, for alerting
//! ```
//!
//! What rules mean is decided in `SEMANTICS.md`. The rules that ship are in [`library`].

mod audit_policy;
mod compile;
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
mod load;
mod pattern;
mod problems;
mod rule;
pub mod samples;
mod schema;
mod sigma;
mod text;

pub use audit_policy::{
    AuditLevel, AuditPolicy, Decision, GroupResources, PolicyRule, Request, Resource, STAGES,
    generate as generate_audit_policy,
};
pub use compile::RuleSet;
pub use coverage::{Cell, TACTICS, coverage};
pub use detect::Detector;
pub use evaluate::{Evaluator, MAX_DEPTH};
pub use explain::{Part, Verdict, explain};
pub use lint::{Finding, FindingKind, lint, lint_text};
pub use load::{Loaded, load, override_rules};
pub use problems::LoadError;
pub use rule::{Language, LogSource, Rule};
