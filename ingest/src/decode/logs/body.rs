//! Request bodies with log records: JSON objects one after another (with or without line breaks), an array of
//! them, or plain lines.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde_json::Map;
use watchbell_event::Timestamp;

use super::super::{DecodeError, Decoded, Origin, Place, Reason, Rejected};
use super::{CriLine, Field, LogDecoder, LogLimits, LogRecord, Sequence, line, time};
use crate::json::{Scanner, Tape};
use crate::redact::Redactor;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What a body is said to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyForm {
    /// JSON if it begins like it, else lines.
    #[default]
    ByContent,
    /// One line after another, whatever they are.
    Lines,
}

/// Reads all records of a body, which `delivery` numbers in their order. Lines of container runtimes
/// are taken apart.
///
/// # Errors
/// If it is empty or has more records than allowed. What is no record is in [`Decoded::rejected`].
pub fn decode_log_body(
    body: &Bytes,
    form: BodyForm,
    origin: &Origin,
    delivery: &Sequence,
    limits: &LogLimits,
    redactor: &Redactor,
) -> Result<Decoded, DecodeError> {
    let start = if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let decoder = LogDecoder::new(origin, limits, redactor);
    let (decoded, tape) = (Decoded::default(), Tape::default());
    let mut reader = Reader { body, delivery, limits, decoder, tape, decoded, records: 0 };
    let first = body[start..].iter().find(|byte| !byte.is_ascii_whitespace());
    match (form, first) {
        (_, None) => return Err(DecodeError::Empty),
        (BodyForm::ByContent, Some(b'{' | b'[')) => reader.values(start),
        _ => reader.lines(start),
    }?;
    Ok(reader.decoded)
}

struct Reader<'a> {
    body: &'a Bytes,
    delivery: &'a Sequence,
    limits: &'a LogLimits,
    decoder: LogDecoder<'a>,
    tape: Tape,
    decoded: Decoded,
    /// Records so far, good and bad.
    records: usize,
}

impl<'a> Reader<'a> {
    fn lines(&mut self, start: usize) -> Result<(), DecodeError> {
        for line in self.body[start..].split(|byte| *byte == b'\n') {
            self.line(line.strip_suffix(b"\r").unwrap_or(line))?;
        }
        Ok(())
    }

    /// One line; one without content is only space between others.
    fn line(&mut self, line: &'a [u8]) -> Result<(), DecodeError> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let identity = self.delivery.id(self.next()? as u64);
        let mut record = LogRecord {
            time: None,
            line: Cow::Borrowed(line),
            cut: false,
            common: None,
            known: Vec::new(),
            attributes: Map::new(),
            format: None,
            identity,
        };
        if let Some(cri) = CriLine::parse(line) {
            record.time = Some(cri.time);
            record.line = Cow::Borrowed(cri.message);
            record.known.push((Field::LogIostream, cri.stream.into()));
        }
        self.decoded.envelopes.push(self.decoder.decode(record));
        Ok(())
    }

    /// JSON values one after another. What begins like one but is not is kept as a line of text.
    fn values(&mut self, start: usize) -> Result<(), DecodeError> {
        let mut scan = Scanner::new(self.body, start);
        loop {
            scan.skip_space();
            let at = scan.pos;
            match scan.peek() {
                None => return Ok(()),
                Some(b'[') if is_pair(&scan) => {
                    // it was passed over once already
                    let _ = scan.skip_value();
                    self.record(at..scan.pos)?;
                }
                Some(b'[') if begins_array(&scan) => self.array(&mut scan)?,
                Some(b'{') if scan.skip_value().is_ok() => self.record(at..scan.pos)?,
                Some(_) => {
                    let rest = &self.body[at..];
                    let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                    self.line(rest[..length].trim_ascii_end())?;
                    scan.pos = at + length;
                }
            }
        }
    }

