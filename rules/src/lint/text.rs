//! What shows only in the text of a Sigma file: selections that no condition names, exclusions that do not exclude,
//! attributes that are no text.

use watchbell_event::yaml::{self, Node, Value};

use super::{Finding, FindingKind};
use crate::problems::Problems;
use crate::sigma::collection;

/// Attributes that people read; what is no text in them is left out.
const TEXT_ATTRIBUTES: [&str; 7] =
    ["name", "status", "description", "author", "license", "references", "falsepositives"];

/// Looks at the documents of one file. What is not YAML has been refused before, and yields nothing.
#[must_use]
pub fn lint_text(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    // What is wrong with a collection has been told, too.
    let documents = collection::resolve(yaml::parse(text).unwrap_or_default(), &mut Problems::new(file));
    for document in documents {
        let rule = document.get("title").and_then(Node::scalar_text).unwrap_or_default();
        let mut add = |line, kind, message| {
            findings.push(Finding { file: file.to_owned(), line, rule: rule.clone(), kind, message });
        };
        if let Some(detection) = document.get("detection") {
            let conditions = conditions(detection);
            for (name, line) in selections(detection) {
                if !conditions.iter().any(|condition| names(condition, &name)) {
                    add(
                        line,
                        FindingKind::UnusedSelection,
                        format!("no condition uses the selection {name:?}"),
                    );
                }
            }
        }
        for (name, node) in TEXT_ATTRIBUTES.iter().filter_map(|name| Some((name, document.get(name)?))) {
            let is_list = matches!(*name, "references" | "falsepositives");
            for part in no_texts(node, is_list) {
                let message = format!("{name} takes text, not {}; it is left out", part.kind());
                add(part.line, FindingKind::NotText, message);
            }
        }
        if let Some(filter) = document.get("filter") {
            for condition in conditions(filter) {
                if !words(&condition).any(|word| word.eq_ignore_ascii_case("not")) {
                    let message =
                        "the filter is ANDed to the rules it is for; to exclude, its condition says `not`";
                    add(filter.line, FindingKind::FilterWithoutNot, message.to_owned());
                }
            }
        }
    }
    findings
}

/// The members of an attribute, or the attribute itself, that are neither text nor nothing.
fn no_texts(node: &Node, is_list: bool) -> impl Iterator<Item = &Node> {
    let items = node.items().filter(|_| is_list).unwrap_or(std::slice::from_ref(node));
    items.iter().filter(|item| item.scalar_text().is_none() && item.value != Value::Null)
}

fn conditions(detection: &Node) -> Vec<String> {
    let Some(condition) = detection.get("condition") else { return Vec::new() };
    let conditions = condition.items().unwrap_or(std::slice::from_ref(condition));
    conditions.iter().filter_map(Node::scalar_text).collect()
}

/// The names of the selections, with their lines.
fn selections(detection: &Node) -> Vec<(String, usize)> {
    let entries = detection.entries().unwrap_or_default().iter();
    let selections = entries.filter(|entry| !matches!(entry.key.as_str(), "condition" | "timeframe"));
    selections.map(|entry| (entry.key.clone(), entry.line)).collect()
}

fn words(condition: &str) -> impl Iterator<Item = &str> {
    condition
        .split(|character: char| character.is_whitespace() || matches!(character, '(' | ')' | '|'))
        .filter(|word| !word.is_empty())
}

/// Whether a condition names a selection, by itself or by a pattern.
fn names(condition: &str, selection: &str) -> bool {
    words(condition).any(|word| {
        let pattern = if word.eq_ignore_ascii_case("them") { "*" } else { word };
        let hidden = selection.starts_with('_') && pattern.contains('*');
        !hidden && matches(pattern, selection)
    })
}

/// Whether a name matches a pattern in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            let ends = (0..=name.len()).filter_map(|at| name.get(at..));
            ends.into_iter().any(|end| matches(rest, end))
        }),
    }
}
