//! Samples of a rule: events it must and must not match, in `NAME.samples.yml` beside `NAME.yml`.
//!
//! ```yaml
//! event: {verb: get, objectRef: {resource: secrets, name: web}}
//! match:
//!   - {}
//!   - {verb: list, objectRef: {name: null}}
//! no-match:
//!   - {objectRef: {resource: pods}}
//! ```
//!
//! A sample says how it differs from the event above it: it is a JSON merge patch (RFC 7396), in which null
//! removes a key. Without `event` each sample is a whole event. A file may hold several such documents.

use std::sync::Arc;

use serde_json::Value as Json;
use watchbell_event::yaml::{self, Node, Value};

use crate::problems::LoadError;
use crate::{Evaluator, Rule, RuleSet};

/// Most text of all samples in one file, in bytes of JSON.
pub const MAX_SAMPLES_BYTES: usize = 64 << 20;

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The line it begins on.
    pub line: usize,
    /// Whether the rule must match it.
    pub must_match: bool,
    /// The event as JSON.
    pub event: String,
}

/// The name of the file that holds the samples of the rules in `file`.
#[must_use]
pub fn file_of(file: &str) -> String {
    let stem = file.strip_suffix(".yml").or_else(|| file.strip_suffix(".yaml")).unwrap_or(file);
    format!("{stem}.samples.yml")
}

/// Whether a file of this name holds samples and not rules.
#[must_use]
pub fn is_sample_file(file: &str) -> bool {
    file.ends_with(".samples.yml")
}

/// Reads the samples of one rule file, given as their own file's name and text.
///
/// # Errors
/// The first place that is not YAML or not a sample, or the limit that they exceed.
pub fn read(file: &str, text: &str) -> Result<Vec<Sample>, LoadError> {
    let error = |line, reason: String| LoadError { file: file.to_owned(), line, reason };
    let documents = yaml::parse(text).map_err(|failed| error(failed.line, failed.reason))?;
    let mut samples = Vec::new();
    let mut bytes = 0;
    for document in documents.iter().filter(|document| document.value != Value::Null) {
        for sample in read_document(document).map_err(|(line, reason)| error(line, reason))? {
            bytes += sample.event.len();
            if bytes > MAX_SAMPLES_BYTES {
                let reason = format!("all samples together have more than {MAX_SAMPLES_BYTES} bytes");
                return Err(error(sample.line, reason));
            }
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn read_document(document: &Node) -> Result<Vec<Sample>, (usize, String)> {
    let Some(entries) = document.entries() else {
        return Err((document.line, "samples are a mapping with event, match and no-match".to_owned()));
    };
    let event = document.get("event").map(json);
    let mut samples = Vec::new();
    for entry in entries {
        let must_match = match entry.key.as_str() {
            "event" => continue,
            "match" => true,
            "no-match" => false,
            key => {
                let reason = format!("unknown key {key:?}; known: event, match, no-match");
                return Err((entry.line, reason));
            }
        };
        let Some(items) = entry.value.items() else {
            return Err((entry.line, format!("{} takes a list of events", entry.key)));
        };
        for item in items {
            if item.entries().is_none() {
                return Err((item.line, format!("a sample is a mapping, not {}", item.kind())));
            }
            let sample = match &event {
                None => json(item),
                Some(event) => merge(event.clone(), json(item)),
            };
            samples.push(Sample { line: item.line, must_match, event: sample.to_string() });
        }
    }
    Ok(samples)
}

/// Applies a JSON merge patch.
fn merge(target: Json, patch: Json) -> Json {
    let Json::Object(changes) = patch else { return patch };
    let Json::Object(mut members) = target else {
        return merge(Json::Object(serde_json::Map::new()), Json::Object(changes));
    };
    for (key, change) in changes {
        let member = members.remove(&key).unwrap_or(Json::Null);
        if !change.is_null() {
            members.insert(key, merge(member, change));
        }
    }
    Json::Object(members)
}

/// The samples that are not treated as they must be: one of the rules has to match, or none of them.
#[must_use]
pub fn failures<'s>(rules: &[Rule], samples: &'s [Sample]) -> Vec<&'s Sample> {
    let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(rules.to_vec())));
    let mut matches = Vec::new();
    let fails = |sample: &&Sample| {
        evaluator.matches(sample.event.as_bytes(), &mut matches);
        matches.is_empty() == sample.must_match
    };
    samples.iter().filter(fails).collect()
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number, _) => (*number).into(),
        Value::String(text) => text.as_str().into(),
        Value::Sequence(items) => items.iter().map(json).collect(),
        Value::Mapping(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_says_how_it_differs_from_the_event_above_it() {
        let text = "event: {a: {b: 1, c: 2}, d: [1, 2]}\nmatch:\n  - {}\n  - {a: {b: null}, d: [3]}\n\
                    no-match:\n  - {a: 7}\n---\nmatch:\n  - {e: null, f: {g: null}}\n";
        let samples = read("x.samples.yml", text).unwrap();
        let read: Vec<_> = samples.iter().map(|sample| (sample.line, sample.event.as_str())).collect();
        let expect = [
            (3, r#"{"a":{"b":1,"c":2},"d":[1,2]}"#),
            (4, r#"{"a":{"c":2},"d":[3]}"#),
            (6, r#"{"a":7,"d":[1,2]}"#),
            (9, r#"{"e":null,"f":{"g":null}}"#),
        ];
        assert_eq!(read, expect);
        assert_eq!(
            samples.iter().map(|sample| sample.must_match).collect::<Vec<_>>(),
            [true, true, false, true]
        );
    }

    #[test]
    fn what_is_not_a_sample_is_named_with_its_line() {
        let many = format!(
            "event: {{a: {}}}\nmatch:\n{}",
            "x".repeat(1 << 20),
            "  - {}\n".repeat(MAX_SAMPLES_BYTES >> 20)
        );
        for (text, line, reason) in [
            ("match: [{}]\nmach: []\n", 2, "unknown key \"mach\""),
            ("match: {}\n", 1, "takes a list"),
            ("match:\n  - x\n", 2, "a mapping, not text"),
            ("- match\n", 1, "with event, match and no-match"),
            ("match: [\n", 2, "not YAML"),
            (&many, 66, "more than 67108864 bytes"),
        ] {
            let error = read("x.samples.yml", text).unwrap_err();
            assert!(error.reason.contains(reason), "{text:.40}: {error}");
            assert_eq!(error.line, line, "{text:.40}: {error}");
        }
    }

    #[test]
    fn samples_stand_beside_their_rules() {
        assert_eq!(file_of("exec/exec.yml"), "exec/exec.samples.yml");
        assert_eq!(file_of("exec.yaml"), "exec.samples.yml");
        assert!(is_sample_file("exec.samples.yml") && !is_sample_file("samples.yml"));
    }
}
