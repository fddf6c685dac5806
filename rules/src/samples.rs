//! Samples of a rule: events it must and must not match, in a YAML file beside the rule.
//!
//! ```yaml
//! match:
//!   - {verb: get, objectRef: {resource: secrets}}
//! no-match:
//!   - {verb: get, objectRef: {resource: pods}}
//! ```

use watchbell_event::yaml::{self, Node, Value};

use crate::problems::LoadError;

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

/// Reads the samples of one rule, given as the file's name and text.
///
/// # Errors
/// The first place that is not YAML or not a sample.
pub fn read(file: &str, text: &str) -> Result<Vec<Sample>, LoadError> {
    let error = |line, reason: String| LoadError { file: file.to_owned(), line, reason };
    let documents = yaml::parse(text).map_err(|failed| error(failed.line, failed.reason))?;
    let mut samples = Vec::new();
    for document in &documents {
        let Some(entries) = document.entries() else {
            return Err(error(document.line, "samples are a mapping with match and no-match".to_owned()));
        };
        for entry in entries {
            let must_match = match entry.key.as_str() {
                "match" => true,
                "no-match" => false,
                key => return Err(error(entry.line, format!("unknown key {key:?}; known: match, no-match"))),
            };
            for event in entry.value.items().unwrap_or_default() {
                let text = json(event).to_string();
                samples.push(Sample { line: event.line, must_match, event: text });
            }
        }
    }
    Ok(samples)
}

/// A YAML value as JSON.
pub(crate) fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
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
