//! Values that no path of an event holds: the text of whole objects, parts of values, and what several values come
//! to together. They are computed from the event's document, once a rule asks for them.
//!
//! If a key stands twice in one object, the last value counts; what is nested deeper than 128 has none. Neither
//! reaches rules through the server, which quarantines such events.

use serde_json::Value;
use watchbell_event::Timestamp;

use crate::formula::Body;
use crate::text::{float_text, number_text};

/// A computed value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Derived {
    /// Where the values stand that it is computed from.
    pub(crate) from: Box<[Step]>,
    /// What is made of them.
    pub(crate) shape: Shape,
}

/// One step from a value to values within it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    /// To the member of this name, or in an array to the member of this number.
    Name(Box<str>),
    /// To every member of an array.
    Each,
}

impl Step {
    /// The name or number that it leads to; none if it leads to all.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Each => None,
        }
    }
}

/// What is made of values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// Its text; an object or array as JSON without spaces.
    Text,
    /// The texts of an array's members, with a blank between them.
    Joined,
    /// Of a container image, the part before the tag and the digest.
    Repository,
    /// Of a container's port, the port on the host; the container's own where none is given.
    HostPort,
    /// The kind of a volume: the names of its members, but `name`.
    VolumeKind,
    /// Of a subject of this kind, its name; of a service account on demand with its namespace before a colon.
    Subject { kind: SubjectKind, with_namespace: bool },
    /// Of a container, the user or group (by the key of its security context) it runs as: its own, or else the
    /// pod's, or else 0.
    RunsAs(&'static str),
    /// Of a list of containers: whether one is privileged.
    SomePrivileged,
    /// Of a pod's specification: whether a volume mounts this path of the host, or with a `*` at the end a path that
    /// begins so.
    Mounts(Box<str>),
    /// Of a request's URI, the value of a query parameter.
    QueryParameter(Box<str>),
    /// Of an event about a pod, the pod's name: of the request, or else of the response.
    PodName,
    /// Of an event, its time in nanoseconds since 1970.
    Nanoseconds,
    /// This text, whatever the event.
    Constant(&'static str),
}

/// Whom a role is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SubjectKind {
    User,
    Group,
    ServiceAccount,
}

impl Derived {
    /// The part of an audit event that policy may leave out and that this is computed from.
    pub(crate) fn body(&self) -> Option<Body> {
        match self.from.first() {
            Some(Step::Name(name)) => Body::named(name),
            Some(Step::Each) | None => None,
        }
    }

    /// What it is, for people.
    pub(crate) fn describe(&self) -> String {
        let steps = self.from.iter().map(|step| match step {
            Step::Name(name) => &**name,
            Step::Each => "*",
        });
        let from = steps.collect::<Vec<_>>().join("/");
        match &self.shape {
            Shape::Text => format!("/{from}"),
            Shape::Joined => format!("/{from} as one text"),
            Shape::Repository => format!("the repository of /{from}"),
            Shape::HostPort => format!("the host's port of /{from}"),
            Shape::VolumeKind => format!("the kind of /{from}"),
            Shape::Subject { kind, .. } => format!("the names of kind {kind:?} in /{from}"),
            Shape::RunsAs(key) => format!("the effective {key} of /{from}"),
            Shape::SomePrivileged => format!("one of /{from} is privileged"),
            Shape::Mounts(path) => format!("/{from} mounts {path}"),
            Shape::QueryParameter(name) => format!("the parameter {name} of /{from}"),
            Shape::PodName => "the pod's name".to_owned(),
            Shape::Nanoseconds => "the time in nanoseconds".to_owned(),
            Shape::Constant(text) => format!("the constant {text}"),
        }
    }

    /// The values in an event, as text.
    pub(crate) fn values(&self, event: &Value) -> Vec<String> {
        let mut texts = Vec::new();
        follow(event, &self.from, &mut |value| self.shape.add(value, event, &mut texts));
        texts
    }
}

/// Calls `found` with every value that the steps lead to.
fn follow<'a>(value: &'a Value, steps: &[Step], found: &mut impl FnMut(&'a Value)) {
    match steps {
        [] => found(value),
        [Step::Name(name), rest @ ..] => {
            if let Some(member) = member(value, name) {
                follow(member, rest, found);
            }
        }
        [Step::Each, rest @ ..] => {
            for member in value.as_array().into_iter().flatten() {
                follow(member, rest, found);
            }
        }
    }
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(name),
        Value::Array(members) => members.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}

impl Shape {
    fn add(&self, value: &Value, event: &Value, texts: &mut Vec<String>) {
        match self {
            Self::Text => texts.extend(json_text(value)),
            Self::Joined => texts.extend(value.as_array().map(|members| joined(members))),
            Self::Repository => texts.extend(value.as_str().map(|image| repository(image).to_owned())),
            Self::HostPort => {
                let port = value.get("hostPort").or_else(|| value.get("containerPort"));
                texts.extend(port.and_then(scalar_text));
            }
            Self::VolumeKind => {
                let names = value.as_object().into_iter().flatten().map(|(name, _)| name);
                texts.extend(names.filter(|name| *name != "name").cloned());
            }
            Self::Subject { kind, with_namespace } => texts.extend(subject(value, *kind, *with_namespace)),
            Self::RunsAs(key) => {
                let own = || scalar_text(value.get("securityContext")?.get(key)?);
                let pods = || scalar_text(event.pointer("/requestObject/spec/securityContext")?.get(key)?);
                texts.push(own().or_else(pods).unwrap_or_else(|| "0".to_owned()));
            }
            Self::SomePrivileged => {
                let privileged = |container: &Value| {
                    container
                        .pointer("/securityContext/privileged")
                        .is_some_and(|flag| *flag == Value::Bool(true))
                };
                texts
                    .extend(value.as_array().map(|containers| containers.iter().any(privileged).to_string()));
            }
            Self::Mounts(path) => texts.push(mounts(value, path).to_string()),
            Self::QueryParameter(name) => {
                texts.extend(value.as_str().and_then(|uri| query_parameter(uri, name)));
            }
            Self::PodName => texts.extend(pod_name(value)),
            Self::Nanoseconds => texts.extend(nanoseconds(value)),
            Self::Constant(text) => texts.push((*text).to_owned()),
        }
    }
}

