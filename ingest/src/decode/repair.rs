use std::borrow::Cow;

use super::shrink::{STAGES, shrunk};
use super::{DecodeLimits, Reason};
use crate::json::{self, Edit, Flaw, Limits, Tape};

/// Stands in the place of what was cut.
const CUT: &str = "\"cut by watchbell: nested too deeply\"";
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
    if let Some(reason) = too_much(bytes.len(), limits, tape) {
        text = Cow::Owned(shrink(&text, limits, tape)?);
        repaired = Some(reason);
    } else if repaired.is_some() {
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

/// Why a text of this length, just parsed, is too much; none if it is not.
fn too_much(len: usize, limits: &DecodeLimits, tape: &Tape) -> Option<Reason> {
    match tape.flaws() {
        _ if len > limits.event_bytes => Some(Reason::TooLong(limits.event_bytes)),
        [Flaw::TooManyValues] => Some(Reason::TooManyValues(limits.values)),
        _ => None,
    }
}

/// Cuts an event, stage by stage, until it is within the limits, and parses what is left.
fn shrink(text: &str, limits: &DecodeLimits, tape: &mut Tape) -> Result<String, Reason> {
    let mut text = text.to_owned();
    for stage in STAGES {
        if let Some(shorter) = shrunk(&text, stage, tape) {
            text = shorter;
        }
        parse(&text, limits, tape)?;
        if too_much(text.len(), limits, tape).is_none() {
            return Ok(text);
        }
    }
    Err(too_much(text.len(), limits, tape).unwrap_or(Reason::TooManyValues(limits.values)))
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
