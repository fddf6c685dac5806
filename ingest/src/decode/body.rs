use bytes::Bytes;

use super::event::{Decoder, Kept, is_audit, wrong_kind};
use super::{DecodeError, Decoded, Place, Reason, Rejected};
use crate::json::{Kind, Limits, Scanner, SyntaxError, Tape, Value, parse};

/// How far an object is read ahead to tell a list from an event.
const LOOKAHEAD_BYTES: usize = 16 << 10;
/// How often a body may be read again behind syntax errors, so that one made of them costs no more than this.
const MAX_REREADS: usize = 4;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Splits a body into its values, and lists into their items.
pub(super) fn decode(body: &Bytes, decoder: Decoder<'_>) -> Result<Decoded, DecodeError> {
    let mut reader = BodyReader {
        body,
        decoder,
        decoded: Decoded::default(),
        events: 0,
        read_to: 0,
        reread: 0,
        unusable: None,
    };
    let mut scan = Scanner::new(body, if body.starts_with(BYTE_ORDER_MARK) { 3 } else { 0 });
    let mut empty = true;
    loop {
        scan.skip_space();
        if scan.peek().is_none() {
            break;
        }
        empty = false;
        let read = match reader.value(scan.pos) {
            Err(Stop::Broken(broken)) => reader.reject_rest(&broken),
            other => other,
        };
        scan.pos = read.map_err(|_| DecodeError::TooManyEvents { limit: reader.decoder.limits().events })?;
    }
    match reader.unusable {
        _ if empty => Err(DecodeError::Empty),
        Some((place, reason)) if reader.decoded.envelopes.is_empty() => {
            Err(DecodeError::Unusable { place, reason })
        }
        _ => Ok(reader.decoded),
    }
}

/// Why a value was not read to its end.
enum Stop {
    Broken(Broken),
    TooManyEvents,
}

/// The text is not JSON from somewhere on.
struct Broken {
    /// Where the event that is broken begins.
    start: usize,
    error: SyntaxError,
    /// False within an array at the top, whose later lines belong to it.
    resume_at_next_line: bool,
}

struct BodyReader<'a> {
    body: &'a Bytes,
    decoder: Decoder<'a>,
    decoded: Decoded,
    /// Events seen so far, good and bad.
    events: usize,
    /// How far was read ahead.
    read_to: usize,
    /// Bytes that were read more than once, behind syntax errors.
    reread: usize,
    /// The first top-level value that gave nothing.
    unusable: Option<(Place, Reason)>,
}

