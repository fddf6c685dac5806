//! Reads the files of the suite.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchbell_event::Timestamp;
use watchbell_event::yaml::{self, Node, Value};

use super::{Case, Event, Step, alert};
use crate::correlate::CorrelationConfig;
use crate::formula::number;
use crate::problems::LoadError;
use crate::samples::{json, merge};
use crate::sigma::timespan_micros;

/// Most events in one case.
const MAX_EVENTS: usize = 10_000;

const COUNTS: [&str; 4] = ["duplicates", "late", "evicted-groups", "evicted-entries"];

/// Reads all cases of a file.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Case>, LoadError> {
    let error = |line, reason: String| LoadError { file: file.to_owned(), line, reason };
    let documents = yaml::parse(text).map_err(|failed| error(failed.line, failed.reason))?;
    let documents = documents.iter().filter(|document| document.value != Value::Null);
    documents.map(|document| case(document).map_err(|(line, reason)| error(line, reason))).collect()
}

type Failed = (usize, String);

pub(super) fn case(document: &Node) -> Result<Case, Failed> {
    keys(document, &["title", "description", "config", "rules", "event", "events", "expect", "counts"])?;
    let title = text(document, "title")?;
    let rules = document.get("rules").map(|_| text(document, "rules")).transpose()?;
    let common = document.get("event").map_or(serde_json::Value::Null, json);
    let config = document.get("config").map_or_else(|| Ok(CorrelationConfig::default()), config)?;
    let mut steps = Vec::new();
    for step in items(document, "events")? {
        if step.get("restart").is_some() {
            steps.push(Step::Restart);
            continue;
        }
        for repetition in 0..step.get("repeat").map_or(Ok(1), unsigned)? {
            if steps.len() >= MAX_EVENTS {
                return Err((step.line, format!("more than {MAX_EVENTS} events")));
            }
            steps.push(Step::Event(Box::new(event(step, &common, repetition, steps.len())?)));
        }
    }
    let expect = items(document, "expect")?.iter().map(expected).collect::<Result<_, _>>()?;
    let mut counts = BTreeMap::new();
    for entry in document.get("counts").and_then(Node::entries).unwrap_or_default() {
        let value = unsigned(&entry.value)?;
        if !COUNTS.contains(&entry.key.as_str()) {
            return Err((entry.line, format!("unknown count {:?}; known: {}", entry.key, COUNTS.join(", "))));
        }
        counts.insert(entry.key.clone(), value);
    }
    Ok(Case { title, line: document.line, config, rules, steps, expect, counts })
}

fn config(node: &Node) -> Result<CorrelationConfig, Failed> {
    keys(node, &["lateness", "idle", "rule-budget", "total-budget"])?;
    let mut config = CorrelationConfig::default();
    for entry in node.entries().unwrap_or_default() {
        let line = entry.value.line;
        let span = || match entry.value.value {
            Value::Integer(0, _) => Ok(0),
            _ => timespan_micros(&entry.value.scalar_text().unwrap_or_default())
                .map_err(|reason| (line, reason)),
        };
        let bytes =
            || usize::try_from(unsigned(&entry.value)?).map_err(|_| (line, "too many bytes".to_owned()));
        match entry.key.as_str() {
            "lateness" => config.lateness_micros = span()?,
            "idle" => config.idle_micros = span()?,
            "rule-budget" => config.rule_budget_bytes = bytes()?,
            _ => config.total_budget_bytes = bytes()?,
        }
    }
    Ok(config)
}

fn event(node: &Node, common: &serde_json::Value, repetition: u64, number: usize) -> Result<Event, Failed> {
    keys(node, &["id", "at", "received", "partition", "cluster", "repeat", "every", "event"])?;
    let every = node.get("every").map_or(Ok(0), |every| {
        timespan_micros(&every.scalar_text().unwrap_or_default()).map_err(|reason| (every.line, reason))
    })?;
    let later = every.saturating_mul(i64::try_from(repetition).unwrap_or(i64::MAX));
    let time = time(node, "at")?.plus_micros(later);
    let received_at =
        if node.get("received").is_some() { self::time(node, "received")?.plus_micros(later) } else { time };
    let partition = node.get("partition").map_or(Ok(0), unsigned)?;
    let Some(event) = node.get("event") else { return Err((node.line, "the step has no event".to_owned())) };
    Ok(Event {
        name: node.get("id").and_then(Node::scalar_text).unwrap_or_else(|| number.to_string()),
        time,
        received_at,
        partition: u32::try_from(partition).map_err(|_| (node.line, "no such partition".to_owned()))?,
        cluster: Arc::from(node.get("cluster").and_then(Node::scalar_text).unwrap_or_default()),
        json: merge(common.clone(), json(event)).to_string().replace("{n}", &repetition.to_string()),
    })
}

fn expected(node: &Node) -> Result<String, Failed> {
    keys(node, &["rule", "at", "on", "group", "value", "events", "beyond"])?;
    let groups = node.get("group").and_then(Node::entries).unwrap_or_default();
    let texts: Vec<(&str, Option<String>)> =
        groups.iter().map(|entry| (entry.key.as_str(), entry.value.scalar_text())).collect();
    let group: Vec<(&str, Option<&str>)> =
        texts.iter().map(|(name, value)| (*name, value.as_deref())).collect();
    let value = match node.get("value") {
        Some(value) => {
            let number = value.scalar_text().as_deref().and_then(number);
            Some(number.ok_or((value.line, "value is not a number".to_owned()))?)
        }
        None => None,
    };
    let events: Vec<String> = items(node, "events")?.iter().filter_map(Node::scalar_text).collect();
    let beyond = node.get("beyond").map_or(Ok(0), unsigned)?;
    let on = match node.get("on").and_then(Node::scalar_text) {
        Some(on) => on,
        None => events.last().cloned().unwrap_or_default(),
    };
    Ok(alert(&text(node, "rule")?, time(node, "at")?, &group, value, &events, beyond, &on))
}

fn keys(node: &Node, known: &[&str]) -> Result<(), Failed> {
    let Some(entries) = node.entries() else {
        return Err((node.line, format!("a mapping is expected, not {}", node.kind())));
    };
    match entries.iter().find(|entry| !known.contains(&entry.key.as_str())) {
        Some(entry) => Err((entry.line, format!("unknown key {:?}; known: {}", entry.key, known.join(", ")))),
        None => Ok(()),
    }
}

fn text(node: &Node, key: &str) -> Result<String, Failed> {
    let found = node.get(key).and_then(Node::scalar_text);
    found.ok_or_else(|| (node.line, format!("{key} is missing or not text")))
}

fn time(node: &Node, key: &str) -> Result<Timestamp, Failed> {
    text(node, key)?
        .parse()
        .map_err(|_| (node.line, format!("{key} is no time such as 2026-01-31T08:15:00Z")))
}

fn items<'a>(node: &'a Node, key: &str) -> Result<&'a [Node], Failed> {
    match node.get(key) {
        None => Ok(&[]),
        Some(list) => list.items().ok_or_else(|| (list.line, format!("{key} must be a list"))),
    }
}

fn unsigned(node: &Node) -> Result<u64, Failed> {
    match node.value {
        Value::Integer(number, _) => u64::try_from(number).map_err(|_| (node.line, "below zero".to_owned())),
        _ => Err((node.line, format!("a number is expected, not {}", node.kind()))),
    }
}
