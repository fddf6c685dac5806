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

use std::collections::BTreeSet;
use std::sync::Arc;

use watchbell_event::Format;

use crate::correlate;
use crate::formula::{Field, Formula, Test};
use crate::rule::Rule;

pub(crate) use atoms::{Atom, AtomId, FieldId, Timing, index};
pub(crate) use field::FieldIndex;
use normal::Condition;
pub(crate) use normal::Sign;
pub(crate) use paths::{Hot, Node, NodeId, Paths, ROOT};
pub(crate) use plan::{Guard, Plan};
pub(crate) use program::{Programs, Step};
pub(crate) use starve::Starvation;
pub use traffic::Traffic;

/// Rules, compiled. Never changes; an [`Evaluator`](crate::Evaluator) per thread runs it.
pub struct RuleSet {
    rules: Arc<[Rule]>,
    /// How the correlations among them are connected.
    pub(crate) correlations: Arc<correlate::Plan>,
    pub(crate) conditions: Programs,
    pub(crate) atoms: Vec<Atom>,
    pub(crate) fields: Vec<FieldIndex>,
    pub(crate) paths: Paths,
    pub(crate) plan: Plan,
    pub(crate) starvation: Vec<Starvation>,
    /// The field that every scalar of an event belongs to, if some rule has keywords.
    pub(crate) anywhere: Option<Anywhere>,
    /// Facets that no single path holds, for the fields that some rule reads.
    pub(crate) facets: Vec<(Facet, FieldId)>,
    /// The fields that correlations read, by their numbers in the plan of correlations.
    pub(crate) counted: Vec<Option<FieldId>>,
    /// Some rule reads a value that is computed from the event's document.
    pub(crate) derives: bool,
    /// The rules that look at log lines, under the same indexes. They are apart so that nothing they read is looked
    /// for in audit events.
    pub(crate) logs: Option<Arc<RuleSet>>,
}

/// The field that every scalar of an event belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anywhere {
    pub(crate) field: FieldId,
    /// Its values are read in a pass of their own when a rule that may still match asks for them. Otherwise rules are
    /// found by them, and nothing of an event can be stepped over.
    pub(crate) on_demand: bool,
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

/// What traffic has taught about the atoms of a set.
struct Learned {
    /// What they test, those first that are true most often: what belongs to these lies close together then, and stays
    /// in fast caches however many others there are.
    tests: Vec<Arc<Test>>,
    /// In that order, too.
    traffic: Traffic,
}

impl Learned {
    fn new(atoms: &[Atom], traffic: &Traffic) -> Self {
        let mut order: Vec<usize> = (0..atoms.len()).collect();
        order.sort_by_key(|atom| std::cmp::Reverse(traffic.count_of(*atom)));
        let tests = order.iter().map(|atom| Arc::clone(&atoms[*atom].test)).collect();
        Self { tests, traffic: traffic.in_order(&order) }
    }
}

impl RuleSet {
    /// Compiles rules; their order is that of the indexes in [`Evaluator::matches`](crate::Evaluator::matches).
    #[must_use]
    pub fn compile(rules: Vec<Rule>) -> Self {
        let correlations = Arc::new(correlate::link(&rules).0);
        let logs = Self::of_logs(&rules, &correlations).map(Arc::new);
        Self::of_rules(rules.into(), correlations, logs, None)
    }

    /// Compiles the same rules again, to be found by what is rarest in the traffic that an
    /// [`Evaluator`](crate::Evaluator) of this set has seen. It takes as long as compiling, and matches the same.
    #[must_use]
    pub fn replan(&self, traffic: &Traffic) -> Self {
        let learned = Learned::new(&self.atoms, traffic);
        Self::of_rules(self.rules.clone(), self.correlations.clone(), self.logs.clone(), Some(&learned))
    }

