//! Syslog as it comes over the network: RFC 5424 and what came before it (RFC 3164), and how messages follow one
//! another on a stream (RFC 6587: counted octets, or lines).
//!
//! What the header says is what the transport knows, and the rest is the line. A message without a header that can be
//! read is a line as a whole.

mod frames;

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::{Map, Value};
use watchbell_event::{Envelope, EventId, Timestamp};

pub use frames::{SyslogFrame, SyslogFrames};

use super::super::Origin;
use super::line::syslog::{Header, Tag};
use super::{Fact, Field, LogDecoder, LogLimits, LogRecord, Sequence, level, time};
use crate::redact::Redactor;

/// A message as it came.
#[derive(Clone, Debug)]
pub struct SyslogMessage {
    /// The address that sent it.
    pub peer: IpAddr,
    /// What it sent.
    pub frame: SyslogFrame,
}

/// Makes envelopes of messages, which `delivery` numbers in their order; no message is refused.
#[must_use]
pub fn decode_syslog(
    messages: &[SyslogMessage],
    origin: &Origin,
    delivery: &Sequence,
    limits: &LogLimits,
    redactor: &Redactor,
) -> Vec<Envelope> {
    let mut decoder = LogDecoder::new(origin, limits, redactor);
    let envelope = |(message, number): (&SyslogMessage, u64)| {
        let record = log_record(message, origin.received_at, delivery.id(number));
        Envelope { peer: Some(message.peer), ..decoder.decode(record) }
    };
    messages.iter().zip(0..).map(envelope).collect()
}

fn log_record(message: &SyslogMessage, received_at: Timestamp, identity: EventId) -> LogRecord<'_> {
    let SyslogMessage { peer, frame } = message;
    let bytes = without_end(&frame.bytes);
    // headers are ASCII; what is not comes after them
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    let mut record = LogRecord {
        time: None,
        line: Cow::Borrowed(bytes),
        cut: frame.cut,
        common: None,
        known: vec![
            (Field::EventDataset, "syslog".into()),
            // a message need not name its host, and can name any
            (Field::LogSourceAddress, peer.to_string().into()),
        ],
        attributes: Map::new(),
        format: None,
        identity,
    };
    let message = new_header(text, &mut record)
        .or_else(|| old_header(text, received_at, &mut record))
        .or_else(|| priority_first(text, received_at, &mut record));
    let Some(message) = message else { return record };
    let message = message.strip_prefix('\u{feff}').unwrap_or(message);
    // rsyslog leaves the space in that stood after the tag
    let message = message.strip_prefix(' ').unwrap_or(message);
    // structured messages of rsyslog and others
    let message = message.strip_prefix("@cee:").map_or(message, str::trim_start);
    record.line = Cow::Borrowed(&bytes[text.len() - message.len()..]);
    // a clock that is ahead would make everything else late
    record.time = record.time.map(|time| time.min(received_at));
    record
}

/// The message without what ends it on a stream, as some senders write that into datagrams, too.
fn without_end(bytes: &[u8]) -> &[u8] {
    let last = bytes.iter().rposition(|byte| *byte != 0 && !byte.is_ascii_whitespace());
    &bytes[..last.map_or(0, |last| last + 1)]
}

/// `<PRIORITY>1 TIME HOST APP PROCID MSGID [ID NAME="VALUE"]… MESSAGE`, with `-` for what is not known.
fn new_header<'a>(text: &'a str, record: &mut LogRecord<'a>) -> Option<&'a str> {
    let (priority, rest) = priority(text)?;
    let mut words = rest.strip_prefix("1 ")?.splitn(6, ' ');
    let mut word = || words.next();
    let (time, host, app, process, id) = (word()?, word()?, word()?, word()?, word()?);
    let (data, message) = structured_data(word()?)?;
    record.time = match time {
        "-" => None,
        time => Some(time::whole(time)?),
    };
    know_priority(priority, record);
    know(record, Field::HostName, host);
    know_process(record, app, process);
    know(record, Field::LogSyslogMsgid, id);
    if !data.is_empty() {
        record.attributes.insert("log.syslog.structured_data".to_owned(), Value::Object(data));
    }
    Some(message)
}