impl BodyReader<'_> {
    /// Reads one top-level value and returns where it ends.
    fn value(&mut self, start: usize) -> Result<usize, Stop> {
        match self.body.get(start) {
            Some(b'[') => self.items(start, false).map_err(|stop| match stop {
                Stop::Broken(broken) => Stop::Broken(Broken { resume_at_next_line: false, ..broken }),
                Stop::TooManyEvents => stop,
            }),
            Some(b'{') if self.is_list(start) => self.list(start),
            _ => self.single(start),
        }
    }

    /// True if an object has `items` rather than the fields of an event; decided at the first key that
    /// tells, which must come soon.
    fn is_list(&mut self, start: usize) -> bool {
        let end = self.body.len().min(start + LOOKAHEAD_BYTES);
        let mut scan = Scanner::new(self.body.get(..end).unwrap_or_default(), start + 1);
        scan.skip_space();
        let is_list = loop {
            match key(&mut scan) {
                Ok(ITEMS) => break true,
                Ok(br#""auditID""# | br#""level""# | br#""stage""# | br#""verb""#) | Err(_) => break false,
                Ok(_) => {}
            }
            let skipped = scan.skip_value().and_then(|()| scan.next_or(b'}'));
            if !matches!(skipped, Ok(true)) {
                break false;
            }
        };
        self.read_to = scan.pos;
        is_list
    }

    /// A single event.
    fn single(&mut self, start: usize) -> Result<usize, Stop> {
        let rejected = self.decoded.rejected.len();
        let kept = self.decoded.envelopes.len();
        let end = self.event(start, false)?;
        if let (true, Some(first)) =
            (self.decoded.envelopes.len() == kept, self.decoded.rejected.get(rejected))
        {
            self.unusable.get_or_insert((first.place, first.reason.clone()));
        }
        Ok(end)
    }

    /// An object with `items`.
    fn list(&mut self, start: usize) -> Result<usize, Stop> {
        let (kept, rejected, events) =
            (self.decoded.envelopes.len(), self.decoded.rejected.len(), self.events);
        let mut head = Head::default();
        let mut scan = Scanner::new(self.body, start + 1);
        let broken = |error| broken(start, error);
        scan.skip_space();
        loop {
            let key = key(&mut scan).map_err(broken)?;
            let value_start = scan.pos;
            head.note_key(key);
            if key == ITEMS && scan.peek() == Some(b'[') && head.flaw.is_none() {
                scan.pos = self.items(value_start, true)?;
            } else {
                scan.skip_value().map_err(broken)?;
                head.note_value(key, self.body.get(value_start..scan.pos).unwrap_or_default());
            }
            if !scan.next_or(b'}').map_err(broken)? {
                break;
            }
        }
        if let Some(reason) = head.flaw {
            // what was read of its items is not a list of audit events
            self.decoded.envelopes.truncate(kept);
            self.decoded.rejected.truncate(rejected);
            self.events = events + 1;
            let place = Place { event: events, offset: start };
            self.unusable.get_or_insert((place, reason.clone()));
            let bytes = self.decoder.withhold_secrets(&self.body.slice(start..scan.pos));
            self.decoded.rejected.push(Rejected { cluster: None, place, reason, repaired: false, bytes });
        }
        Ok(scan.pos)
    }

    /// The items of the array at `start`.
    fn items(&mut self, start: usize, in_list: bool) -> Result<usize, Stop> {
        let mut scan = Scanner::new(self.body, start + 1);
        scan.skip_space();
        if scan.take(b']') {
            return Ok(scan.pos);
        }
        loop {
            scan.pos = self.event(scan.pos, in_list)?;
            let end = scan.pos;
            if !scan.next_or(b']').map_err(|error| broken(end, error))? {
                return Ok(scan.pos);
            }
        }
    }

    /// One event: kept, repaired or rejected. Returns where it ends.
    fn event(&mut self, start: usize, in_list: bool) -> Result<usize, Stop> {
        if self.events >= self.decoder.limits().events {
            return Err(Stop::TooManyEvents);
        }
        let end = self.decoder.parse(self.body, start).map_err(|error| broken(start, error))?;
        let place = Place { event: self.events, offset: start };
        self.events += 1;
        let bytes = self.body.slice(start..end);
        match self.decoder.decode(&bytes, in_list) {
            Ok(Kept { envelope, repaired }) => {
                let rejected = repaired.map(|reason| {
                    let bytes = envelope.bytes.clone();
                    Rejected { cluster: None, place, reason, repaired: true, bytes }
                });
                self.decoded.rejected.extend(rejected);
                self.decoded.envelopes.push(envelope);
            }
            Err(reason) => {
                let bytes = self.decoder.withhold_secrets(&bytes);
                self.decoded.rejected.push(Rejected { cluster: None, place, reason, repaired: false, bytes });
            }
        }
        Ok(end)
    }

    /// Rejects what follows a syntax error and returns where reading goes on: at the next line that begins
    /// with a value, or at the end.
    fn reject_rest(&mut self, broken: &Broken) -> Result<usize, Stop> {
        if self.events >= self.decoder.limits().events {
            return Err(Stop::TooManyEvents);
        }
        let rest = self.body.get(broken.start..).unwrap_or_default();
        let next_line = rest.windows(2).position(|pair| pair == b"\n{").map(|newline| newline + 1);
        let next_line = next_line.map(|length| broken.start + length).filter(|_| broken.resume_at_next_line);
        let read_to = self.read_to.max(broken.error.offset);
        self.reread += next_line.map_or(0, |next_line| read_to.saturating_sub(next_line));
        let affordable = self.reread <= MAX_REREADS * self.body.len();
        let end = next_line.filter(|_| affordable).unwrap_or(self.body.len());
        let place = Place { event: self.events, offset: broken.error.offset };
        let reason = Reason::Syntax(broken.error.reason);
        self.events += 1;
        self.unusable.get_or_insert((place, reason.clone()));
        let bytes = self.body.slice(broken.start..end);
        self.decoded.rejected.push(Rejected { cluster: None, place, reason, repaired: false, bytes });
        Ok(end)
    }
}

const ITEMS: &[u8] = br#""items""#;
const KIND: &[u8] = br#""kind""#;
const API_VERSION: &[u8] = br#""apiVersion""#;

/// What an object with `items` says about itself.
#[derive(Default)]
struct Head {
    items: bool,
    kind: bool,
    api_version: bool,
    /// Why it is not a list of audit events.
    flaw: Option<Reason>,
}

impl Head {
    fn note_key(&mut self, key: &[u8]) {
        let given_before = match key {
            ITEMS => std::mem::replace(&mut self.items, true),
            KIND => std::mem::replace(&mut self.kind, true),
            API_VERSION => std::mem::replace(&mut self.api_version, true),
            _ => false,
        };
        if given_before {
            self.flaw.get_or_insert(Reason::DuplicateKey);
        }
    }

    /// Checks the value of a member, unless it is the list of items itself.
    fn note_value(&mut self, key: &[u8], value: &[u8]) {
        let mut tape = Tape::default();
        let text = String::from_utf8_lossy(value);
        let parsed = parse(text.as_bytes(), 0, Limits { depth: 1, values: 16 }, &mut tape);
        let value = parsed.ok().and_then(|_| tape.root(&text));
        let is = |check: fn(Value<'_>) -> bool| value.is_some_and(check);
        let wrong = match key {
            KIND if !is(|kind| kind.is("EventList")) => wrong_kind(value, None),
            API_VERSION if !is(is_audit) => wrong_kind(None, value),
            ITEMS if !is(|items| items.kind() == Kind::Null) => wrong_kind(None, None),
            _ => return,
        };
        self.flaw.get_or_insert(wrong);
    }
}

/// Reads a key with its quotes, the colon and the space after it.
fn key<'a>(scan: &mut Scanner<'a>) -> Result<&'a [u8], SyntaxError> {
    if scan.peek() != Some(b'"') {
        return scan.error("expected a key in quotes");
    }
    let start = scan.pos;
    scan.string(|| ())?;
    let key = scan.bytes.get(start..scan.pos).unwrap_or_default();
    scan.colon().map(|()| key)
}

fn broken(start: usize, error: SyntaxError) -> Stop {
    Stop::Broken(Broken { start, error, resume_at_next_line: true })
}
