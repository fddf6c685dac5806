//! Sigma (specification 2.1.0): one YAML document becomes one [`Rule`]. What is not supported is refused
//! with the line that asks for it; nothing is skipped in silence.

mod binding;
pub(crate) mod collection;
mod condition;
mod correlation;
mod detection;
mod encode;
mod expand;
mod filter;
mod modifier;
mod pipeline;
mod selection;

use std::sync::Arc;

use watchbell_event::Level;
use watchbell_event::yaml::{Node, Value};

use self::detection::Detection;
use self::expand::Placeholders;
use self::pipeline::Draft;
use crate::formula::{Field, Formula};
use crate::lists::Lists;
use crate::problems::Problems;
use crate::rule::{Language, LogSource, Rule};

pub(crate) use correlation::micros as timespan_micros;
pub(crate) use filter::{Filter, MAX_FILTERS};
pub(crate) use pipeline::{MAX_PIPELINES, Pipeline};
pub(crate) use selection::MAX_VALUE_BYTES;

/// Longest title, id or name of a field to group by, in bytes.
pub(crate) const MAX_TITLE_BYTES: usize = 512;
/// The latest major version of the specification of which something is supported: arrays.
const MAX_VERSION: u32 = 3;
/// Most fields that a rule groups by.
pub(crate) const MAX_GROUP_FIELDS: usize = 16;

/// Reads one document. Whatever is wrong goes to `problems`, and then there is no rule.
pub(crate) fn read(
    document: &Node,
    lists: &Lists,
    pipelines: &[Pipeline],
    filters: &mut [Filter],
    problems: &mut Problems<'_>,
) -> Option<Rule> {
    let before = problems.count();
    if document.entries().is_none() {
        problems.add(document.line, format!("a Sigma rule is a mapping, not {}", document.kind()));
        return None;
    }
    check_version(document, problems);
    let title = title(document, problems);
    let id = id(document, problems);
    let level = level(document, problems);
    let name = text(document, "name");
    let mut placeholders = Placeholders::new(lists);
    let mut draft = Draft { document, log_source: log_source(document, problems), detections: Vec::new() };
    let correlation = document.get("correlation");
    let formula = match correlation {
        // Its matches come from those of other rules.
        Some(_) => Some(Formula::Any(Vec::new())),
        None => {
            let is_for =
                |filter: &mut Filter| filter.is_for(id.as_deref(), name.as_deref(), &draft.log_source);
            let filters: Vec<&Filter> =
                filters.iter_mut().filter_map(|filter| is_for(filter).then_some(&*filter)).collect();
            event_formula(&mut draft, pipelines, &filters, &mut placeholders, problems)
        }
    };
    let correlation = correlation.and_then(|node| correlation::read(document, node, problems));
    let (group_by, next_steps) = extension(document, problems);
    let tags = tags(document, problems);
    if problems.count() > before {
        return None;
    }
    let (title, formula) = (title?, formula?);
    Some(Rule {
        key: id.clone().unwrap_or_else(|| format!("{}: {title}", problems.file())).into(),
        id,
        name,
        correlation: correlation.map(Arc::new),
        title: title.into(),
        level,
        status: text(document, "status"),
        description: text(document, "description").unwrap_or_default().trim().to_owned(),
        author: text(document, "author"),
        references: texts(document, "references"),
        tags: tags.into_iter().map(Arc::from).collect(),
        false_positives: texts(document, "falsepositives"),
        format: draft.log_source.format(),
        log_source: draft.log_source,
        group_by,
        next_steps,
        lists: placeholders.used(),
        file: problems.file().into(),
        line: document.line,
        language: Language::Sigma,
        output: None,
        formula,
    })
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

fn detection(document: &Node, problems: &mut Problems<'_>) -> Option<Detection> {
    let Some(detection) = document.get("detection") else {
        problems.add(document.line, "the rule has no detection");
        return None;
    };
    Detection::read(detection, &[], problems)
}

/// What must hold for an event to match.
fn event_formula(
    draft: &mut Draft<'_>,
    pipelines: &[Pipeline],
    filters: &[&Filter],
    placeholders: &mut Placeholders<'_>,
    problems: &mut Problems<'_>,
) -> Option<Formula> {
    draft.detections.push(detection(draft.document, problems)?);
    draft.detections.extend(filters.iter().map(|filter| filter.detection.clone()));
    for pipeline in pipelines {
        if let Err((line, reason)) = pipeline.apply(draft) {
            problems.add(line, reason);
            return None;
        }
    }
    Some(formula(draft, filters, placeholders, problems))
}

/// The rule's own detection, and those that filters and pipelines add.
fn formula(
    draft: &Draft<'_>,
    filters: &[&Filter],
    placeholders: &mut Placeholders<'_>,
    problems: &mut Problems<'_>,
) -> Formula {
    let mut parts = Vec::new();
    for (number, detection) in draft.detections.iter().enumerate() {
        let Some(before) = number.checked_sub(1) else {
            parts.push(selection::compile(detection, placeholders, problems));
            continue;
        };
        // The lines of filters and pipelines are not those of the rule's file. A filter was found sound when
        // it was read, so what is wrong now has to do with this rule.
        let mut wrong = Problems::new("");
        parts.push(selection::compile(detection, placeholders, &mut wrong));
        let origin =
            filters.get(before).map_or_else(|| "a pipeline's condition".to_owned(), |filter| filter.name());
        for error in wrong.into_errors() {
            problems.add(draft.document.line, format!("{origin}, line {}: {}", error.line, error.reason));
        }
    }
    if parts.len() == 1 { parts.remove(0) } else { Formula::All(parts) }
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

/// What says which events the rule sees must not be overlooked.
fn log_source(document: &Node, problems: &mut Problems<'_>) -> LogSource {
    let Some(node) = document.get("logsource") else { return LogSource::default() };
    if node.entries().is_none() {
        problems.add(node.line, format!("logsource must be a mapping, not {}", node.kind()));
    }
    let mut part = |key| match node.get(key)? {
        part if part.as_str().is_none() && part.value != Value::Null => {
            problems.add(part.line, format!("{key} of logsource must be text, not {}", part.kind()));
            None
        }
        part => part.scalar_text(),
    };
    LogSource { category: part("category"), product: part("product"), service: part("service") }
}

fn tags(document: &Node, problems: &mut Problems<'_>) -> Vec<String> {
    let Some(node) = document.get("tags").filter(|node| node.value != Value::Null) else { return Vec::new() };
    let items = node.items().unwrap_or(std::slice::from_ref(node));
    for item in items.iter().filter(|item| item.as_str().is_none()) {
        problems.add(item.line, format!("a tag must be text, not {}", item.kind()));
    }
    items.iter().filter_map(Node::scalar_text).collect()
}

/// The specification may be named by its major version alone.
fn check_version(document: &Node, problems: &mut Problems<'_>) {
    let Some(node) = document.get("sigma-version") else { return };
    let version = node.scalar_text().unwrap_or_else(|| node.kind().to_owned());
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if !major.is_some_and(|major| (1..=MAX_VERSION).contains(&major)) {
        problems.add(node.line, format!("sigma-version {version:?} is not known; known: 1 to {MAX_VERSION}"));
    }
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
