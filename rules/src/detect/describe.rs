//! One line for people, from an event that may say anything.

use watchbell_event::audit::AuditEvent;
use watchbell_event::log::LogDocument;
use watchbell_event::secrets::redact;

use crate::correlate::{Correlated, Kind};
use crate::rule::Rule;
use crate::text::float_text;

/// Longest name within a summary, in characters.
const MAX_NAME_CHARACTERS: usize = 100;
/// Longest summary, in characters.
const MAX_SUMMARY_CHARACTERS: usize = 400;

/// Who did what to which object, from where, with which outcome:
/// `alice listed secrets in kube-system from 10.0.0.7 (200)`, or `alice was refused (403): listed secrets …`. What
/// did not happen must not read as if it had, for whoever sees no more than the first words.
pub(super) fn summary(event: &AuditEvent<'_>) -> String {
    let code = event.response_status.code;
    let outcome = match code {
        Some(code @ (401 | 403)) => Some(format!("was refused ({code}):")),
        Some(code) if code >= 400 => Some(format!("failed ({code}):")),
        _ => None,
    };
    let failed = outcome.is_some();
    let mut words = vec![actor(event)];
    words.extend(outcome);
    words.push(action(event));
    if let Some(namespace) = given(&event.object_ref.namespace) {
        words.push(format!("in {}", name(namespace)));
    }
    if let Some(address) = event.facets().source_ip {
        words.push(format!("from {address}"));
    }
    if let (Some(code), false) = (code, failed) {
        words.push(format!("({code})"));
    }
    plain(&words.join(" "), MAX_SUMMARY_CHARACTERS)
}

/// Where a line was written and what it says, without secrets: `shop/web-1: Failed password for root from …`.
pub(super) fn log_summary(document: &LogDocument<'_>) -> String {
    let origin = match (given(&document.namespace), given(&document.resource_name)) {
        (Some(namespace), Some(pod)) => Some(format!("{}/{}", name(namespace), name(pod))),
        (namespace, pod) => pod.or(namespace).or_else(|| given(&document.host)).map(name),
    };
    let message = given(&document.message).unwrap_or("a line without text");
    // what is far behind what is shown need not be looked through
    let line = redact(&message[..message.floor_char_boundary(8 * MAX_SUMMARY_CHARACTERS)]);
    plain(
        &origin.map_or_else(|| line.to_string(), |origin| format!("{origin}: {line}")),
        MAX_SUMMARY_CHARACTERS,
    )
}

/// What a correlation counted, for whom, within which time: `12 events within 5m (user.name alice); last: …`.
pub(super) fn correlation(rule: &Rule, correlated: &Correlated, last: Option<&str>) -> String {
    let kind = rule.correlation.as_ref().map_or(Kind::EventCount, |correlation| correlation.kind);
    let reached = float_text(correlated.value);
    let what = match kind {
        Kind::EventCount | Kind::ValueCount | Kind::Temporal | Kind::TemporalOrdered => {
            format!("{reached} {}", measure(kind))
        }
        Kind::Sum | Kind::Average | Kind::Percentile(_) | Kind::Median => {
            format!("{} is {reached}", measure(kind))
        }
        Kind::NewValue => "a new value".to_owned(),
    };
    let mut words = vec![what, "within".to_owned(), window(correlated)];
    let group = correlated.group.iter().filter_map(|(field, value)| Some((field, value.as_ref()?)));
    let group: Vec<String> =
        group.map(|(field, value)| format!("{field} {}", name(&redact(value)))).collect();
    if !group.is_empty() {
        words.push(format!("({})", group.join(", ")));
    }
    let mut text = words.join(" ");
    if let Some(last) = last {
        text = format!("{text}; last: {last}");
    }
    plain(&text, MAX_SUMMARY_CHARACTERS)
}