    /// Whether another set is of the same rules and differs at most in how they are found.
    #[must_use]
    pub fn has_rules_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rules, &other.rules)
    }

    fn of_rules(
        rules: Arc<[Rule]>,
        correlations: Arc<correlate::Plan>,
        logs: Option<Arc<Self>>,
        learned: Option<&Learned>,
    ) -> Self {
        let set = Self::of_format(&rules, &correlations, Format::KubernetesAudit, learned);
        Self { rules, correlations, logs, ..set }
    }

    /// Compiles the rules that look at log lines; none if there are none.
    fn of_logs(rules: &[Rule], correlations: &correlate::Plan) -> Option<Self> {
        let some = rules.iter().any(|rule| rule.format == Format::Log && !rule.is_correlation());
        some.then(|| Self::of_format(rules, correlations, Format::Log, None))
    }

    /// Compiles the rules that look at events of one format; the others keep their indexes and never match.
    fn of_format(
        rules: &[Rule],
        correlations: &correlate::Plan,
        format: Format,
        learned: Option<&Learned>,
    ) -> Self {
        let subject = if format == Format::Log { Subject::Log } else { Subject::Event };
        let mut table = learned.map(|learned| atoms::Table::of(&learned.tests)).unwrap_or_default();
        let never = Formula::Any(Vec::new());
        let mut conditions = Vec::with_capacity(rules.len());
        for rule in rules {
            let formula = if rule.format == format { &rule.formula } else { &never };
            conditions.push(normal::normalize(formula, &mut table));
        }
        let of_format = rules.iter().enumerate().filter(|(_, rule)| rule.format == format);
        let read: BTreeSet<&str> = of_format.flat_map(|(index, _)| correlations.fields_read(index)).collect();
        let names = correlations.fields.iter().map(|name| Some(&**name).filter(|name| read.contains(name)));
        let counted = table.keep(names);
        let traffic = learned.map(|learned| &learned.traffic);
        Self { counted, ..Self::of_conditions(subject, conditions, table, traffic) }
    }

    /// Compiles what must hold for a member of an array.
    pub(crate) fn of_member(body: &Formula) -> Self {
        let mut table = atoms::Table::default();
        let conditions = vec![normal::normalize(body, &mut table)];
        Self::of_conditions(Subject::Member, conditions, table, None)
    }

    fn of_conditions(
        subject: Subject,
        conditions: Vec<Condition>,
        mut table: atoms::Table,
        traffic: Option<&Traffic>,
    ) -> Self {
        let mut estimates = plan::Estimates::prior(&table.atoms, &conditions);
        if let Some(traffic) = traffic {
            estimates.learn(traffic);
        }
        let conditions: Vec<_> =
            conditions.into_iter().map(|condition| plan::order(condition, &estimates)).collect();
        let plan = Plan::new(conditions.iter(), &table.atoms, &estimates);
        let (mut paths, rests) = match subject {
            Subject::Event => (Paths::new(), Starvation::all(&conditions, &table.atoms, &estimates)),
            Subject::Log | Subject::Member => (Paths::of_member(), Vec::new()),
        };
        let plans = rests.iter().map(|rests| &rests.plan).chain([&plan]);
        table.decide_always(plans.flat_map(|plan| plan.candidates.atoms()));
        let starvation = rests.into_iter().map(|rests| Starvation::new(rests, &table.atoms)).collect();
        let conditions = Programs::new(&conditions, &table.atoms);
        let mut anywhere = None;
        let mut facets = Vec::new();
        let mut derives = false;
        for (id, field) in table.fields() {
            match field {
                Field::Anywhere => {
                    let mut atoms = table.atoms.iter().filter(|atom| atom.field == id);
                    let on_demand =
                        subject != Subject::Member && atoms.all(|atom| atom.timing != Timing::Always);
                    anywhere = Some(Anywhere { field: id, on_demand });
                }
                Field::Derived(_) => derives = true,
                Field::Path(path) => {
                    paths.add_field(path, id);
                    match facet(path).filter(|_| subject == Subject::Event) {
                        Some(Source::Path(path)) => paths.add_field(path, id),
                        Some(Source::Computed(facet)) => facets.push((facet, id)),
                        None => {}
                    }
                }
            }
        }
        for (id, atom) in table.atoms.iter().enumerate() {
            if let (Some(_), Field::Path(path)) = (&atom.members, &atom.test.field) {
                paths.add_array(path, table.atoms[id].field);
            }
        }
        if subject != Subject::Member {
            paths.mark_parts();
        }
        let fields = table.field_indexes();
        Self {
            rules: Arc::default(),
            correlations: Arc::default(),
            conditions,
            atoms: table.atoms,
            fields,
            paths,
            plan,
            starvation,
            anywhere,
            facets,
            counted: Vec::new(),
            derives,
            logs: None,
        }
    }

    /// The rules, in the order of their indexes.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether any rule is a correlation.
    #[must_use]
    pub fn has_correlations(&self) -> bool {
        !self.correlations.is_empty()
    }

    /// Whether an event may have to be read once more after the first pass.
    pub(crate) fn reads_again(&self) -> bool {
        self.derives || self.anywhere.is_some_and(|anywhere| anywhere.on_demand)
    }

    /// Whether a rule only feeds correlations and makes no alert itself.
    #[must_use]
    pub fn is_silent(&self, rule: usize) -> bool {
        self.correlations.silent.get(rule).copied().unwrap_or(false)
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

/// What a set is compiled for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Event,
    /// A log document, in which facets are fields of its own.
    Log,
    /// A member of an array, which has neither facets nor missing parts.
    Member,
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
