//! What rules mean, written as plainly as possible: a document tree per event, a walk per test. The
//! compiled engine must agree with it on every rule and event.

use serde_json::Value;
use watchbell_event::audit::AuditEvent;

use crate::formula::{Body, Check, Field, Formula, ITSELF, Members, Reference, Test, Which, address, number};
use crate::moment;
use crate::rule::Rule;
use crate::text::{float_text, fold, number_text};

/// An event, as a document tree.
pub(super) struct Event<'a> {
    document: Value,
    /// None for a member of an array, which has neither facets nor missing parts.
    bytes: Option<&'a [u8]>,
}

impl<'a> Event<'a> {
    /// Reads a JSON object.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(bytes).ok()?;
        document.is_object().then_some(Self { document, bytes: Some(bytes) })
    }

    /// Whether a rule matches: only if it holds whatever a missing body may have been.
    pub(super) fn matches(&self, rule: &Rule) -> bool {
        holds(&rule.formula, self) == Some(true)
    }
}

fn holds(formula: &Formula, event: &Event<'_>) -> Option<bool> {
    match formula {
        Formula::Not(part) => holds(part, event).map(|holds| !holds),
        Formula::All(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| holds(part, event)).collect();
            if parts.contains(&Some(false)) {
                Some(false)
            } else {
                parts.into_iter().collect::<Option<Vec<_>>>().map(|_| true)
            }
        }
        Formula::Any(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| holds(part, event)).collect();
            if parts.contains(&Some(true)) {
                Some(true)
            } else {
                parts.into_iter().collect::<Option<Vec<_>>>().map(|_| false)
            }
        }
        Formula::Test(test) => (!is_unknown(test, event)).then(|| any_value(test, event)),
    }
}

fn is_unknown(test: &Test, event: &Event<'_>) -> bool {
    let text = |key: &str| event.document.get(key).and_then(Value::as_str).unwrap_or_default();
    let absent = |key: &str| event.document.get(key).is_none_or(Value::is_null);
    let truncated = event.document.pointer("/annotations/audit.k8s.io~1truncated") == Some(&"true".into());
    let (level, stage) = (text("level"), text("stage"));
    let unknown = |body| match body {
        Body::Request => {
            absent("requestObject") && (level == "Metadata" || truncated || stage == "RequestReceived")
        }
        Body::Response => {
            let low = level == "Metadata" || level == "Request" || truncated;
            absent("responseObject") && (low || stage == "RequestReceived" || stage == "ResponseStarted")
        }
    };
    let other = match &test.check {
        Check::Reference(reference) => reference.other.body(),
        _ => None,
    };
    event.bytes.is_some() && test.field.body().into_iter().chain(other).any(unknown)
}

fn any_value(test: &Test, event: &Event<'_>) -> bool {
    if let (Check::Members(members), Field::Path(path)) = (&test.check, &test.field) {
        let mut arrays = Vec::new();
        walk_to(&event.document, if **path == *ITSELF { "" } else { path }, false, &mut arrays);
        return arrays.into_iter().any(|array| any_member(array, members));
    }
    let values = values_of(&test.field, event);
    match &test.check {
        Check::Reference(reference) => {
            let others = values_of(&reference.other, event);
            values.iter().any(|value| others.iter().any(|other| refers(value, other, reference)))
        }
        check => values.iter().any(|value| satisfies(value, check)),
    }
}

fn values_of(field: &Field, event: &Event<'_>) -> Vec<Value> {
    let mut values = Vec::new();
    let mut facet_value = None;
    match field {
        Field::Anywhere => leaves(&event.document, &mut values),
        Field::Path(path) => {
            walk(&event.document, path, &mut values);
            facet_value = facet(path, event);
        }
    }
    values.into_iter().cloned().chain(facet_value).collect()
}

fn any_member(array: &Value, members: &Members) -> bool {
    let mut found = Vec::new();
    flatten(array, &mut found);
    let holds_for = |member: &Value| {
        let member = Event { document: member.clone(), bytes: None };
        holds(&members.body, &member) == Some(true)
    };
    match members.which {
        _ if array.is_null() => false,
        Which::Any => found.into_iter().any(holds_for),
        which => which.position(found.len()).is_some_and(|position| holds_for(found[position])),
    }
}

