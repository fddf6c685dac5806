//! What agents send in protocols of their own: however broken, documents are sound, nothing is counted twice or not at
//! all, and how a stream is cut into pieces changes nothing.
#![no_main]

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use watchbell_event::{Envelope, Timestamp};
use watchbell_ingest::decode::Origin;
use watchbell_ingest::decode::logs::{
    EntriesForm, ForwardFrames, ForwardMessage, LogLimits, OtlpForm, Ping, Sequence, SyslogFrame,
    SyslogFrames, SyslogMessage, decode_bulk, decode_forward, decode_otlp, decode_syslog,
};
use watchbell_ingest::redact::Redactor;

const MAX_MESSAGE_BYTES: usize = 64;
const PIECE_BYTES: usize = 7;

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    let redactor = Redactor::new([7; 32], vec!["password".to_owned()]);
    for limits in [LogLimits::default(), LogLimits { line_bytes: 64, depth: 3, values: 20, records: 8 }] {
        bulk(&body, &limits, &redactor);
        otlp(&body, &limits, &redactor);
        forward(&body, &limits, &redactor);
        syslog(&body, &limits, &redactor);
    }
    assert_eq!(lines(data, data.len().max(1)), lines(data, PIECE_BYTES));
    assert_eq!(messages(data, data.len().max(1)), messages(data, PIECE_BYTES));
    let _ = Ping::parse(&body);
});

fn origin() -> Origin {
    Origin {
        source: "inputs".into(),
        cluster: "fuzzed".into(),
        peer: None,
        received_at: Timestamp::from_micros(1_770_000_000_000_000),
        history: false,
    }
}

fn bulk(body: &Bytes, limits: &LogLimits, redactor: &Redactor) {
    let cluster = |index: Option<&str>| (index != Some("no")).then(|| "fuzzed".into());
    let Ok(bulk) = decode_bulk(body, None, &cluster, (&origin(), b"1"), limits, redactor) else { return };
    let stored = bulk.items.iter().filter(|item| item.refused.is_none()).count();
    assert_eq!(stored, bulk.decoded.envelopes.len());
    bulk.decoded.envelopes.iter().for_each(sound);
}

fn otlp(body: &Bytes, limits: &LogLimits, redactor: &Redactor) {
    let origin = origin();
    for form in [OtlpForm::Protobuf, OtlpForm::Json] {
        let delivery = Sequence::delivery(&origin, b"1");
        let Ok(decoded) = decode_otlp(body, form, &origin, &delivery, limits, redactor) else { continue };
        assert!(decoded.envelopes.len() + decoded.rejected.len() <= limits.records);
        all_sound(&decoded.envelopes);
    }
}

fn forward(body: &Bytes, limits: &LogLimits, redactor: &Redactor) {
    let origin = origin();
    let message = ForwardMessage::parse(body).ok();
    let entries = message.map(|message| (message.entries, message.form));
    for (entries, form) in entries.into_iter().chain([(body.clone(), EntriesForm::Arrays)]) {
        let delivery = Sequence::delivery(&origin, b"1");
        let Ok(decoded) = decode_forward(&entries, ("t", form), &origin, &delivery, limits, redactor) else {
            continue;
        };
        assert!(decoded.envelopes.len() + decoded.rejected.len() <= limits.records);
        all_sound(&decoded.envelopes);
    }
}

fn syslog(body: &Bytes, limits: &LogLimits, redactor: &Redactor) {
    let origin = origin();
    let frame = SyslogFrame { bytes: body.clone(), cut: false };
    let messages = [SyslogMessage { peer: [10, 0, 0, 1].into(), frame }];
    let envelopes = decode_syslog(&messages, &origin, &Sequence::delivery(&origin, b"1"), limits, redactor);
    assert_eq!(envelopes.len(), 1);
    assert!(envelopes[0].event_time <= envelopes[0].received_at);
    sound(&envelopes[0]);
}

fn lines(data: &[u8], piece: usize) -> Vec<SyslogFrame> {
    let (mut frames, mut buffer, mut found) =
        (SyslogFrames::new(MAX_MESSAGE_BYTES), BytesMut::new(), Vec::new());
    for piece in data.chunks(piece) {
        buffer.extend_from_slice(piece);
        while let Some(frame) = frames.next(&mut buffer) {
            assert!(frame.bytes.len() <= MAX_MESSAGE_BYTES);
            found.push(frame);
        }
    }
    found.extend(frames.last(&mut buffer));
    found
}

/// The messages up to where the stream is refused. A message that is too long is refused when so much of it is there.
fn messages(data: &[u8], piece: usize) -> Vec<Bytes> {
    let (mut frames, mut buffer, mut found) = (ForwardFrames::new(usize::MAX), BytesMut::new(), Vec::new());
    for piece in data.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match frames.next(&mut buffer) {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(_) => return found,
            }
        }
    }
    found
}

fn all_sound(envelopes: &[Envelope]) {
    let ids: HashSet<_> = envelopes.iter().map(|envelope| envelope.id).collect();
    assert_eq!(ids.len(), envelopes.len());
    envelopes.iter().for_each(sound);
}

/// The document is one JSON object with what search and rules rely on.
fn sound(envelope: &Envelope) {
    let document: Value = serde_json::from_slice(&envelope.bytes).expect("a document that is not JSON");
    let time = document["@timestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    assert!(time.is_some() && document["event.dataset"].is_string(), "{document}");
}
