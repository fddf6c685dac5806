//! From an agent's record to a log record: which of its members is the line, and which its time.

use std::borrow::Cow;

use serde_json::{Map, Value};
use watchbell_event::{EventId, Timestamp};

use super::{LogRecord, time};

/// Members that are the line, if they are text. Fluent Bit's, Filebeat's and Vector's, journald's.
const LINE: [&str; 3] = ["log", "message", "MESSAGE"];
/// Members that are the time. `date` is what Fluent Bit's HTTP output writes.
const TIME: [&str; 4] = ["@timestamp", "date", "time", "timestamp"];
/// What agents add to a record whose line they have parsed themselves; the rest of it is then the line.
const ADDED: [&str; 20] = [
    "agent",
    "cloud",
    "container",
    "container_id",
    "container_name",
    "docker",
    "ecs",
    "file",
    "host",
    "hostname",
    "input",
    "k8s",
    "kubernetes",
    "kubernetes_namespace",
    "log",
    "orchestrator",
    "source_type",
    "stream",
    "tag",
    "tags",
];

impl LogRecord<'static> {
    /// A record as agents send it over HTTP, with the line in `log` or `message`. The members of a record without
    /// a line are the line, as JSON, apart from what agents are known to add.
    #[must_use]
    pub fn from_members(mut members: Map<String, Value>, identity: EventId) -> Self {
        let time = take_time(&mut members);
        let line = LINE.iter().find_map(|name| match members.get_mut(*name)? {
            Value::String(line) => {
                let line = std::mem::take(line);
                members.remove(*name);
                Some(line)
            }
            _ => None,
        });
        let line = line.unwrap_or_else(|| {
            let is_added = |key: &str| ADDED.contains(&key.split('.').next().unwrap_or_default());
            let (added, said): (Map<_, _>, Map<_, _>) =
                std::mem::take(&mut members).into_iter().partition(|(key, _)| is_added(key));
            members = added;
            if said.is_empty() { String::new() } else { Value::Object(said).to_string() }
        });
        let mut line = line.into_bytes();
        line.truncate(without_line_break(&line));
        Self {
            time,
            line: Cow::Owned(line),
            cut: false,
            common: None,
            known: Vec::new(),
            attributes: members,
            format: None,
            identity,
        }
    }
}

/// Takes the first time out of the members.
fn take_time(members: &mut Map<String, Value>) -> Option<Timestamp> {
    let (name, time) = TIME.iter().find_map(|name| Some((*name, as_time(members.get(*name)?)?)))?;
    members.remove(name);
    Some(time)
}

fn as_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => time::whole(text),
        Value::Number(number) => time::epoch(number.as_f64()?),
        _ => None,
    }
}

/// How long a line is without the line break at its end.
fn without_line_break(line: &[u8]) -> usize {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line).len()
}
