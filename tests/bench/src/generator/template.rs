//! Batches kept ready to send: an EventList as bytes, and the places in it that are new every time.
//!
//! Writing one is a copy and some dozen small stores per event, so that the load costs the machine little
//! beside the server that is measured.

use std::ops::Range;

use memchr::memmem;
use watchbell_event::Timestamp;

use crate::random::{mix, write_uuid};

/// Stands for the audit id until the event is sent.
pub(crate) const AUDIT_ID: &str = "00000000-aaaa-4aaa-8aaa-000000000000";
/// Stands for `requestReceivedTimestamp`.
pub(crate) const RECEIVED: &str = "1970-01-01T00:00:00.000000Z";
/// Stands for `stageTimestamp`.
pub(crate) const STAGED: &str = "1970-01-01T00:00:00.000001Z";

/// The events of one request, before they get their places in a batch.
#[derive(Default)]
pub(crate) struct Draft {
    /// Microseconds after the request's beginning, and the event.
    pub(crate) events: Vec<(u32, String)>,
    pub(crate) tokens: Vec<Token>,
}

/// A text that is replaced wherever it stands in the events of the request.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) kind: TokenKind,
}

/// How a token's replacement looks; its length stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Uuid,
    Digits,
    Word,
}

/// An EventList to send again and again.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    events: Vec<Range<usize>>,
    requests: u64,
}

struct Slot {
    range: Range<usize>,
    fresh: Fresh,
}

/// What is written into a slot.
#[derive(Clone, Copy)]
enum Fresh {
    Token { request: u64, token: u64, kind: TokenKind },
    Time { micros_before: u32 },
}

/// One event on its way into a batch.
struct Placed {
    staged: u32,
    begun: u32,
    request: usize,
    text: String,
}

const HEAD: &[u8] = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
const TAIL: &[u8] = b"]}";
/// Number of the token that the audit id is.
const AUDIT_ID_TOKEN: u64 = 1 << 20;

impl Batch {
    /// Puts the requests' events in the order in which they reach their stages. The requests begin evenly
    /// spread over `span_micros`; the batch is sent when the last event has happened.
    pub(crate) fn new(requests: Vec<Draft>, span_micros: u32) -> Self {
        let step = span_micros / u32::try_from(requests.len().max(1)).unwrap_or(u32::MAX);
        let mut placed = Vec::new();
        let mut tokens = Vec::new();
        let mut begun = 0;
        for (request, draft) in requests.into_iter().enumerate() {
            tokens.push(draft.tokens);
            let events = draft.events.into_iter();
            placed.extend(events.map(|(delay, text)| Placed { staged: begun + delay, begun, request, text }));
            begun += step;
        }
        placed.sort_by_key(|event| event.staged);
        let sent = placed.last().map_or(0, |event| event.staged);
        let mut batch = Self {
            bytes: HEAD.to_vec(),
            slots: Vec::new(),
            events: Vec::new(),
            requests: tokens.len() as u64,
        };
        for event in placed {
            batch.push(&event, sent, &tokens[event.request]);
        }
        batch.bytes.extend_from_slice(TAIL);
        batch
    }

    fn push(&mut self, event: &Placed, sent: u32, tokens: &[Token]) {
        if !self.events.is_empty() {
            self.bytes.push(b',');
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(event.text.as_bytes());
        self.events.push(start..self.bytes.len());
        let request = event.request as u64;
        self.mark(start, RECEIVED, Fresh::Time { micros_before: sent - event.begun });
        self.mark(start, STAGED, Fresh::Time { micros_before: sent - event.staged });
        self.mark(start, AUDIT_ID, Fresh::Token { request, token: AUDIT_ID_TOKEN, kind: TokenKind::Uuid });
        for (token, Token { text, kind }) in (0..).zip(tokens) {
            self.mark(start, text, Fresh::Token { request, token, kind: *kind });
        }
    }

    /// Makes a slot of every place from `start` on where the text stands.
    fn mark(&mut self, start: usize, text: &str, fresh: Fresh) {
        for at in memmem::find_iter(&self.bytes[start..], text) {
            self.slots.push(Slot { range: start + at..start + at + text.len(), fresh });
        }
    }

    /// How many events it carries.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// How many bytes its events have.
    pub(crate) fn event_bytes(&self) -> usize {
        self.events.iter().map(ExactSizeIterator::len).sum()
    }

    /// Where its events stand in the written bytes.
    pub(crate) fn events(&self) -> &[Range<usize>] {
        &self.events
    }

    /// Writes the batch as one that was never sent before.
    pub(crate) fn write(&self, stamp: &mut Stamp, now: Timestamp) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for Slot { range, fresh } in &self.slots {
            let place = &mut bytes[range.clone()];
            match *fresh {
                Fresh::Time { micros_before } => {
                    stamp.write_time(now.plus_micros(-i64::from(micros_before)), place)
                }
                Fresh::Token { request, token, kind } => stamp.write_token(request, token, kind, place),
            }
        }
        stamp.requests_sent += self.requests;
        bytes
    }
}

