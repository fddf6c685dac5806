//! Reads audit policies, as strictly as the API server can be asked to.

use watchbell_event::yaml::{self, Node, Value};

use super::{AuditLevel, AuditPolicy, GroupResources, PolicyRule, STAGES};
use crate::problems::{LoadError, Problems};

const VERSIONS: [&str; 2] = ["audit.k8s.io/v1", "audit.k8s.io/v1beta1"];
const POLICY_KEYS: [&str; 6] = ["apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"];
const RULE_KEYS: [&str; 9] = [
    "level",
    "users",
    "userGroups",
    "verbs",
    "resources",
    "namespaces",
    "nonResourceURLs",
    "omitStages",
    "omitManagedFields",
];

pub(super) fn read(file: &str, text: &str) -> Result<AuditPolicy, Vec<LoadError>> {
    let mut problems = Problems::new(file);
    let policy = match yaml::parse(text) {
        Err(error) => {
            problems.add(error.line, error.reason);
            None
        }
        Ok(documents) => {
            let mut documents = documents.iter().filter(|document| document.value != Value::Null);
            match (documents.next(), documents.next()) {
                (Some(document), None) => Some(policy(document, &mut problems)),
                (None, _) => {
                    problems.add(0, "the file holds no audit policy");
                    None
                }
                (_, Some(second)) => {
                    problems.add(second.line, "a file holds one audit policy");
                    None
                }
            }
        }
    };
    match policy {
        Some(policy) if problems.count() == 0 => Ok(policy),
        _ => Err(problems.into_errors()),
    }
}

fn policy(document: &Node, problems: &mut Problems<'_>) -> AuditPolicy {
    known_keys(document, &POLICY_KEYS, problems);
    let text = |key: &str| document.get(key).and_then(Node::scalar_text).unwrap_or_default();
    if text("kind") != "Policy" || !VERSIONS.contains(&text("apiVersion").as_str()) {
        let versions = VERSIONS.join(" or ");
        problems.add(document.line, format!("an audit policy has kind: Policy and apiVersion: {versions}"));
    }
    let rules = document.get("rules").and_then(Node::items).unwrap_or_default();
    if rules.is_empty() {
        problems.add(document.line, "the policy has no rules; the API server refuses it");
    }
    AuditPolicy {
        rules: rules.iter().map(|node| rule(node, problems)).collect(),
        omit_stages: stages(document, problems),
        omit_managed_fields: flag(document, "omitManagedFields", problems).unwrap_or(false),
    }
}

fn rule(node: &Node, problems: &mut Problems<'_>) -> PolicyRule {
    known_keys(node, &RULE_KEYS, problems);
    let rule = PolicyRule {
        line: node.line,
        level: level(node, problems),
        users: texts(node, "users", problems),
        user_groups: texts(node, "userGroups", problems),
        verbs: texts(node, "verbs", problems),
        resources: resources(node, problems),
        namespaces: texts(node, "namespaces", problems),
        non_resource_urls: texts(node, "nonResourceURLs", problems),
        omit_stages: stages(node, problems),
        omit_managed_fields: flag(node, "omitManagedFields", problems),
    };
    for url in rule.non_resource_urls.iter().filter(|url| *url != "*") {
        if !url.starts_with('/') || url.trim_end_matches('*').contains('*') || url.ends_with("**") {
            problems
                .add(node.line, format!("{url:?}: a path begins with a slash, and only its end may be *"));
        }
    }
    let about_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
    if about_resources && !rule.non_resource_urls.is_empty() {
        problems.add(node.line, "a rule is about resources or about nonResourceURLs, not about both");
    }
    rule
}

fn level(node: &Node, problems: &mut Problems<'_>) -> AuditLevel {
    let name = node.get("level").and_then(Node::scalar_text).unwrap_or_default();
    let level = AuditLevel::ALL.into_iter().find(|level| level.name() == name);
    level.unwrap_or_else(|| {
        let known = AuditLevel::ALL.map(AuditLevel::name).join(", ");
        problems.add(node.line, format!("level {name:?} is not one of {known}"));
        AuditLevel::None
    })
}

fn resources(node: &Node, problems: &mut Problems<'_>) -> Vec<GroupResources> {
    let groups = node.get("resources").and_then(Node::items).unwrap_or_default();
    let read = groups.iter().map(|group| {
        known_keys(group, &["group", "resources", "resourceNames"], problems);
        let read = GroupResources {
            group: group.get("group").and_then(Node::scalar_text).unwrap_or_default(),
            resources: texts(group, "resources", problems),
            resource_names: texts(group, "resourceNames", problems),
        };
        if read.group.contains('/') {
            problems.add(group.line, format!("group {:?} must not hold a version", read.group));
        }
        if read.resources.is_empty() && !read.resource_names.is_empty() {
            problems.add(group.line, "resourceNames need resources");
        }
        read
    });
    read.collect()
}

fn stages(node: &Node, problems: &mut Problems<'_>) -> Vec<String> {
    let stages = texts(node, "omitStages", problems);
    for stage in stages.iter().filter(|stage| !STAGES.contains(&stage.as_str())) {
        problems.add(node.line, format!("stage {stage:?} is not one of {}", STAGES.join(", ")));
    }
    stages
}

fn texts(node: &Node, key: &str, problems: &mut Problems<'_>) -> Vec<String> {
    let Some(list) = node.get(key).filter(|list| list.value != Value::Null) else { return Vec::new() };
    let Some(items) = list.items() else {
        problems.add(list.line, format!("{key} must be a list, not {}", list.kind()));
        return Vec::new();
    };
    let read = items.iter().filter_map(|item| {
        let text = item.scalar_text();
        if text.is_none() {
            problems.add(item.line, format!("a member of {key} must be text, not {}", item.kind()));
        }
        text
    });
    read.collect()
}

fn flag(node: &Node, key: &str, problems: &mut Problems<'_>) -> Option<bool> {
    match node.get(key)?.value {
        Value::Bool(flag) => Some(flag),
        _ => {
            problems.add(node.line, format!("{key} must be true or false"));
            None
        }
    }
}

fn known_keys(node: &Node, known: &[&str], problems: &mut Problems<'_>) {
    let Some(entries) = node.entries() else {
        problems.add(node.line, format!("expected a mapping, not {}", node.kind()));
        return;
    };
    for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        problems.add(entry.line, format!("unknown key {:?}; known: {}", entry.key, known.join(", ")));
    }
}