/// The text of a value without members, by which values of different types are compared.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) if number.is_f64() => number.as_f64().map(float_text),
        Value::Number(number) => Some(number_text(&number.to_string()).into_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn json_text(value: &Value) -> Option<String> {
    match value {
        Value::Array(_) | Value::Object(_) => {
            let mut text = String::new();
            write_json(value, &mut text);
            Some(text)
        }
        _ => scalar_text(value),
    }
}

/// Writes JSON without spaces, with each number in its canonical text.
fn write_json(value: &Value, text: &mut String) {
    match value {
        Value::Array(members) => {
            text.push('[');
            for (at, member) in members.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                write_json(member, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            text.push('{');
            for (at, (key, member)) in members.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_json(member, text);
            }
            text.push('}');
        }
        Value::Number(_) => text.push_str(&scalar_text(value).unwrap_or_default()),
        _ => text.push_str(&value.to_string()),
    }
}

fn joined(members: &[Value]) -> String {
    members.iter().filter_map(scalar_text).collect::<Vec<_>>().join(" ")
}

/// `registry.example:5000/team/app:1.2@sha256:…` is of the repository `registry.example:5000/team/app`.
fn repository(image: &str) -> &str {
    let without_digest = image.split('@').next().unwrap_or_default();
    match without_digest.rfind(':') {
        // A colon before a slash is that of the registry's port.
        Some(at) if !without_digest[at..].contains('/') => &without_digest[..at],
        _ => without_digest,
    }
}

fn subject(value: &Value, kind: SubjectKind, with_namespace: bool) -> Option<String> {
    let wanted = match kind {
        SubjectKind::User => "User",
        SubjectKind::Group => "Group",
        SubjectKind::ServiceAccount => "ServiceAccount",
    };
    if value.get("kind")?.as_str()? != wanted {
        return None;
    }
    let name = value.get("name")?.as_str()?;
    if !with_namespace {
        return Some(name.to_owned());
    }
    Some(format!("{}:{name}", value.get("namespace")?.as_str()?))
}

fn mounts(specification: &Value, wanted: &str) -> bool {
    let volumes = specification.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let mut paths = volumes.filter_map(|volume| volume.pointer("/hostPath/path")?.as_str());
    match wanted.strip_suffix('*') {
        Some(prefix) => paths.any(|path| path.starts_with(prefix)),
        None => paths.any(|path| path == wanted),
    }
}

/// The first value of a parameter, decoded.
fn query_parameter(uri: &str, name: &str) -> Option<String> {
    let (_, query) = uri.split_once('?')?;
    let query = query.split('#').next()?;
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decoded(key) == name).then(|| form_decoded(value))
    })
}

/// Takes `+` for a blank and `%2F` for a byte; what is not UTF-8 then is replaced.
fn form_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let byte = match (first, tail.first_chunk::<2>().and_then(hexadecimal)) {
            (b'%', Some(byte)) => {
                rest = tail.get(2..).unwrap_or_default();
                byte
            }
            _ => {
                rest = tail;
                if *first == b'+' { b' ' } else { *first }
            }
        };
        bytes.push(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hexadecimal(digits: &[u8; 2]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()
}

fn pod_name(event: &Value) -> Option<String> {
    if event.pointer("/objectRef/resource")?.as_str()? != "pods" {
        return None;
    }
    let named =
        event.pointer("/objectRef/name").filter(|name| name.as_str().is_some_and(|name| !name.is_empty()));
    named.or_else(|| event.pointer("/responseObject/metadata/name")).and_then(scalar_text)
}

fn nanoseconds(event: &Value) -> Option<String> {
    let keys = ["stageTimestamp", "requestReceivedTimestamp", "timestamp"];
    let time: Timestamp = keys.iter().find_map(|key| event.get(key)?.as_str()?.parse().ok())?;
    Some((i128::from(time.as_micros()) * 1000).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_ends_before_tag_and_digest() {
        for (image, expect) in [
            ("nginx", "nginx"),
            ("nginx:1.25", "nginx"),
            ("nginx@sha256:abc", "nginx"),
            ("docker.io/library/nginx:1@sha256:abc", "docker.io/library/nginx"),
            ("registry.example:5000/team/app", "registry.example:5000/team/app"),
            ("registry.example:5000/team/app:1.2", "registry.example:5000/team/app"),
            ("", ""),
        ] {
            assert_eq!(repository(image), expect, "{image}");
        }
    }

    #[test]
    fn query_parameters_are_decoded() {
        for (uri, expect) in [
            ("/x?command=ls&command=id", Some("ls")),
            ("/x?a=1&command=cat+%2Fetc%2Fpasswd#f", Some("cat /etc/passwd")),
            ("/x?comm%61nd=%zz%", Some("%zz%")),
            ("/x?command", Some("")),
            ("/x?c=1", None),
            ("/x", None),
        ] {
            assert_eq!(query_parameter(uri, "command").as_deref(), expect, "{uri}");
        }
    }
}
