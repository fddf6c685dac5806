//! Syslog: how a stream is cut into pieces changes nothing, and every message, of either form, has one document.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use watchbell_fuzz::documents::{delivery, limits, origin, redactor, sound};
use watchbell_ingest::decode::logs::{LogLimits, SyslogFrame, SyslogFrames, SyslogMessage, decode_syslog};

const MAX_MESSAGE_BYTES: usize = 64;
const PIECE_BYTES: usize = 7;

fuzz_target!(|data: &[u8]| {
    let frames = frames(data, data.len().max(1));
    assert_eq!(frames, self::frames(data, PIECE_BYTES));
    let datagram = SyslogFrame { bytes: Bytes::copy_from_slice(data), cut: false };
    for limits in limits() {
        documents(vec![datagram.clone()], &limits);
        documents(frames.clone(), &limits);
    }
});

fn documents(frames: Vec<SyslogFrame>, limits: &LogLimits) {
    let message = |frame| SyslogMessage { peer: [10, 0, 0, 1].into(), frame };
    let messages: Vec<_> = frames.into_iter().map(message).collect();
    let envelopes = decode_syslog(&messages, &origin(), &delivery(), limits, &redactor());
    assert_eq!(envelopes.len(), messages.len());
    for envelope in &envelopes {
        assert!(envelope.event_time <= envelope.received_at);
        sound(envelope);
    }
}

fn frames(data: &[u8], piece: usize) -> Vec<SyslogFrame> {
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
