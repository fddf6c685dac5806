//! Compiles rules into one structure whose evaluation costs hardly more with more rules.
//!
//! ```text
//! Formula ──normal──► Condition over shared atoms ──plan──► by which atoms each rule is found
//!                        │
//!                        ├──► Paths: which fields to read          (paths)
//!                        └──► FieldIndex: which atoms a value makes true  (field)
//! ```

mod atoms;
mod field;
mod normal;
mod paths;
mod plan;
mod program;
mod starve;
mod traffic;

use std::sync::Arc;

use crate::formula::Field;
use crate::rule::Rule;

pub(crate) use atoms::{Atom, AtomId, FieldId, Timing, index};
pub(crate) use field::FieldIndex;
pub(crate) use normal::Sign;
pub(crate) use paths::{Hot, Node, NodeId, Paths, ROOT};
pub(crate) use plan::{Guard, Plan};
pub(crate) use program::{Programs, Step};
pub(crate) use starve::{Bodies, Starvation};
pub use traffic::Traffic;

/// Rules, compiled. Never changes; an [`Evaluator`](crate::Evaluator) per thread runs it.
pub struct RuleSet {
    rules: Arc<[Rule]>,
    pub(crate) conditions: Programs,
    pub(crate) atoms: Vec<Atom>,
    pub(crate) fields: Vec<FieldIndex>,
    pub(crate) paths: Paths,
    pub(crate) plan: Plan,
    pub(crate) starvation: Vec<Starvation>,
    /// The field that every scalar of an event belongs to, if some rule has keywords.
    pub(crate) anywhere: Option<FieldId>,
    /// Facets that no single path holds, for the fields that some rule reads.
    pub(crate) facets: Vec<(Facet, FieldId)>,
}

/// A facet that is computed from several fields of an audit event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Facet {
    /// `user.name`
    Actor,
    /// `source.ip`
    SourceIp,
    /// `event.outcome`
    Outcome,
}

impl RuleSet {
    /// Compiles rules; their order is that of the indexes in [`Evaluator::matches`](crate::Evaluator::matches).
    #[must_use]
    pub fn compile(rules: Vec<Rule>) -> Self {
        Self::build(rules.into(), None)
    }

    /// Compiles the same rules again, to be found by what is rarest in the traffic that an
    /// [`Evaluator`](crate::Evaluator) of this set has seen. It takes as long as compiling, and matches the same.
    #[must_use]
    pub fn replan(&self, traffic: &Traffic) -> Self {
        Self::build(self.rules.clone(), Some(traffic))
    }

    /// Whether another set is of the same rules and differs at most in how they are found.
    #[must_use]
    pub fn has_rules_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rules, &other.rules)
    }

    /// Equal rules get equal atoms, whatever the traffic: it is counted by their ids.
    fn build(rules: Arc<[Rule]>, traffic: Option<&Traffic>) -> Self {
        let mut table = atoms::Table::default();
        let conditions: Vec<_> =
            rules.iter().map(|rule| normal::normalize(&rule.formula, &mut table)).collect();
        let mut estimates = plan::Estimates::prior(&table.atoms, &conditions);
        if let Some(traffic) = traffic {
            estimates.learn(traffic);
        }
        let conditions: Vec<_> =
            conditions.into_iter().map(|condition| plan::order(condition, &estimates)).collect();
        let plan = Plan::new(conditions.iter(), &table.atoms, &estimates);
        let rests = Starvation::all(&conditions, &table.atoms, &estimates);
        let plans = rests.iter().map(|rests| &rests.plan).chain([&plan]);
        table.decide_always(plans.flat_map(|plan| plan.candidates.atoms()));
        let starvation = rests.into_iter().map(|rests| Starvation::new(rests, &table.atoms)).collect();
        let conditions = Programs::new(&conditions, &table.atoms);
        let mut paths = Paths::new();
        let mut anywhere = None;
        let mut facets = Vec::new();
        for (id, field) in table.fields() {
            match field {
                Field::Anywhere => anywhere = Some(id),
                Field::Path(path) => {
                    paths.add_field(path, id);
                    match facet(path) {
                        Some(Source::Path(path)) => paths.add_field(path, id),
                        Some(Source::Computed(facet)) => facets.push((facet, id)),
                        None => {}
                    }
                }
            }
        }
        let fields = table.field_indexes();
        Self { rules, conditions, atoms: table.atoms, fields, paths, plan, starvation, anywhere, facets }
    }

    /// The rules, in the order of their indexes.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl std::fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleSet")
            .field("rules", &self.rules.len())
            .field("atoms", &self.atoms.len())
            .field("fields", &self.fields.len())
            .finish_non_exhaustive()
    }
}

/// Where an audit event keeps a facet.
enum Source {
    Path(&'static str),
    Computed(Facet),
}

fn facet(name: &str) -> Option<Source> {
    Some(match name {
        "user.name" => Source::Computed(Facet::Actor),
        "source.ip" => Source::Computed(Facet::SourceIp),
        "event.outcome" => Source::Computed(Facet::Outcome),
        "event.action" => Source::Path("verb"),
        "orchestrator.namespace" => Source::Path("objectRef.namespace"),
        "orchestrator.resource.type" => Source::Path("objectRef.resource"),
        "orchestrator.resource.name" => Source::Path("objectRef.name"),
        _ => return None,
    })
}
