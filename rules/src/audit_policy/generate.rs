//! The smallest policy that logs what a set of rules reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::AuditLevel;
use crate::demand::{self, OTHER_GROUP, OTHER_RESOURCE, Shape, VERBS};
use crate::rule::Rule;

/// Resources whose bodies hold secrets.
const SENSITIVE: [&str; 4] = ["secrets", "configmaps", "tokenreviews", "serviceaccounts/token"];

/// Words that mean something else than text to some reader of YAML.
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Group and resource, with a subresource if there is one.
type Kind = (String, String);
/// Resources by group.
type Kinds<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// Writes the smallest policy that feeds these rules: each verb of each resource at the least level
/// that decides every part of them.
#[must_use]
pub fn generate(rules: &[Rule]) -> String {
    let mut levels: BTreeMap<(Kind, String), AuditLevel> = BTreeMap::new();
    // What rules ask of any resource, or of requests for none.
    let mut others = AuditLevel::None;
    let mut stages: BTreeSet<String> = BTreeSet::new();
    for demand in demand::demands_of(rules).into_iter().flatten().flat_map(|demands| demands.demands) {
        stages.insert(demand.shape.stage.clone());
        match kind(&demand.shape) {
            Some(kind) => {
                let level = levels.entry((kind, demand.shape.verb.clone())).or_insert(AuditLevel::None);
                *level = demand.whole.max(*level);
            }
            // Nobody wants the bodies of everything in a log, only because a rule names no resource.
            None => others = others.max(demand.whole.min(AuditLevel::Metadata)),
        }
    }
    levels.retain(|_, level| *level > others);
    write(&levels, others, &stages)
}

/// The resource that a request is about, if the rule asked for that one.
fn kind(shape: &Shape) -> Option<Kind> {
    let object = shape.object.as_ref()?;
    if object.resource == OTHER_RESOURCE {
        return None;
    }
    // Of a resource that Kubernetes does not serve itself, the group is not known.
    let known = object.group != OTHER_GROUP;
    let group = if known { object.group.clone() } else { "*".to_owned() };
    let subresource = object.subresource.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
    Some((group, format!("{}{subresource}", object.resource)))
}

fn write(
    levels: &BTreeMap<(Kind, String), AuditLevel>,
    others: AuditLevel,
    stages: &BTreeSet<String>,
) -> String {
    let mut verbs_of: BTreeMap<(AuditLevel, &Kind), BTreeSet<&str>> = BTreeMap::new();
    for ((kind, verb), level) in levels {
        verbs_of.entry((*level, kind)).or_default().insert(verb);
    }
    let mut kinds_of: BTreeMap<(AuditLevel, BTreeSet<&str>), Kinds<'_>> = BTreeMap::new();
    for ((level, (group, resource)), verbs) in verbs_of {
        kinds_of.entry((level, verbs)).or_default().entry(group).or_default().push(resource);
    }
    let mut policy =
        "# What the enabled rules read, and no more. The first rule that matches a request decides.\n\
        apiVersion: audit.k8s.io/v1\nkind: Policy\n"
            .to_owned();
    if !stages.contains("RequestReceived") {
        policy.push_str("omitStages: [RequestReceived]\n");
    }
    policy.push_str("omitManagedFields: true\nrules:\n");
    for ((level, verbs), kinds) in kinds_of.iter().rev() {
        rule(&mut policy, *level, verbs, kinds);
    }
    let _ = writeln!(policy, "  - level: {}", others.name());
    policy
}

fn rule(policy: &mut String, level: AuditLevel, verbs: &BTreeSet<&str>, kinds: &Kinds<'_>) {
    let sensitive: Vec<_> =
        kinds.values().flatten().filter(|kind| SENSITIVE.contains(kind)).copied().collect();
    if level > AuditLevel::Metadata && !sensitive.is_empty() {
        let _ = writeln!(
            policy,
            "  # Some rule reads bodies of {}, which may hold secrets.",
            sensitive.join(", ")
        );
    }
    let _ = writeln!(policy, "  - level: {}", level.name());
    if !VERBS.iter().all(|verb| verbs.contains(verb)) {
        let verbs: Vec<_> = verbs.iter().map(|verb| quoted(verb)).collect();
        let _ = writeln!(policy, "    verbs: [{}]", verbs.join(", "));
    }
    policy.push_str("    resources:\n");
    for (group, resources) in kinds {
        let resources: Vec<_> = resources.iter().map(|resource| quoted(resource)).collect();
        let _ =
            writeln!(policy, "      - {{group: {}, resources: [{}]}}", quoted(group), resources.join(", "));
    }
}

/// Text as a YAML scalar: as it is where that is safe.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-'));
    let is_word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if plain && !is_word { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
