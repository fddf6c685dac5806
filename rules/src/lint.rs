//! Finds rules that are sound and yet can never match, and those that an audit policy starves.

mod impossible;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use watchbell_event::Format;

use crate::audit_policy::{AuditLevel, AuditPolicy};
use crate::correlate;
use crate::demand::{self, Demand, Demands, OTHER_GROUP};
use crate::formula::{Check, Field, Formula, Test};
use crate::lists::{List, Lists};
use crate::rule::Rule;
use crate::schema;

pub use text::lint_text;

/// Most examples of requests in one finding.
const MAX_EXAMPLES: usize = 5;

/// Something about a rule that its author did not want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file of the rule.
    pub file: String,
    /// The line it concerns.
    pub line: usize,
    /// The rule's title.
    pub rule: String,
    /// What kind of finding it is.
    pub kind: FindingKind,
    /// In one line.
    pub message: String,
}

/// Kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// The rule matches no event at all.
    NeverMatches,
    /// A part of the condition asks one value to be two things at once.
    Impossible,
    /// A field that no audit event has.
    UnknownField,
    /// A selection that no condition uses.
    UnusedSelection,
    /// An exclusion that excludes nothing, as its condition lacks `not`.
    FilterWithoutNot,
    /// Something that the rule says about itself is no text, and left out.
    NotText,
    /// The audit policy does not log what the rule reads.
    Starved,
}

impl FindingKind {
    /// The name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NeverMatches => "never-matches",
            Self::Impossible => "impossible",
            Self::UnknownField => "unknown-field",
            Self::UnusedSelection => "unused-selection",
            Self::FilterWithoutNot => "filter-without-not",
            Self::NotText => "not-text",
            Self::Starved => "starved",
        }
    }
}

/// What is wrong with rules that run together, where these lists are in force; with a policy also where that logs too
/// little for them.
#[must_use]
pub fn lint(rules: &[Rule], lists: &Lists, policy: Option<&AuditPolicy>) -> Vec<Finding> {
    let demands = demand::demands_of(rules);
    let (plan, _) = correlate::link(rules);
    let counted_rules = correlate::counted_rules(rules);
    let never = |index: usize| demands[index].as_ref().is_some_and(Demands::are_none);
    let mut findings = Vec::new();
    for (index, (rule, demands)) in rules.iter().zip(&demands).enumerate() {
        let mut add = |kind, message: String| {
            findings.push(Finding {
                file: rule.file.to_string(),
                line: rule.line,
                rule: rule.title.to_string(),
                kind,
                message,
            });
        };
        // log lines have whatever members their programs write
        let has_schema = rule.format == Format::KubernetesAudit;
        let unknown = has_schema.then(|| unknown_fields(rule, plan.fields_read(index)));
        for name in unknown.into_iter().flatten() {
            add(FindingKind::UnknownField, format!("no audit event has a field {name:?}"));
        }
        if let Some(message) = rule.correlation.as_deref().and_then(impossible::unreachable_count) {
            add(FindingKind::NeverMatches, message);
        }
        let Some(demands) = demands else {
            for counted in counted_rules[index].iter().filter(|counted| never(**counted)) {
                let title = &rules[*counted].title;
                add(
                    FindingKind::NeverMatches,
                    format!("it counts the rule {title:?}, which no event can satisfy"),
                );
            }
            continue;
        };
        for message in impossible::contradictions(&rule.formula) {
            add(FindingKind::Impossible, message);
        }
        let waits = rule.lists.iter().filter_map(|name| lists.get(name)).any(is_open);
        if demands.are_none() && !waits {
            add(FindingKind::NeverMatches, "no event can satisfy the condition".to_owned());
        }
        for message in policy.into_iter().flat_map(|policy| starving(&demands.demands, policy)) {
            add(FindingKind::Starved, message);
        }
    }
    findings
}

/// Whether a list is still to be filled by an operator: rules that name what is in it or what is not are silent until
/// then.
fn is_open(list: &List) -> bool {
    list.values.is_empty() || list.values.iter().any(|value| value == "*")
}

/// Fields that no audit event has and that the rule does not only test for absence, or that correlations over it read.
fn unknown_fields<'a>(rule: &'a Rule, read: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = read.filter(|name| !schema::has_field(name)).collect();
    visit(&rule.formula, &mut |test| {
        for field in test.fields().filter(|field| !schema::has(field)) {
            if let (Field::Path(path), false) = (field, matches!(test.check, Check::Null)) {
                names.push(path);
            }
        }
    });
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names
}

fn visit<'a>(formula: &'a Formula, found: &mut impl FnMut(&'a Test)) {
    match formula {
        Formula::All(parts) | Formula::Any(parts) => parts.iter().for_each(|part| visit(part, found)),
        Formula::Not(part) => visit(part, found),
        Formula::Test(test) => found(test),
    }
}

/// For each rule of the policy that logs too little, what to change.
fn starving(demands: &[Demand], policy: &AuditPolicy) -> Vec<String> {
    // By line of the policy's rule (0: none matches), its level, and what is needed.
    let mut starved: BTreeMap<(usize, AuditLevel, AuditLevel, Option<&str>), Vec<String>> = BTreeMap::new();
    for Demand { shape, level, .. } in demands {
        let unknown = shape.object.as_ref().is_some_and(|object| object.group == OTHER_GROUP);
        // Bodies of resources that Kubernetes does not serve itself are not asked for: which group they are of is not
        // known here.
        if unknown && *level > AuditLevel::Metadata {
            continue;
        }
        let decision = policy.decide(&shape.request());
        let line = decision.rule.map_or(0, |rule| rule.line);
        let omitted = decision.omits_stage(&shape.stage).then_some(shape.stage.as_str());
        if decision.level < *level || omitted.is_some() {
            let examples = starved.entry((line, decision.level, *level, omitted)).or_default();
            let example = shape.describe();
            if !examples.contains(&example) {
                examples.push(example);
            }
        }
    }
    let starved = starved.into_iter();
    starved
        .map(|((line, has, needs, omitted), examples)| advice(line, has, needs, omitted, &examples))
        .collect()
}

fn advice(
    line: usize,
    has: AuditLevel,
    needs: AuditLevel,
    omitted: Option<&str>,
    examples: &[String],
) -> String {
    let mut shown = examples.iter().take(MAX_EXAMPLES).cloned().collect::<Vec<_>>().join(", ");
    if examples.len() > MAX_EXAMPLES {
        shown.push_str(&format!(" and {} more", examples.len() - MAX_EXAMPLES));
    }
    if let Some(stage) = omitted.filter(|_| has >= needs) {
        return format!(
            "the policy omits stage {stage}, which the rule is about ({shown}); take it out of omitStages"
        );
    }
    let (has, needs) = (has.name(), needs.name());
    match line {
        0 => format!("no rule of the policy matches {shown}; add one with level {needs}"),
        _ => format!("line {line} of the policy logs {shown} at {has}; the rule needs {needs}"),
    }
}

#[cfg(test)]
mod tests;
