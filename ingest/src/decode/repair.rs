use std::borrow::Cow;

use super::{DecodeLimits, Reason};
use crate::json::{self, Edit, Flaw, Limits, Tape};

/// Stands in the place of what was cut.
const CUT: &str = "\"cut by watchbell: nested too deeply\"";
/// Stands in the place of a body that was left out.
const LEFT_OUT: &str = "\"left out by watchbell: too large\"";

/// Brings an event into a form that every later stage reads the same way. Returns it with the first flaw
/// that was repaired, if there was any; afterwards `tape` holds the event's nodes without any flaw.
///
/// # Errors
/// If the event has a flaw that is not repaired.
pub(super) fn repair<'a>(
    bytes: &'a [u8],
    limits: &DecodeLimits,
    tape: &mut Tape,
) -> Result<(Cow<'a, str>, Option<Reason>), Reason> {
    let (mut text, mut repaired) = match str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), None),
        Err(_) => (String::from_utf8_lossy(bytes), Some(Reason::NotUnicode)),
    };
    if bytes.len() > limits.event_bytes || tape.flaws() == [Flaw::TooManyValues] {
        let reason = match bytes.len() > limits.event_bytes {
            true => Reason::TooLong(limits.event_bytes),
            false => Reason::TooManyValues(limits.values),
        };
        text = Cow::Owned(without_bodies(&text, tape).ok_or_else(|| reason.clone())?);
        if text.len() > limits.event_bytes {
            return Err(reason);
        }
        repaired = Some(reason);
    }
    if repaired.is_some() {
        parse(&text, limits, tape)?;
    }
    if !tape.flaws().is_empty() {
        let (edits, reason) = repairs(&text, limits, tape)?;
        text = Cow::Owned(json::apply(&text, edits));
        repaired.get_or_insert(reason);
        parse(&text, limits, tape)?;
    }
    match tape.flaws().first() {
        None => Ok((text, repaired)),
        Some(flaw) => Err(reason(flaw, limits)),
    }
}

/// The bounds under which events are parsed.
pub(super) fn parse_limits(limits: &DecodeLimits) -> Limits {
    Limits { depth: limits.depth.min(127), values: limits.values }
}

fn parse(text: &str, limits: &DecodeLimits, tape: &mut Tape) -> Result<(), Reason> {
    let parsed = json::parse(text.as_bytes(), 0, parse_limits(limits), tape);
    parsed.map(|_| ()).map_err(|error| Reason::Syntax(error.reason))
}

/// The edits that repair all flaws, and the first flaw.
fn repairs(text: &str, limits: &DecodeLimits, tape: &Tape) -> Result<(Vec<Edit>, Reason), Reason> {
    let mut edits = Vec::with_capacity(tape.flaws().len());
    let mut first = None;
    for flaw in tape.flaws() {
        let reason = reason(flaw, limits);
        let (range, replacement) = match flaw {
            Flaw::Duplicate { range, in_body: true } => (range.clone(), String::new()),
            Flaw::TooDeep(range) => (range.clone(), CUT.to_owned()),
            Flaw::LoneSurrogate(range) => {
                (range.clone(), json::reescape(text.get(range.clone()).unwrap_or_default()))
            }
            Flaw::HugeNumber(range) => {
                (range.clone(), json::quoted(text.get(range.clone()).unwrap_or_default()))
            }
            Flaw::Duplicate { in_body: false, .. } | Flaw::TooManyValues => return Err(reason),
        };
        edits.push(Edit { range, replacement });
        first.get_or_insert(reason);
    }
    Ok((edits, first.unwrap_or(Reason::NotUnicode)))
}

fn reason(flaw: &Flaw, limits: &DecodeLimits) -> Reason {
    match flaw {
        Flaw::Duplicate { .. } => Reason::DuplicateKey,
        Flaw::TooDeep(_) => Reason::TooDeep(limits.depth),
        Flaw::LoneSurrogate(_) => Reason::NotUnicode,
        Flaw::HugeNumber(_) => Reason::HugeNumber,
        Flaw::TooManyValues => Reason::TooManyValues(limits.values),
    }
}

/// The event without its bodies, as the API server itself truncates. None if it has no bodies.
fn without_bodies(text: &str, tape: &mut Tape) -> Option<String> {
    // one level only: everything within the members is passed over
    json::parse(text.as_bytes(), 0, Limits { depth: 1, values: 1000 }, tape).ok()?;
    let event = tape.root(text)?;
    let edits: Vec<Edit> = ["requestObject", "responseObject"]
        .into_iter()
        .filter_map(|body| event.get(body))
        .map(|body| Edit { range: body.start()..body.end(), replacement: LEFT_OUT.to_owned() })
        .collect();
    (!edits.is_empty()).then(|| json::apply(text, edits))
}
