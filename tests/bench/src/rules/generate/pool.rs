//! The values that occur in events, by path.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::random::Random;

/// Paths of bodies that the shipped rules read.
const BODY_PATHS: [&str; 12] = [
    "requestObject.spec.containers.image",
    "requestObject.spec.containers.command",
    "requestObject.spec.containers.securityContext.capabilities.add",
    "requestObject.spec.template.spec.containers.image",
    "requestObject.spec.template.spec.serviceAccountName",
    "requestObject.spec.volumes.hostPath.path",
    "requestObject.spec.template.spec.volumes.hostPath.path",
    "requestObject.roleRef.name",
    "requestObject.subjects.name",
    "requestObject.rules.verbs",
    "requestObject.rules.resources",
    "requestObject.metadata.name",
];
/// Most other paths of bodies that are read.
const MAX_OBSERVED_PATHS: usize = 60;
/// Paths that occur in fewer events are left to the library.
const MIN_EVENTS: usize = 3;

/// Longer values are not repeated in rules.
const MAX_TEXT_BYTES: usize = 200;

/// What occurs.
pub(super) struct Pool {
    values: BTreeMap<String, Vec<String>>,
    body_paths: Vec<String>,
}

impl Pool {
    pub(super) fn new(events: &[&[u8]]) -> Self {
        let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut frequency: BTreeMap<String, usize> = BTreeMap::new();
        for event in events {
            let Ok(event) = serde_json::from_slice::<Value>(event) else { continue };
            let mut paths = BTreeSet::new();
            collect(&event, &mut String::new(), &mut |path, text| {
                values.entry(path.to_owned()).or_default().insert(text.to_owned());
                paths.insert(path.to_owned());
            });
            paths.into_iter().for_each(|path| *frequency.entry(path).or_default() += 1);
        }
        let observed = frequency
            .into_iter()
            .filter(|(path, events)| path.starts_with("requestObject.") && *events >= MIN_EVENTS)
            .map(|(path, _)| path);
        let mut body_paths: Vec<String> = BODY_PATHS.map(str::to_owned).into();
        body_paths.extend(observed.take(MAX_OBSERVED_PATHS));
        let values = values.into_iter().map(|(path, values)| (path, values.into_iter().collect()));
        Self { values: values.collect(), body_paths }
    }

    pub(super) fn value(&self, path: &str, random: &mut Random) -> Option<String> {
        self.values.get(path).map(|values| random.pick(values).clone())
    }

    /// A path of request bodies.
    pub(super) fn body_path(&self, random: &mut Random) -> String {
        random.pick(&self.body_paths).clone()
    }
}

/// Calls `visit` with each text and its dotted path, through arrays.
fn collect(value: &Value, path: &mut String, visit: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Object(members) => {
            // What a client manages is named by keys that are paths themselves.
            for (key, member) in members.iter().filter(|(key, _)| *key != "managedFields") {
                let length = path.len();
                if key.is_empty() || key.contains(|character: char| !character.is_ascii_alphanumeric()) {
                    continue;
                }
                if length > 0 {
                    path.push('.');
                }
                path.push_str(key);
                collect(member, path, visit);
                path.truncate(length);
            }
        }
        Value::Array(members) => members.iter().for_each(|member| collect(member, path, visit)),
        Value::String(text) => {
            // Wildcards would make it another pattern.
            let plain = text.split('?').next().unwrap_or_default();
            if !plain.is_empty() && plain.len() < MAX_TEXT_BYTES && !plain.contains(['*', '\\']) {
                visit(path, plain);
            }
        }
        _ => {}
    }
}
