//! Sigma (specification 2.1.0): one YAML document becomes one [`Rule`]. What is not supported is refused
//! with the line that asks for it; nothing is skipped in silence.

mod condition;
mod modifier;
mod selection;

use std::sync::Arc;

use watchbell_event::Level;
use watchbell_event::yaml::Node;

use crate::formula::{Field, Formula};
use crate::problems::Problems;
use crate::rule::{Language, LogSource, Rule};

/// Longest title, id or name of a field to group by, in bytes.
pub(crate) const MAX_TITLE_BYTES: usize = 512;
/// Most fields that a rule groups by.
pub(crate) const MAX_GROUP_FIELDS: usize = 16;

/// Reads one document. Whatever is wrong goes to `problems`, and then there is no rule.
pub(crate) fn read(document: &Node, problems: &mut Problems<'_>) -> Option<Rule> {
    let before = problems.count();
    if let Some((line, reason)) = unsupported(document) {
        problems.add(line, reason);
        return None;
    }
    let title = title(document, problems);
    let id = id(document, problems);
    let level = level(document, problems);
    let formula = detection(document, problems);
    let (group_by, next_steps) = extension(document, problems);
    if problems.count() > before {
        return None;
    }
    let (title, formula) = (title?, formula?);
    Some(Rule {
        key: id.clone().unwrap_or_else(|| format!("{}: {title}", problems.file())).into(),
        id,
        title: title.into(),
        level,
        status: text(document, "status"),
        description: text(document, "description").unwrap_or_default().trim().to_owned(),
        author: text(document, "author"),
        references: texts(document, "references"),
        tags: texts(document, "tags").into_iter().map(Arc::from).collect(),
        false_positives: texts(document, "falsepositives"),
        log_source: log_source(document),
        group_by,
        next_steps,
        file: problems.file().into(),
        line: document.line,
        lists: Vec::new(),
        language: Language::Sigma,
        output: None,
        formula,
    })
}

/// What this document asks for that is not a Sigma rule.
fn unsupported(document: &Node) -> Option<(usize, String)> {
    let Some(entries) = document.entries() else {
        return Some((document.line, format!("a Sigma rule is a mapping, not {}", document.kind())));
    };
    let entry = entries.iter().find(|entry| match entry.key.as_str() {
        "correlation" | "filter" | "action" => true,
        "transformations" => document.get("detection").is_none(),
        _ => false,
    })?;
    let what = match entry.key.as_str() {
        "correlation" => "correlation rules",
        "filter" => "filters",
        "action" => "collections (action: global, reset, repeat)",
        _ => "processing pipelines",
    };
    Some((entry.line, format!("{what} are not supported yet")))
}

fn title(document: &Node, problems: &mut Problems<'_>) -> Option<String> {
    let Some(title) = text(document, "title").map(|title| one_line(&title)).filter(|title| !title.is_empty())
    else {
        problems.add(document.line, "the rule has no title");
        return None;
    };
    if title.len() > MAX_TITLE_BYTES {
        problems.add(document.line, format!("the title is longer than {MAX_TITLE_BYTES} bytes"));
    }
    Some(title)
}

fn id(document: &Node, problems: &mut Problems<'_>) -> Option<String> {
    let node = document.get("id")?;
    let id = node.scalar_text().unwrap_or_default();
    let plain = !id.is_empty() && id.len() <= MAX_TITLE_BYTES && !id.chars().any(char::is_control);
    if !plain {
        problems.add(node.line, "id must be text of one line, such as a UUID");
    }
    Some(id)
}

fn level(document: &Node, problems: &mut Problems<'_>) -> Level {
    let Some(node) = document.get("level") else { return Level::Medium };
    let name = node.scalar_text().unwrap_or_default().to_lowercase();
    name.parse().unwrap_or_else(|_| {
        let known = Level::ALL.map(Level::name).join(", ");
        problems.add(node.line, format!("unknown level {name:?}; known: {known}"));
        Level::Medium
    })
}

fn detection(document: &Node, problems: &mut Problems<'_>) -> Option<Formula> {
    let Some(detection) = document.get("detection") else {
        problems.add(document.line, "the rule has no detection");
        return None;
    };
    let Some(entries) = detection.entries() else {
        problems.add(detection.line, format!("detection must be a mapping, not {}", detection.kind()));
        return None;
    };
    let mut selections = condition::Selections::default();
    for entry in entries {
        match entry.key.as_str() {
            "condition" => {}
            "timeframe" => problems.add(
                entry.line,
                "timeframe belongs to the aggregations that Sigma removed; correlations are not supported yet",
            ),
            // A selection that failed has been reported; its name stays known, so that the condition does
            // not report it once more.
            name => selections.add(name, selection::read(&entry.value, entry.line, problems)),
        }
    }
    let Some(condition) = detection.get("condition") else {
        problems.add(detection.line, "detection has no condition");
        return None;
    };
    let conditions = condition.items().unwrap_or(std::slice::from_ref(condition));
    if conditions.is_empty() {
        problems.add(condition.line, "the list of conditions is empty");
    }
    let mut parts = Vec::new();
    for condition in conditions {
        let Some(text) = condition.scalar_text() else {
            problems.add(condition.line, format!("a condition must be text, not {}", condition.kind()));
            continue;
        };
        parts.extend(problems.check(condition.line, selections.resolve(&text)));
    }
    Some(Formula::Any(parts))
}

/// The attribute `watchbell`: which fields make one alert, and what to do about it.
fn extension(document: &Node, problems: &mut Problems<'_>) -> (Vec<String>, Vec<String>) {
    let Some(extension) = document.get("watchbell") else { return Default::default() };
    let Some(entries) = extension.entries() else {
        problems.add(extension.line, format!("watchbell must be a mapping, not {}", extension.kind()));
        return Default::default();
    };
    for entry in entries {
        if !matches!(entry.key.as_str(), "group-by" | "next-steps") {
            let reason = format!("unknown key {:?} of watchbell; known: group-by, next-steps", entry.key);
            problems.add(entry.line, reason);
        }
    }
    for entry in entries {
        let items = entry.value.items().unwrap_or(std::slice::from_ref(&entry.value));
        for item in items.iter().filter(|item| item.scalar_text().is_none()) {
            problems.add(item.line, format!("{} takes text, not {}; quote it", entry.key, item.kind()));
        }
    }
    let group_by = texts(extension, "group-by");
    if group_by.len() > MAX_GROUP_FIELDS {
        problems.add(extension.line, format!("group-by has more than {MAX_GROUP_FIELDS} fields"));
    }
    for name in &group_by {
        problems.check(extension.line, Field::path(name));
    }
    (group_by, texts(extension, "next-steps"))
}

fn log_source(document: &Node) -> LogSource {
    let part = |key| text(document.get("logsource")?, key);
    LogSource { category: part("category"), product: part("product"), service: part("service") }
}

fn text(node: &Node, key: &str) -> Option<String> {
    node.get(key)?.scalar_text()
}

/// The texts of a list; one text alone is a list of one.
fn texts(node: &Node, key: &str) -> Vec<String> {
    let Some(node) = node.get(key) else { return Vec::new() };
    let items = node.items().unwrap_or(std::slice::from_ref(node));
    items.iter().filter_map(Node::scalar_text).collect()
}

fn one_line(text: &str) -> String {
    text.split(|character: char| character.is_control() || character.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests;
