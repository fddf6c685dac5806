//! Cuts what a client can make as long as it likes, so that an event beyond the limits is kept with its
//! actor, verb, object and status. What matters least for detection goes first.

use std::collections::VecDeque;

use crate::json::{self, Edit, Limits, Scanner, SyntaxError, Tape, Value};
use crate::redact::LEFT_OUT;

/// Forwarded addresses that are kept, the last: only the very last was written by the API server itself,
/// from the connection; all before come from a header.
const SOURCE_ADDRESSES: usize = 16;
/// Bytes that are kept of one text.
const TEXT_BYTES: usize = 16 << 10;
/// Annotations that are kept, the first.
const ANNOTATIONS: usize = 1000;
/// Members that an event, or an object directly within it, may have at most to be cut.
const MEMBERS: usize = 1000;
/// Follows what was kept of a text.
const CUT: &str = " (cut by watchbell: too long)";

/// What is cut at one time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// Headers and the address of the request, of which detection needs little.
    Request,
    /// Both bodies, as the API server itself truncates.
    Bodies,
    /// Annotations, and what a response's status says beside its code.
    Outcome,
}

/// In this order.
pub(super) const STAGES: [Stage; 3] = [Stage::Request, Stage::Bodies, Stage::Outcome];

/// The event with one stage's members cut; none if there is nothing to cut. Overwrites `tape`.
pub(super) fn shrunk(text: &str, stage: Stage, tape: &mut Tape) -> Option<String> {
    let event = top_level(text, tape)?;
    let edits: Vec<Edit> = event.members().filter_map(|(key, value)| edit(stage, key, value)).collect();
    (!edits.is_empty()).then(|| json::apply(text, edits))
}

/// One level only: everything within the members is passed over.
fn top_level<'a>(text: &'a str, tape: &'a mut Tape) -> Option<Value<'a>> {
    json::parse(text.as_bytes(), 0, Limits { depth: 1, values: 2 * MEMBERS }, tape).ok()?;
    tape.root(text)
}

fn edit(stage: Stage, key: Value<'_>, value: Value<'_>) -> Option<Edit> {
    let replacement = match (stage, key.as_text()?.as_ref()) {
        (Stage::Request, "sourceIPs") => last_elements(value.raw()),
        (Stage::Request, "userAgent" | "requestURI") => cut_text(value),
        (Stage::Bodies, "requestObject" | "responseObject") => Some(json::quoted(LEFT_OUT)),
        (Stage::Outcome, "annotations") => first_members(value.raw()),
        (Stage::Outcome, "responseStatus") => short_status(value.raw()),
        _ => None,
    }?;
    Some(Edit { range: value.start()..value.end(), replacement })
}

fn cut_text(value: Value<'_>) -> Option<String> {
    let text = value.as_text().filter(|text| text.len() > TEXT_BYTES)?;
    let kept = text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or_default();
    Some(json::quoted(&format!("{kept}{CUT}")))
}

/// A status whose message is cut, and whose details are left out if they are long: they name everything
/// that is wrong with what a client sent.
fn short_status(status: &str) -> Option<String> {
    let mut tape = Tape::default();
    let status_value = top_level(status, &mut tape)?;
    let edits: Vec<Edit> = status_value
        .members()
        .filter_map(|(key, value)| {
            let replacement = match key.as_text()?.as_ref() {
                "message" => cut_text(value)?,
                "details" if value.raw().len() > TEXT_BYTES => json::quoted(LEFT_OUT),
                _ => return None,
            };
            Some(Edit { range: value.start()..value.end(), replacement })
        })
        .collect();
    (!edits.is_empty()).then(|| json::apply(status, edits))
}

/// A list with only its last elements; none if it is no list or has no more. Needs no memory for the others.
fn last_elements(list: &str) -> Option<String> {
    let mut starts = VecDeque::with_capacity(SOURCE_ADDRESSES + 1);
    let mut dropped = false;
    let read = each(list, b'[', b']', |scan| {
        starts.push_back(scan.pos);
        if starts.len() > SOURCE_ADDRESSES {
            starts.pop_front();
            dropped = true;
        }
        scan.skip_value()
    });
    read.ok()?;
    let kept = list.get(*starts.front().filter(|_| dropped)?..)?;
    Some(format!("[{kept}"))
}

/// An object with only its first members; none if it is no object or has no more.
fn first_members(object: &str) -> Option<String> {
    let (mut count, mut end) = (0, 0);
    let read = each(object, b'{', b'}', |scan| {
        scan.string(|| ())?;
        scan.colon()?;
        scan.skip_value()?;
        count += 1;
        if count == ANNOTATIONS {
            end = scan.pos;
        }
        Ok(())
    });
    read.ok()?;
    let kept = object.get(..end).filter(|_| count > ANNOTATIONS)?;
    Some(format!("{kept}}}"))
}

/// Calls `item` at each element or member of a container that begins and ends with these.
fn each<'a>(
    text: &'a str,
    open: u8,
    close: u8,
    mut item: impl FnMut(&mut Scanner<'a>) -> Result<(), SyntaxError>,
) -> Result<(), SyntaxError> {
    let mut scan = Scanner::new(text.as_bytes(), 0);
    if !scan.take(open) {
        return scan.error("another kind of value");
    }
    scan.skip_space();
    if scan.take(close) {
        return Ok(());
    }
    loop {
        item(&mut scan)?;
        if !scan.next_or(close)? {
            return Ok(());
        }
    }
}