/// What a correlation counts or works out.
pub(super) fn measure(kind: Kind) -> String {
    match kind {
        Kind::EventCount => "events",
        Kind::ValueCount => "distinct values",
        Kind::Temporal => "rules that matched",
        Kind::TemporalOrdered => "rules that matched in order",
        Kind::Sum => "the sum",
        Kind::Average => "the average",
        Kind::Percentile(percent) => return format!("percentile {}", float_text(percent)),
        Kind::Median => "the median",
        Kind::NewValue => "new values",
    }
    .to_owned()
}

/// How long the window is, as rules write it.
pub(super) fn window(correlated: &Correlated) -> String {
    span(correlated.window_end.micros_since(correlated.window_start))
}

/// A time span in microseconds, as rules write it.
pub(super) fn span(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds % length == 0 && seconds >= *length);
    unit.map_or_else(|| format!("{seconds}s"), |(length, name)| format!("{}{name}", seconds / length))
}

/// Text that cannot break a line, a terminal or the direction of reading, and is not too long.
pub(super) fn plain(text: &str, max_characters: usize) -> String {
    let visible = text.chars().filter(|character| !is_invisible(*character));
    let mut characters = visible.map(|character| if character.is_control() { ' ' } else { character });
    let mut plain: String = characters.by_ref().take(max_characters).collect();
    if characters.next().is_some() {
        plain.pop();
        plain.push('…');
    }
    plain
}

/// What was requested, without what was given to it: the path and the names of the parameters. Their values may be the
/// words of a command, with a password among them.
pub(super) fn without_parameters(uri: &str) -> String {
    let path = path(uri);
    let query = uri.split('#').next().and_then(|uri| uri.split_once('?')).map(|(_, query)| query);
    let name =
        |pair: &str| pair.split_once('=').map_or_else(|| pair.to_owned(), |(name, _)| format!("{name}=…"));
    let mut names: Vec<String> = query.unwrap_or_default().split('&').map(name).collect();
    names.dedup();
    match names.join("&") {
        names if names.is_empty() => path.to_owned(),
        names => format!("{path}?{names}"),
    }
}

fn path(uri: &str) -> &str {
    uri.split(['?', '#']).next().unwrap_or_default()
}

/// Marks that change how other text is shown, and separators of lines.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn actor(event: &AuditEvent<'_>) -> String {
    let user = given(&event.user.username).map_or("an unauthenticated client".to_owned(), name);
    match given(&event.impersonated_user.username) {
        Some(other) => format!("{user} as {}", name(other)),
        None => user,
    }
}

fn action(event: &AuditEvent<'_>) -> String {
    let verb = event.verb.as_deref().unwrap_or_default();
    let Some(resource) = given(&event.object_ref.resource) else {
        let path = path(event.request_uri.as_deref().unwrap_or_default());
        return format!("requested {} {}", name(verb).to_uppercase(), name(path)).trim_end().to_owned();
    };
    let object = match given(&event.object_ref.name) {
        Some(object) => format!("{}/{}", name(resource), name(object)),
        None => name(resource),
    };
    match (verb, given(&event.object_ref.subresource)) {
        (_, Some("exec")) => format!("ran a command in {object}"),
        (_, Some("attach")) => format!("attached to {object}"),
        (_, Some("portforward")) => format!("forwarded ports of {object}"),
        ("create", Some("token")) => format!("requested a token for {object}"),
        (_, Some(part)) => format!("{} {} of {object}", past(verb), name(part)),
        (_, None) => format!("{} {object}", past(verb)),
    }
}

fn past(verb: &str) -> String {
    match verb {
        "get" => "read",
        "list" => "listed",
        "watch" => "watched",
        "create" => "created",
        "update" => "updated",
        "patch" => "patched",
        "delete" => "deleted",
        "deletecollection" => "deleted all",
        "" => "accessed",
        _ => return format!("did {} on", name(verb)),
    }
    .to_owned()
}

fn given<'a>(text: &'a Option<std::borrow::Cow<'_, str>>) -> Option<&'a str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn name(text: &str) -> String {
    plain(text, MAX_NAME_CHARACTERS)
}
