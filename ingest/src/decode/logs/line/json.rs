//! Lines that are one JSON object: each member stands under its own name, and some names are understood.

use std::borrow::Cow;

use super::super::draft::{Draft, MemberValue};
use super::super::{Field, LogLimits, level, time};
use super::access::{is_status, say_status, say_target};
use crate::json::{self, Edit, Flaw, Kind, Limits, Tape, Value};

/// Stands in the place of what was cut.
const CUT: &str = "\"cut by watchbell: nested too deeply\"";

/// Parses a line that is one JSON object and nothing else, into `tape`. What readers could disagree about is
/// mended: of a key given twice the last counts.
pub(in super::super) fn parse<'t>(
    line: &'t str,
    limits: &LogLimits,
    tape: &mut Tape,
) -> Option<Cow<'t, str>> {
    let line = line.trim_ascii();
    if !(line.starts_with('{') && line.ends_with('}')) {
        return None;
    }
    let limits = Limits { depth: limits.depth.min(127), values: limits.values };
    let parse = |text: &str, tape: &mut Tape| {
        json::parse(text.as_bytes(), 0, limits, tape).is_ok_and(|end| end == text.len())
    };
    if !parse(line, tape) {
        return None;
    }
    if tape.flaws().is_empty() {
        return Some(Cow::Borrowed(line));
    }
    let mended = json::apply(line, tape.flaws().iter().map(|flaw| mend(flaw, line)).collect::<Option<_>>()?);
    (parse(&mended, tape) && tape.flaws().is_empty()).then_some(Cow::Owned(mended))
}

fn mend(flaw: &Flaw, line: &str) -> Option<Edit> {
    let text = |range: &std::ops::Range<usize>| line.get(range.clone()).unwrap_or_default();
    let (range, replacement) = match flaw {
        Flaw::Duplicate { range, .. } => (range, String::new()),
        Flaw::TooDeep(range) => (range, CUT.to_owned()),
        Flaw::LoneSurrogate(range) => (range, json::reescape(text(range))),
        Flaw::HugeNumber(range) => (range, json::quoted(text(range))),
        Flaw::TooManyValues => return None,
    };
    Some(Edit { range: range.clone(), replacement })
}

/// Takes over the members of the object that was parsed.
pub(in super::super) fn read<'a>(line: Value<'a>, draft: &mut Draft<'a>) {
    draft.dataset = "json";
    draft.expect_members(line.count());
    for (name, value) in line.members() {
        let Some(key) = name.as_text() else { continue };
        if let Some(text) = as_text(value) {
            say_common(&key, text.clone(), draft);
            match &*key {
                "message" => {
                    draft.message = Some(text);
                    continue;
                }
                "msg" | "log" | "MESSAGE" if draft.message.is_none() => draft.message = Some(text),
                _ => {}
            }
        }
        let below_line = if Field::is_first_key(Field::first_key(&key)) {
            say_fields(&key, value, draft);
            true
        } else {
            draft.stands_below_line(&key)
        };
        let is_compact = name.kind() == Kind::Plain && value.start() == name.end() + 1;
        let written = match is_compact {
            true => MemberValue::Whole(name.raw_to(value)),
            false => MemberValue::Json(value.raw()),
        };
        draft.new_member(key, written, below_line);
    }
    // what has no text of its own is complete by its members
    draft.message.get_or_insert(Cow::Borrowed(""));
}

/// The content of a text, or a number as it is written.
fn as_text(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value.kind() {
        Kind::Number => Some(Cow::Borrowed(value.raw())),
        _ => value.as_text(),
    }
}

/// Members that are named like fields of the schema, with dots or nested; the first key is one of theirs.
fn say_fields<'a>(path: &str, value: Value<'a>, draft: &mut Draft<'a>) {
    match (Field::from_path(path), as_text(value)) {
        (Some(Field::LogLevel), Some(text)) => {
            if let Some(level) = level::normal(&text) {
                draft.say(Field::LogLevel, level);
            }
        }
        (Some(field), Some(text)) => match text.parse::<u64>() {
            Ok(number) if value.kind() == Kind::Number => draft.say(field, number),
            _ => draft.say(field, text),
        },
        _ => value.members().for_each(|(key, value)| {
            if let Some(key) = key.as_text() {
                say_fields(&format!("{path}.{key}"), value, draft);
            }
        }),
    }
}

/// Fills the field that many programs mean by a name.
pub(super) fn say_common<'a>(key: &str, value: Cow<'a, str>, draft: &mut Draft<'a>) {
    let field = match key {
        "level" | "lvl" | "severity" | "loglevel" | "log_level" | "levelname" => {
            let level = level::of_number(&value).map(Cow::Borrowed).or_else(|| level::normal(&value));
            return level.map_or((), |level| draft.say(Field::LogLevel, level));
        }
        "time" | "ts" | "timestamp" | "@timestamp" | "start_time" => {
            draft.time = draft.time.or_else(|| time::whole(&value));
            return;
        }
        "remote_addr"
        | "remoteAddr"
        | "remote_ip"
        | "remoteIP"
        | "client_ip"
        | "clientip"
        | "clientIP"
        | "downstream_remote_address" => return say_client(value, draft),
        "status" | "status_code" | "response_code" => {
            if is_status(&value) || value == "0" && key == "response_code" {
                draft.say(Field::HttpResponseStatusCode, value.parse::<u64>().unwrap_or(0));
                say_web(draft);
            }
            return;
        }
        "path" | "uri" | "request_uri" => {
            if let Cow::Borrowed(target) = value {
                say_target(target, draft);
            }
            return;
        }
        "method" | "request_method" | "http_method" => Field::HttpRequestMethod,
        "logger" | "logger_name" => Field::LogLogger,
        "user" | "username" | "user_name" | "remote_user" => Field::UserName,
        "user_agent" | "http_user_agent" => Field::UserAgentOriginal,
        "authority" => Field::UrlDomain,
        "x_forwarded_for" | "http_x_forwarded_for" => Field::NetworkForwardedIp,
        "request_id" => Field::HttpRequestId,
        "response_code_details" => Field::EventReason,
        "upstream_host" => Field::DestinationAddress,
        "trace_id" | "traceId" => Field::TraceId,
        "span_id" | "spanId" => Field::SpanId,
        _ => return,
    };
    if !matches!(&*value, "" | "-") {
        draft.say(field, value);
    }
    if field == Field::HttpRequestMethod {
        say_web(draft);
    }
}

fn say_client<'a>(value: Cow<'a, str>, draft: &mut Draft<'a>) {
    match value {
        Cow::Borrowed(client) => draft.say_client(client),
        // with escapes it is no address
        Cow::Owned(client) => draft.say(Field::SourceAddress, client),
    }
}

/// A status and a method make it the log of a request.
fn say_web(draft: &mut Draft<'_>) {
    let status = match (draft.fact(Field::HttpResponseStatusCode), draft.fact(Field::HttpRequestMethod)) {
        (Some(super::super::Fact::Number(status)), Some(_)) => status.to_string(),
        _ => return,
    };
    say_status(&status, draft);
}
