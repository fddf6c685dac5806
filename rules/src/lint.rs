//! Finds rules that are sound and yet can never match, and those that an audit policy starves.

mod impossible;
mod text;

use std::collections::BTreeMap;

use crate::audit_policy::{AuditLevel, AuditPolicy};
use crate::demand::{self, Demand, OTHER_GROUP};
use crate::formula::{Check, Field, Formula};
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
            Self::Starved => "starved",
        }
    }
}

/// What is wrong with a rule; with a policy also where that logs too little for it.
#[must_use]
pub fn lint(rule: &Rule, policy: Option<&AuditPolicy>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |kind, message: String| {
        findings.push(Finding {
            file: rule.file.to_string(),
            line: rule.line,
            rule: rule.title.to_string(),
            kind,
            message,
        });
    };
    for name in unknown_fields(&rule.formula) {
        add(FindingKind::UnknownField, format!("no audit event has a field {name:?}"));
    }
    for message in impossible::contradictions(&rule.formula) {
        add(FindingKind::Impossible, message);
    }
    let demands = demand::demands(&rule.formula);
    if demands.demands.is_empty() && !demands.cut {
        add(FindingKind::NeverMatches, "no event can satisfy the condition".to_owned());
    }
    if let Some(policy) = policy {
        for message in starving(&demands.demands, policy) {
            add(FindingKind::Starved, message);
        }
    }
    findings
}

/// Fields that no audit event has and that the rule does not only test for absence.
fn unknown_fields(formula: &Formula) -> Vec<&str> {
    let mut names = Vec::new();
    visit(formula, &mut |field, check| {
        if let Field::Path(path) = field
            && !schema::has_field(path)
            && !matches!(check, Check::Null)
            && !names.contains(&&**path)
        {
            names.push(path);
        }
    });
    names
}

fn visit<'a>(formula: &'a Formula, found: &mut impl FnMut(&'a Field, &'a Check)) {
    match formula {
        Formula::All(parts) | Formula::Any(parts) => parts.iter().for_each(|part| visit(part, found)),
        Formula::Not(part) => visit(part, found),
        Formula::Test(test) => found(&test.field, &test.check),
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
