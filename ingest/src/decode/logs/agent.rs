//! What agents send beside a line: the metadata of Fluent Bit's and Fluentd's Kubernetes filters, of Filebeat and
//! Vector (`kubernetes.*`), and OpenTelemetry's attributes (`k8s.*`).

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::draft::Draft;
use super::{Fact, Field, LogLimits};

/// Members of `kubernetes` by the fields they fill. Fluent Bit, Fluentd, Vector and Filebeat, in this order.
const KUBERNETES: [(&str, Field); 19] = [
    ("namespace_name", Field::OrchestratorNamespace),
    ("pod_namespace", Field::OrchestratorNamespace),
    ("namespace", Field::OrchestratorNamespace),
    ("pod_name", Field::OrchestratorResourceName),
    ("pod.name", Field::OrchestratorResourceName),
    ("container_name", Field::ContainerName),
    ("container.name", Field::ContainerName),
    ("docker_id", Field::ContainerId),
    ("container_id", Field::ContainerId),
    ("container.id", Field::ContainerId),
    ("container_image", Field::ContainerImageName),
    ("container_image_name", Field::ContainerImageName),
    ("container.image", Field::ContainerImageName),
    ("host", Field::HostName),
    ("pod_node_name", Field::HostName),
    ("node_name", Field::HostName),
    ("node.name", Field::HostName),
    ("namespace.name", Field::OrchestratorNamespace),
    ("container.image.name", Field::ContainerImageName),
];

/// OpenTelemetry's attributes by the fields they fill. Those that are named like a field need no row.
const OPEN_TELEMETRY: [(&str, Field); 12] = [
    ("k8s.namespace.name", Field::OrchestratorNamespace),
    ("k8s.pod.name", Field::OrchestratorResourceName),
    ("k8s.container.name", Field::ContainerName),
    ("k8s.node.name", Field::HostName),
    ("client.address", Field::SourceAddress),
    ("http.response.status.code", Field::HttpResponseStatusCode),
    ("code.file.path", Field::LogOriginFileName),
    ("code.line.number", Field::LogOriginFileLine),
    ("log.file.name", Field::LogFilePath),
    ("stream", Field::LogIostream),
    ("kubernetes.namespace", Field::OrchestratorNamespace),
    ("enduser.id", Field::UserId),
];

/// Takes over what an agent sent, within the limits: members named like a field of the schema become that field,
/// the metadata of Kubernetes fills fields and stays as it is as well.
pub(super) fn absorb<'a>(attributes: Map<String, Value>, limits: &LogLimits, draft: &mut Draft<'a>) {
    let mut room = Room { values: limits.values, bytes: limits.line_bytes };
    for (key, value) in attributes {
        if !room.take(&key, &value, limits.depth) {
            if !draft.flags.contains(&super::MEMBERS_CUT) {
                draft.flags.push(super::MEMBERS_CUT);
            }
            continue;
        }
        match value {
            Value::Object(members) if key == "kubernetes" => {
                kubernetes(&members, draft);
                draft.attributes.insert(key, Value::Object(members));
            }
            value => {
                if let Some(value) = fields(&key, value, draft) {
                    // the line and its time have been taken out, and nothing may speak for the server
                    let key = if is_taken(&key) { format!("agent.{key}") } else { key };
                    draft.attributes.insert(key, value);
                }
            }
        }
    }
    let is_pod = draft.fact(Field::OrchestratorResourceName).is_some();
    if is_pod && draft.fact(Field::OrchestratorResourceType).is_none() {
        draft.report(Field::OrchestratorResourceType, "pod");
    }
}

fn is_taken(key: &str) -> bool {
    matches!(key, "@timestamp" | "message" | "line" | "_cut" | "log.flags")
}

fn kubernetes(members: &Map<String, Value>, draft: &mut Draft<'_>) {
    for (path, field) in KUBERNETES {
        if draft.fact(field).is_none()
            && let Some(fact) = get(members, path).and_then(as_fact)
        {
            draft.report(field, fact);
        }
    }
}

/// The value at a dotted path; keys may contain the dots.
fn get<'v>(members: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    if let Some(value) = members.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    get(members.get(first)?.as_object()?, rest)
}

fn as_fact<'a>(value: &Value) -> Option<Fact<'a>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(Fact::Text(Cow::Owned(text.clone()))),
        Value::Number(number) => number.as_u64().map(Fact::Number),
        _ => None,
    }
}

/// Takes the fields of the schema out of a member and returns what is left of it.
fn fields(path: &str, value: Value, draft: &mut Draft<'_>) -> Option<Value> {
    if let Some(field) = Field::from_path(path) {
        return match as_fact(&value) {
            Some(fact) => {
                draft.report(field, fact);
                None
            }
            // `host.name` as a list and the like: not what the field holds, so it is kept under another name
            None => {
                draft.attributes.insert(format!("agent.{path}"), value);
                None
            }
        };
    }
    if let Some((_, field)) = OPEN_TELEMETRY.iter().find(|(name, _)| *name == path)
        && draft.fact(*field).is_none()
        && let Some(fact) = as_fact(&value)
    {
        draft.report(*field, fact);
        return Some(value);
    }
    match value {
        Value::Object(members) if Field::is_first_key(Field::first_key(path)) => {
            let was_empty = members.is_empty();
            let left: Map<String, Value> = members
                .into_iter()
                .filter_map(|(key, value)| {
                    let value = fields(&format!("{path}.{key}"), value, draft)?;
                    Some((key, value))
                })
                .collect();
            (was_empty || !left.is_empty()).then_some(Value::Object(left))
        }
        value => Some(value),
    }
}

/// How much more an agent may send.
struct Room {
    values: usize,
    bytes: usize,
}

impl Room {
    /// True if the member fits, which then takes its room.
    fn take(&mut self, key: &str, value: &Value, depth: usize) -> bool {
        let (values, bytes) = (self.values, self.bytes);
        let fits = self.take_bytes(key.len()) && self.take_value(value, depth);
        if !fits {
            (self.values, self.bytes) = (values, bytes);
        }
        fits
    }

    fn take_value(&mut self, value: &Value, depth: usize) -> bool {
        if self.values == 0 {
            return false;
        }
        self.values -= 1;
        match value {
            Value::String(text) => self.take_bytes(text.len()),
            Value::Array(_) | Value::Object(_) if depth == 0 => false,
            Value::Array(elements) => elements.iter().all(|element| self.take_value(element, depth - 1)),
            Value::Object(members) => members
                .iter()
                .all(|(key, value)| self.take_bytes(key.len()) && self.take_value(value, depth - 1)),
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
        }
    }

    fn take_bytes(&mut self, bytes: usize) -> bool {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(0);
        left.is_some()
    }
}