/// `<PRIORITY>Jan 31 08:15:00 [HOST ]TAG[PID]: MESSAGE`
fn old_header<'a>(text: &'a str, received_at: Timestamp, record: &mut LogRecord<'a>) -> Option<&'a str> {
    let header = Header::read(text, received_at)?;
    know_priority(header.priority?, record);
    record.time = Some(header.time);
    know(record, Field::HostName, header.host);
    Some(know_tag(header.tag, record))
}

/// `<PRIORITY>[TAG[PID]: ]MESSAGE`, or what Cisco's devices write.
fn priority_first<'a>(text: &'a str, received_at: Timestamp, record: &mut LogRecord<'a>) -> Option<&'a str> {
    let (priority, message) = priority(text)?;
    know_priority(priority, record);
    if let Some((time, message)) = cisco(message, received_at) {
        record.time = time;
        return Some(message);
    }
    Some(Tag::alone(message).map_or(message, |tag| know_tag(tag, record)))
}

/// `[NUMBER: ]TIME[ UTC]: %FACILITY-SEVERITY-NAME: MESSAGE`, of which the time and what begins with `%`. A `*` before the
/// time says that the clock was never set, a `.` that it may be off by now; other zones than UTC have only names.
fn cisco(text: &str, received_at: Timestamp) -> Option<(Option<Timestamp>, &str)> {
    let unnumbered = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let text = if unnumbered.len() < text.len() { unnumbered.strip_prefix(": ")? } else { text };
    let (time, after) = time::syslog(text.strip_prefix(['*', '.']).unwrap_or(text), received_at)?;
    let message = after.strip_prefix(" UTC").unwrap_or(after).strip_prefix(": ")?;
    message.starts_with('%').then_some(((!text.starts_with('*')).then_some(time), message))
}

fn priority(text: &str) -> Option<(u8, &str)> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    let priority = number.parse::<u8>().ok().filter(|priority| is_number && *priority < 192)?;
    Some((priority, rest))
}

fn know_priority(priority: u8, record: &mut LogRecord<'_>) {
    let severity = priority % 8;
    record.known.extend([
        (Field::LogSyslogPriority, u64::from(priority).into()),
        (Field::LogSyslogFacilityCode, u64::from(priority / 8).into()),
        (Field::LogSyslogSeverityCode, u64::from(severity).into()),
        (Field::LogLevel, level::of_syslog_severity(severity).into()),
    ]);
}

/// Returns what follows the tag.
fn know_tag<'a>(tag: Tag<'a>, record: &mut LogRecord<'a>) -> &'a str {
    know_process(record, tag.name, tag.pid);
    tag.message
}

fn know_process<'a>(record: &mut LogRecord<'a>, name: &'a str, process: &'a str) {
    know(record, Field::LogSyslogAppname, name);
    know(record, Field::ProcessName, name);
    know(record, Field::LogSyslogProcid, process);
    if let Ok(pid) = process.parse::<u64>() {
        record.known.push((Field::ProcessPid, Fact::Number(pid)));
    }
}

fn know<'a>(record: &mut LogRecord<'a>, field: Field, text: &'a str) {
    if !matches!(text, "" | "-") {
        record.known.push((field, text.into()));
    }
}

/// The elements by their ids, and the message after them.
fn structured_data(text: &str) -> Option<(Map<String, Value>, &str)> {
    let mut elements = Map::new();
    let mut rest = text;
    if let Some(after) = rest.strip_prefix('-') {
        rest = after;
    } else {
        while let Some(after) = rest.strip_prefix('[') {
            let end = after.find([' ', ']'])?;
            let (id, after) = after.split_at(end);
            let (params, after) = parameters(after)?;
            elements.insert(id.to_owned(), Value::Object(params));
            rest = after;
        }
        if elements.is_empty() {
            return None;
        }
    }
    match rest {
        "" => Some((elements, rest)),
        rest => rest.strip_prefix(' ').map(|message| (elements, message)),
    }
}

/// ` NAME="VALUE"…]`, with `\"`, `\\` and `\]` in values; and what follows.
fn parameters(text: &str) -> Option<(Map<String, Value>, &str)> {
    let mut parameters = Map::new();
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix(']') {
            return Some((parameters, after));
        }
        let (name, after) = rest.strip_prefix(' ')?.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    escaped @ ('"' | '\\' | ']') => value.push(escaped),
                    other => value.extend(['\\', other]),
                },
                (_, other) => value.push(other),
            }
        };
        parameters.insert(name.to_owned(), value.into());
        rest = &after[end + 1..];
    }
}

#[cfg(test)]
mod tests;