fn flatten<'a>(value: &'a Value, members: &mut Vec<&'a Value>) {
    match value {
        Value::Array(inner) => inner.iter().for_each(|member| flatten(member, members)),
        member => members.push(member),
    }
}

fn refers(value: &Value, other: &Value, reference: &Reference) -> bool {
    let as_compared = |value| text_of(value).map(|text| if reference.cased { text } else { fold(&text) });
    match (as_compared(value), as_compared(other)) {
        (Some(value), Some(other)) => reference.place.holds(&value, &other),
        _ => false,
    }
}

fn facet(name: &str, event: &Event<'_>) -> Option<Value> {
    let event = AuditEvent::parse(event.bytes?);
    let facets = event.facets();
    let text = |text: Option<&str>| text.map(Value::from);
    match name {
        "user.name" => text(facets.actor),
        "event.action" => text(facets.action),
        "event.outcome" => text(Some(facets.outcome.name())),
        "orchestrator.namespace" => text(facets.namespace),
        "orchestrator.resource.type" => text(facets.resource),
        "orchestrator.resource.name" => text(event.object_ref.name.as_deref()),
        "source.ip" => facets.source_ip.map(|address| address.to_string().into()),
        _ => None,
    }
}

/// All values at a path; an array is followed by its members.
fn walk<'a>(value: &'a Value, path: &str, values: &mut Vec<&'a Value>) {
    walk_to(value, if path == ITSELF { "" } else { path }, true, values);
}

/// All values at a path; unless `members` are asked for, an array there is one value.
fn walk_to<'a>(value: &'a Value, path: &str, members: bool, values: &mut Vec<&'a Value>) {
    if path.is_empty() {
        values.push(value);
    }
    let walk =
        |value: &'a Value, path: &str, values: &mut Vec<&'a Value>| walk_to(value, path, members, values);
    match value {
        Value::Array(_) if path.is_empty() && !members => {}
        Value::Array(members) => members.iter().for_each(|member| walk(member, path, values)),
        Value::Object(members) if !path.is_empty() => {
            for (key, member) in members {
                let rest = path.strip_prefix(key.as_str());
                if rest == Some("") {
                    walk(member, "", values);
                } else if let Some(rest) = rest.and_then(|rest| rest.strip_prefix('.')) {
                    walk(member, rest, values);
                }
            }
        }
        _ => {}
    }
}

fn leaves<'a>(value: &'a Value, values: &mut Vec<&'a Value>) {
    match value {
        Value::Array(members) => members.iter().for_each(|member| leaves(member, values)),
        Value::Object(members) => members.values().for_each(|member| leaves(member, values)),
        _ => values.push(value),
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) if number.is_f64() => number.as_f64().map(float_text),
        Value::Number(number) => Some(number_text(&number.to_string()).into_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn satisfies(value: &Value, check: &Check) -> bool {
    let text = text_of(value);
    let text_is = |holds: &dyn Fn(&str) -> bool| text.as_deref().is_some_and(holds);
    match check {
        Check::Exists => true,
        Check::Null => value.is_null(),
        Check::Any => !value.is_null() && !value.is_array(),
        Check::Folded(pattern) => text_is(&|text| pattern.matches(&fold(text))),
        Check::Cased(pattern) => text_is(&|text| pattern.matches(text)),
        Check::Expression(expression) => text_is(&|text| expression.matches(text)),
        Check::Compare(order, threshold) => {
            !value.is_boolean()
                && text_is(&|text| number(text).is_some_and(|number| order.holds(number, threshold.get())))
        }
        Check::Network(network) => {
            text_is(&|text| address(text).is_some_and(|address| network.contains(&address)))
        }
        Check::Time(unit, number) => {
            text_is(&|text| moment::parts(text).is_some_and(|parts| parts.contains(&(*unit, *number))))
        }
        Check::Reference(_) | Check::Members(_) => false,
    }
}
