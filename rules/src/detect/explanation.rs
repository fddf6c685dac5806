//! What an alert says beside its summary: what matched, what was counted, and what to do.

use std::collections::BTreeMap;

use watchbell_event::audit::AuditEvent;
use watchbell_event::secrets::{REDACTED, redact};
use watchbell_event::{Counted, CountedRule, Envelope, Explanation, Format, MetCondition};

use super::describe::{measure, plain, span, without_parameters};
use super::matched::{self, Matched};
use crate::compile::RuleSet;
use crate::correlate::{Comparison, Condition, Correlated, Correlation, Kind, Presence};
use crate::evaluate::naive::Event;
use crate::formula::Field;
use crate::rule::Rule;
use crate::text::float_text;

/// Longest description, in characters.
const MAX_DESCRIPTION_CHARACTERS: usize = 2_000;
/// Longest other text, in characters.
const MAX_TEXT_CHARACTERS: usize = 300;
/// Most steps, false positives, references, rules that are counted, and values.
const MAX_TEXTS: usize = 10;

/// Why a rule matched an event.
pub(super) fn of_event(rule: &Rule, envelope: &Envelope) -> Explanation {
    let event = Event::read_as(envelope.format, &envelope.bytes);
    let mut found = event.map(|event| matched::find(&rule.formula, &event)).unwrap_or_default();
    leave_out_secrets(&mut found, envelope.format);
    Explanation {
        matched: found.conditions,
        matched_beyond: found.beyond,
        context: context(envelope),
        ..of_rule(rule)
    }
}

/// Why a correlation matched; `last` is the event that made it match, if one did.
pub(super) fn of_correlation(
    set: &RuleSet,
    rule: &Rule,
    correlated: &Correlated,
    last: Option<&Envelope>,
) -> Explanation {
    let Some(definition) = rule.correlation.as_deref() else { return of_rule(rule) };
    let group = correlated.group.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let counted = Counted {
        rules: counted_rules(set, definition),
        what: what(definition),
        reached: float_text(correlated.value),
        condition: condition(definition),
        group: group.map(|(name, value)| (text(name), text(&redact(value)))).collect(),
        timespan: span(definition.span_micros),
        window_start: correlated.window_start,
        window_end: correlated.window_end,
    };
    let found = last.map(|last| matched_by_last(set, definition, last)).unwrap_or_default();
    Explanation {
        matched: found.conditions,
        matched_beyond: found.beyond,
        correlation: Some(counted),
        context: last.map(context).unwrap_or_default(),
        ..of_rule(rule)
    }
}

/// What the last event met: the conditions of the first rule that it matched, behind the values that are new.
fn matched_by_last(set: &RuleSet, definition: &Correlation, last: &Envelope) -> Matched {
    let Some(event) = Event::read_as(last.format, &last.bytes) else { return Matched::default() };
    let rules = matching_rules(set, definition).into_iter().filter(|rule| rule.format == last.format);
    let mut found = matched::find_first(rules.map(|rule| &rule.formula), &event);
    found.conditions.splice(..0, new_values(definition, &event));
    leave_out_secrets(&mut found, last.format);
    found
}

/// Programs log under any name: what a member holds whose name says that it is a secret is left out.
fn leave_out_secrets(found: &mut Matched, format: Format) {
    if format != Format::Log {
        return;
    }
    for condition in &mut found.conditions {
        for value in &mut condition.values {
            let named = format!("{}={value}", condition.field);
            let told = redact(&named);
            *value = told.strip_prefix(&format!("{}=", condition.field)).unwrap_or(REDACTED).to_owned();
        }
    }
}

/// What the rule says about itself.
fn of_rule(rule: &Rule) -> Explanation {
    Explanation {
        description: plain(&rule.description, MAX_DESCRIPTION_CHARACTERS),
        next_steps: texts(&rule.next_steps),
        false_positives: texts(&rule.false_positives),
        references: texts(&rule.references),
        ..Explanation::default()
    }
}

