//! What rules mean, written as plainly as possible: a document tree per event, a walk per test. The
//! compiled engine must agree with it on every rule and event; people are told about a rule in its terms.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;
use watchbell_event::Format;
use watchbell_event::audit::AuditEvent;

use crate::derived::scalar_text;
use crate::formula::{
    Body, Check, Field, Formula, ITSELF, Members, Reference, Test, Which, address, exact_number,
};
use crate::moment;
use crate::text::fold;

/// An event, as a document tree.
pub(crate) struct Event<'a> {
    document: Value,
    /// None for a log line and for a member of an array, which have neither facets nor missing parts.
    bytes: Option<&'a [u8]>,
    /// The values of the fields that were asked for.
    resolved: RefCell<HashMap<Field, Rc<[Value]>>>,
}

impl<'a> Event<'a> {
    /// Reads a JSON object.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(bytes).ok()?;
        document.is_object().then(|| Self::new(document, Some(bytes)))
    }

    fn new(document: Value, bytes: Option<&'a [u8]>) -> Self {
        Self { document, bytes, resolved: RefCell::default() }
    }

    /// Reads an event of this format, a JSON object.
    pub(crate) fn read_as(format: Format, bytes: &'a [u8]) -> Option<Self> {
        let event = Self::read(bytes)?;
        Some(Self { bytes: event.bytes.filter(|_| format == Format::KubernetesAudit), ..event })
    }

    /// Whether a rule matches: only if it holds whatever a missing body may have been.
    #[cfg(test)]
    pub(super) fn matches(&self, rule: &crate::Rule) -> bool {
        holds(&rule.formula, self) == Some(true)
    }

    /// Whether a formula holds; none if that depends on a missing body.
    pub(crate) fn decide(&self, formula: &Formula) -> Option<bool> {
        holds(formula, self)
    }

    /// The values of a field, which are looked for once.
    pub(crate) fn values(&self, field: &Field) -> Rc<[Value]> {
        if let Some(known) = self.resolved.borrow().get(field) {
            return Rc::clone(known);
        }
        let values: Rc<[Value]> = self.resolve(field).into();
        self.resolved.borrow_mut().insert(field.clone(), Rc::clone(&values));
        values
    }

    fn resolve(&self, field: &Field) -> Vec<Value> {
        let mut values = Vec::new();
        let mut facet_value = None;
        match field {
            Field::Anywhere => leaves(&self.document, &mut values),
            Field::Path(path) => {
                walk(&self.document, path, &mut values);
                facet_value = facet(path, self);
            }
            Field::Derived(derived) => {
                return derived.values(&self.document).into_iter().map(Value::from).collect();
            }
        }
        values.into_iter().cloned().chain(facet_value).collect()
    }

    /// The values of a field that meet a test; those of a test of members are none.
    pub(crate) fn values_that_meet(&self, test: &Test) -> Vec<Value> {
        let values = self.values(&test.field);
        match &test.check {
            Check::Reference(reference) => {
                let others = self.values(&reference.other);
                let meets = |value: &&Value| others.iter().any(|other| refers(value, other, reference));
                values.iter().filter(meets).cloned().collect()
            }
            check => values.iter().filter(|value| satisfies(value, check)).cloned().collect(),
        }
    }

    /// For each array at a field, its members, each as an event of its own. Null has none; what is no array is its
    /// own member.
    pub(crate) fn arrays(&self, field: &Field) -> Vec<Vec<Event<'static>>> {
        let Field::Path(path) = field else { return Vec::new() };
        let mut arrays = Vec::new();
        walk_to(&self.document, if **path == *ITSELF { "" } else { path }, false, &mut arrays);
        let members = |array| {
            let mut members = Vec::new();
            flatten(array, &mut members);
            members.into_iter().map(|member| Event::new(member.clone(), None)).collect()
        };
        arrays.into_iter().filter(|array| !array.is_null()).map(members).collect()
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
    if let Check::Members(members) = &test.check {
        return event.arrays(&test.field).iter().any(|array| any_member(array, members));
    }
    let values = event.values(&test.field);
    match &test.check {
        Check::Reference(reference) => {
            let others = event.values(&reference.other);
            values.iter().any(|value| others.iter().any(|other| refers(value, other, reference)))
        }
        check => values.iter().any(|value| satisfies(value, check)),
    }
}

fn any_member(array: &[Event<'_>], members: &Members) -> bool {
    let holds_for = |member: &Event<'_>| holds(&members.body, member) == Some(true);
    match members.which {
        Which::Any => array.iter().any(holds_for),
        which => which.position(array.len()).is_some_and(|position| holds_for(&array[position])),
    }
}

fn flatten<'a>(value: &'a Value, members: &mut Vec<&'a Value>) {
    match value {
        Value::Array(inner) => inner.iter().for_each(|member| flatten(member, members)),
        member => members.push(member),
    }
}

fn refers(value: &Value, other: &Value, reference: &Reference) -> bool {
    let as_compared = |value| scalar_text(value).map(|text| if reference.cased { text } else { fold(&text) });
    match (as_compared(value), as_compared(other)) {
        (Some(value), Some(other)) => reference.place.holds(&value, &other),
        _ => false,
    }
}

fn facet(name: &str, event: &Event<'_>) -> Option<Value> {
    // Most names are no facets, and reading the event takes longer than all else.
    let may_be = matches!(name, "user.name" | "source.ip")
        || name.starts_with("event.")
        || name.starts_with("orchestrator.");
    let event = AuditEvent::parse(event.bytes.filter(|_| may_be)?);
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

fn satisfies(value: &Value, check: &Check) -> bool {
    let text = scalar_text(value);
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
                && text_is(&|text| exact_number(text).is_some_and(|number| order.holds(number, *threshold)))
        }
        Check::Network(network) => {
            text_is(&|text| address(text).is_some_and(|address| network.contains(&address)))
        }
        Check::Time(unit, number) => {
            text_is(&|text| moment::parts(text).is_some_and(|parts| parts.contains(&(*unit, *number))))
        }
        Check::Outside(texts) => text_is(&|text| !texts.iter().any(|other| **other == *text)),
        Check::Reference(_) | Check::Members(_) => false,
    }
}