/// What makes every sent batch another one.
pub(crate) struct Stamp {
    seed: u64,
    requests_sent: u64,
    /// The second that was written last, and its text up to the point.
    second: (i64, String),
}

impl Stamp {
    /// Equal seeds write equal ids.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed: mix(seed), requests_sent: 0, second: (i64::MIN, String::new()) }
    }

    fn write_token(&self, request: u64, token: u64, kind: TokenKind, place: &mut [u8]) {
        let request = self.requests_sent + request;
        let high = mix(self.seed ^ mix(request ^ (token << 40)));
        match kind {
            TokenKind::Uuid => write_uuid(high, mix(high ^ self.seed), place),
            // Versions rise as those of a real store do.
            TokenKind::Digits => write_digits(7_000_000_000 + request, place),
            TokenKind::Word => write_word(high, place),
        }
    }

    fn write_time(&mut self, time: Timestamp, place: &mut [u8]) {
        let second = time.as_micros().div_euclid(1_000_000);
        if self.second.0 != second {
            let text = Timestamp::from_micros(second * 1_000_000).to_string();
            self.second = (second, text);
        }
        place.copy_from_slice(self.second.1.as_bytes());
        let micros = time.as_micros().rem_euclid(1_000_000).unsigned_abs();
        write_digits(micros, &mut place[20..26]);
    }
}

fn write_digits(mut number: u64, place: &mut [u8]) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn write_word(seed: u64, place: &mut [u8]) {
    const ALPHABET: &[u8; 32] = b"bcdfghjklmnpqrstvwxz234567899876";
    let mut bits = seed;
    for letter in place {
        *letter = ALPHABET[(bits & 31) as usize];
        bits = bits.rotate_right(5);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn batch() -> Batch {
        let event = |stage: &str, staged: &str| {
            format!(
                r#"{{"auditID":"{AUDIT_ID}","stage":"{stage}","uri":"/pods/api-bcdfg","uid":"api-bcdfg",
                "requestReceivedTimestamp":"{RECEIVED}","stageTimestamp":"{staged}"}}"#
            )
        };
        let draft = || Draft {
            events: vec![(0, event("RequestReceived", STAGED)), (900, event("ResponseComplete", STAGED))],
            tokens: vec![Token { text: "bcdfg".to_owned(), kind: TokenKind::Word }],
        };
        Batch::new(vec![draft(), draft()], 400)
    }

    fn items(bytes: &[u8]) -> Vec<Value> {
        let list: Value = serde_json::from_slice(bytes).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    #[test]
    fn every_writing_is_new_and_the_stages_of_a_request_share_its_texts() {
        let (batch, mut stamp) = (batch(), Stamp::new(1));
        let now: Timestamp = "2026-01-31T08:15:00.000500Z".parse().unwrap();
        let (first, second) = (items(&batch.write(&mut stamp, now)), items(&batch.write(&mut stamp, now)));
        let order: Vec<_> = first.iter().map(|event| event["stage"].as_str().unwrap()).collect();
        assert_eq!(order, ["RequestReceived", "RequestReceived", "ResponseComplete", "ResponseComplete"]);
        for field in ["auditID", "uri"] {
            assert_eq!(first[0][field], first[2][field]);
            assert_ne!(first[0][field], first[1][field]);
            assert_ne!(first[0][field], second[0][field]);
        }
        assert_eq!(
            first[0]["uri"].as_str().unwrap().rsplit('-').next(),
            Some(&first[0]["uid"].as_str().unwrap()[4..])
        );
        assert_eq!(first[3]["stageTimestamp"], "2026-01-31T08:15:00.000500Z");
        assert_eq!(first[2]["stageTimestamp"], "2026-01-31T08:15:00.000300Z");
        assert_eq!(first[0]["requestReceivedTimestamp"], "2026-01-31T08:14:59.999400Z");
    }

    #[test]
    fn equal_seeds_write_equal_bytes() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let write = |seed| batch().write(&mut Stamp::new(seed), now);
        assert_eq!(write(3), write(3));
        assert_ne!(write(3), write(4));
    }

    #[test]
    fn events_stand_where_they_are_said_to() {
        let batch = batch();
        let bytes = batch.write(&mut Stamp::new(1), Timestamp::default());
        assert_eq!((batch.len(), batch.events().len()), (4, 4));
        for (range, item) in batch.events().iter().zip(items(&bytes)) {
            assert_eq!(serde_json::from_slice::<Value>(&bytes[range.clone()]).unwrap(), item);
        }
    }
}