/// What people ask next about an audit event: as whom, with which client, from where exactly, and by which right.
fn context(envelope: &Envelope) -> BTreeMap<String, String> {
    if envelope.format != Format::KubernetesAudit {
        return BTreeMap::new();
    }
    let event = AuditEvent::parse(&envelope.bytes);
    let list = |values: &[std::borrow::Cow<'_, str>]| {
        let shown = values.iter().take(MAX_TEXTS).map(|value| &**value).collect::<Vec<_>>().join(", ");
        (!shown.is_empty()).then_some(shown)
    };
    let owned = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
    let object = &event.object_ref;
    let context = [
        ("user.username", owned(&event.user.username)),
        ("user.groups", list(&event.user.groups)),
        ("impersonatedUser.username", owned(&event.impersonated_user.username)),
        ("impersonatedUser.groups", list(&event.impersonated_user.groups)),
        ("userAgent", owned(&event.user_agent)),
        ("sourceIPs", list(&event.source_ips)),
        ("requestURI", event.request_uri.as_deref().map(without_parameters)),
        ("objectRef.apiGroup", owned(&object.api_group)),
        ("objectRef.subresource", owned(&object.subresource)),
        ("responseStatus.code", event.response_status.code.map(|code| code.to_string())),
        ("authorization.k8s.io/reason", owned(&event.annotations.reason)),
    ];
    let known = context.into_iter().filter_map(|(name, value)| Some((name, value?)));
    known
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), plain(&value, MAX_TEXT_CHARACTERS)))
        .collect()
}

/// The rules that a correlation refers to, as far as they are told.
fn referenced<'a>(set: &'a RuleSet, definition: &'a Correlation) -> impl Iterator<Item = &'a Rule> {
    definition.references.iter().take(MAX_TEXTS).filter_map(|reference| {
        set.rules()
            .iter()
            .find(|rule| [&rule.id, &rule.name].into_iter().flatten().any(|name| *name == reference.name))
    })
}

/// The rules that match events, of those that a correlation counts, directly or through other correlations.
fn matching_rules<'a>(set: &'a RuleSet, definition: &'a Correlation) -> Vec<&'a Rule> {
    let (mut correlations, mut found) = (vec![definition], Vec::new());
    let mut at = 0;
    while let Some(definition) = correlations.get(at).copied() {
        for rule in referenced(set, definition) {
            match rule.correlation.as_deref() {
                Some(inner) if correlations.len() < MAX_TEXTS => correlations.push(inner),
                Some(_) => {}
                None => found.push(rule),
            }
        }
        at += 1;
    }
    found
}

fn counted_rules(set: &RuleSet, definition: &Correlation) -> Vec<CountedRule> {
    let rules = referenced(set, definition);
    rules.map(|rule| CountedRule { id: text(&rule.key), title: text(&rule.title) }).collect()
}

fn what(definition: &Correlation) -> String {
    let measure = measure(definition.kind);
    text(&match definition.fields.as_slice() {
        [] => measure,
        fields => format!("{measure} of {}", fields.join(", ")),
    })
}

fn condition(definition: &Correlation) -> String {
    text(&match &definition.condition {
        Condition::Number(bounds) => {
            let bounds = bounds.iter().map(|bound| {
                let sign = match bound.comparison {
                    Comparison::Less => "<",
                    Comparison::LessOrEqual => "<=",
                    Comparison::Greater => ">",
                    Comparison::GreaterOrEqual => ">=",
                    Comparison::Equal => "=",
                    Comparison::NotEqual => "!=",
                };
                format!("{sign} {}", float_text(bound.number))
            });
            bounds.collect::<Vec<_>>().join(" and ")
        }
        Condition::Rules(presence) => presence_words(presence, definition),
    })
}

fn presence_words(presence: &Presence, definition: &Correlation) -> String {
    let joined = |parts: &[Presence], word: &str| {
        let parts: Vec<String> = parts.iter().map(|part| presence_words(part, definition)).collect();
        format!("({})", parts.join(word))
    };
    match presence {
        Presence::Rule(rule) => {
            definition.references.get(*rule).map_or_else(String::new, |reference| reference.name.clone())
        }
        Presence::Not(part) => format!("not {}", presence_words(part, definition)),
        Presence::All(parts) => joined(parts, " and "),
        Presence::Any(parts) => joined(parts, " or "),
    }
}

/// The values that had not been seen before.
fn new_values(definition: &Correlation, event: &Event<'_>) -> Vec<MetCondition> {
    if definition.kind != Kind::NewValue {
        return Vec::new();
    }
    let test = format!("not seen for {}", span(definition.span_micros));
    let fields = definition.fields.iter().filter_map(|field| Field::path(field).ok());
    fields.map(|field| matched::told(&field, test.clone(), event)).collect()
}

fn texts(texts: &[String]) -> Vec<String> {
    texts.iter().take(MAX_TEXTS).map(|known| text(known)).collect()
}

fn text(text: &str) -> String {
    plain(text, MAX_TEXT_CHARACTERS)
}
