//! Outputs: text in which fields of the event are put, such as `read by %ka.user.name`.

use serde_json::Value;

use super::condition;
use super::fields;
use crate::formula::Field;

/// Longest output, in bytes.
pub(crate) const MAX_OUTPUT_BYTES: usize = 8 << 10;
/// Most fields in one output.
const MAX_FIELDS: usize = 64;
/// Longest text that is put in for one field, in characters.
const MAX_VALUE_CHARACTERS: usize = 200;
/// What stands for a field that the event does not have.
const MISSING: &str = "<NA>";

/// An output, ready to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Values {
        field: Field,
        list: bool,
    },
    /// The time of the event as it gives it.
    Time,
}

/// Fields that only outputs may have.
const TIMES: [&str; 4] = ["evt.time", "evt.time.iso8601", "jevt.time", "jevt.time.iso8601"];

impl Template {
    /// Reads an output.
    ///
    /// # Errors
    /// The field that is not one, or the limit that it exceeds.
    pub(super) fn parse(output: &str) -> Result<Self, String> {
        if output.len() > MAX_OUTPUT_BYTES {
            return Err(format!("the output is longer than {MAX_OUTPUT_BYTES} bytes"));
        }
        let mut parts = Vec::new();
        // A star before an output was Falco's mark for "print it even if fields are missing".
        let mut rest = output.trim().trim_start_matches('*');
        while let Some((text, field)) = rest.split_once('%') {
            parts.push(Part::Text(text.to_owned()));
            if !field.starts_with(|c: char| c.is_ascii_alphabetic()) {
                // A percent sign that begins no field stands for itself.
                parts.push(Part::Text("%".to_owned()));
                rest = field;
                continue;
            }
            let (name, after) = condition::field(field).map_err(|reason| format!("output: {reason}"))?;
            rest = after;
            parts.push(if TIMES.contains(&name.name) {
                Part::Time
            } else {
                let source = fields::resolve(&name).map_err(|reason| format!("output: {reason}"))?;
                Part::Values { field: source.field, list: source.list }
            });
        }
        parts.push(Part::Text(rest.to_owned()));
        if parts.iter().filter(|part| !matches!(part, Part::Text(_))).count() > MAX_FIELDS {
            return Err(format!("the output has more than {MAX_FIELDS} fields"));
        }
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self(parts))
    }

    /// Fills in the fields of an event. The text may hold anything that the event does.
    pub(crate) fn fill(&self, event: &Value) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Time => {
                    let time = ["stageTimestamp", "requestReceivedTimestamp", "timestamp"]
                        .iter()
                        .find_map(|key| event.get(key)?.as_str());
                    text.push_str(&short(time.unwrap_or(MISSING)));
                }
                Part::Values { field, list } => text.push_str(&short(&values(field, *list, event))),
            }
        }
        text
    }
}

fn values(field: &Field, list: bool, event: &Value) -> String {
    let mut texts = Vec::new();
    match field {
        Field::Derived(derived) => texts = derived.values(event),
        Field::Path(path) => crate::detect::values_at(event, path, &mut texts),
        Field::Anywhere => {}
    }
    match texts.as_slice() {
        [] => MISSING.to_owned(),
        [one] if !list => one.clone(),
        several => format!("({})", several.join(",")),
    }
}

fn short(text: &str) -> String {
    let mut characters = text.chars();
    let mut short: String = characters.by_ref().take(MAX_VALUE_CHARACTERS).collect();
    if characters.next().is_some() {
        short.pop();
        short.push('…');
    }
    short
}
