//! The forward protocol: messages, their entries, compressed or not, and the handshake.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use watchbell_fuzz::documents::{all_sound, delivery, limits, origin, redactor};
use watchbell_ingest::decode::decompress;
use watchbell_ingest::decode::logs::{EntriesForm, ForwardFrames, ForwardMessage, Ping, decode_forward};

const PIECE_BYTES: usize = 7;
const MAX_ENTRIES_BYTES: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    assert_eq!(messages(data, data.len().max(1)), messages(data, PIECE_BYTES));
    let body = Bytes::copy_from_slice(data);
    let _ = Ping::parse(&body);
    entries(&body, EntriesForm::Arrays);
    if let Ok(ForwardMessage { entries: bytes, form, compression, .. }) = ForwardMessage::parse(&body) {
        let plain = compression.map(|compression| decompress(&bytes, compression, MAX_ENTRIES_BYTES));
        match plain {
            None => entries(&bytes, form),
            Some(Ok(plain)) => entries(&plain, form),
            Some(Err(_)) => {}
        }
    }
});

fn entries(bytes: &Bytes, form: EntriesForm) {
    for limits in limits() {
        let decoded = decode_forward(bytes, ("t", form), &origin(), &delivery(), &limits, &redactor());
        if let Ok(decoded) = decoded {
            all_sound(&decoded, &limits);
        }
    }
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