    /// The elements of an array; from where it is broken on, it goes into quarantine.
    fn array(&mut self, scan: &mut Scanner<'_>) -> Result<(), DecodeError> {
        scan.pos += 1;
        scan.skip_space();
        if scan.take(b']') {
            return Ok(());
        }
        loop {
            let at = scan.pos;
            if scan.skip_value().is_err() {
                return self.broken(at, scan);
            }
            self.record(at..scan.pos)?;
            let end = scan.pos;
            match scan.next_or(b']') {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(_) => return self.broken(end, scan),
            }
        }
    }

    fn broken(&mut self, at: usize, scan: &mut Scanner<'_>) -> Result<(), DecodeError> {
        scan.pos = self.body.len();
        self.reject(at..self.body.len(), Reason::Syntax("an array that cannot be read to its end"))
    }

    fn reject(&mut self, range: Range<usize>, reason: Reason) -> Result<(), DecodeError> {
        let place = Place { event: self.next()?, offset: range.start };
        self.decoded.rejected.push(Rejected {
            cluster: None,
            place,
            reason,
            repaired: false,
            bytes: self.body.slice(range),
        });
        Ok(())
    }

    /// One value: an agent's record, or Fluentd's pair of a time and a record.
    fn record(&mut self, range: Range<usize>) -> Result<(), DecodeError> {
        let text = String::from_utf8_lossy(&self.body[range.clone()]);
        let (time, text) = match fluentd_pair(&text) {
            Some((time, record)) => (Some(time), record),
            None => (None, &*text),
        };
        if !text.starts_with('{') {
            return self.reject(range, Reason::NotAnObject);
        }
        let parsed = line::json::parse(text, self.limits, &mut self.tape);
        let Some(members) = parsed.and_then(|parsed| serde_json::from_str(&parsed).ok()) else {
            // too many values, or brackets around what is no JSON
            return self.line(self.body.get(range).unwrap_or_default());
        };
        let identity = self.delivery.id(self.next()? as u64);
        let mut record = LogRecord::from_members(members, identity);
        record.time = record.time.or(time);
        self.decoded.envelopes.push(self.decoder.decode(record));
        Ok(())
    }

    /// The number of the next record.
    fn next(&mut self) -> Result<usize, DecodeError> {
        if self.records >= self.limits.records {
            return Err(DecodeError::TooManyEvents { limit: self.limits.records });
        }
        self.records += 1;
        Ok(self.records - 1)
    }
}

/// Whether what comes next is an array, as far as its first element shows, and not a line such as `[error] …`.
fn begins_array(scan: &Scanner<'_>) -> bool {
    let mut inner = Scanner::new(scan.bytes, scan.pos + 1);
    inner.skip_space();
    if inner.take(b']') {
        return true;
    }
    // an array of records whose first record is cut is still one
    if inner.peek() == Some(b'{') {
        return true;
    }
    inner.skip_value().is_ok() && inner.next_or(b']').is_ok()
}

/// Whether the array that comes next is Fluentd's pair and not a list of records.
fn is_pair(scan: &Scanner<'_>) -> bool {
    let mut inner = Scanner::new(scan.bytes, scan.pos + 1);
    inner.skip_space();
    let mut whole = scan.clone();
    let begins = matches!(inner.peek(), Some(b'0'..=b'9' | b'['));
    begins
        && whole.skip_value().is_ok()
        && str::from_utf8(&scan.bytes[scan.pos..whole.pos]).is_ok_and(|text| fluentd_pair(text).is_some())
}

/// `[TIME, {…}]`, where the time is a number or a list that begins with one.
fn fluentd_pair(text: &str) -> Option<(Timestamp, &str)> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?.trim_ascii();
    let mut scan = Scanner::new(inner.as_bytes(), 0);
    scan.skip_value().ok()?;
    let time = inner[..scan.pos].trim_start_matches('[').split([',', ']']).next()?;
    let time = time::epoch(time.trim_ascii().parse().ok()?)?;
    scan.skip_space();
    scan.take(b',').then_some(())?;
    scan.skip_space();
    let record = scan.pos;
    scan.skip_value().ok().filter(|()| scan.peek().is_none())?;
    Some((time, &inner[record..]))
}
