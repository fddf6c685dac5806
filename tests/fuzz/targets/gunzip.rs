//! Gzip bodies: arbitrary bytes never exceed the limit, and what was compressed comes back unchanged.
#![no_main]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use watchbell_ingest::decode::{GunzipError, gunzip};

const LIMIT_BYTES: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    foreign(data);
    own(data);
});

/// Bytes that somebody else sent.
fn foreign(data: &[u8]) {
    let Ok(body) = gunzip(data, LIMIT_BYTES) else { return };
    assert!(body.len() <= LIMIT_BYTES);
    assert_eq!(gunzip(data, body.len()).expect("the limit is exactly the length"), body);
    if let Some(less) = body.len().checked_sub(1) {
        assert!(
            matches!(gunzip(data, less), Err(GunzipError::TooLong { limit_bytes }) if limit_bytes == less)
        );
    }
}

/// Bytes compressed here, in two members as a stream may be.
fn own(data: &[u8]) {
    let (head, tail) = data.split_at(data.len() / 2);
    let compressed = [gzip(head), gzip(tail)].concat();
    assert_eq!(&gunzip(&compressed, data.len()).expect("both members are whole")[..], data);
    if !data.is_empty() {
        assert!(matches!(gunzip(&compressed, data.len() - 1), Err(GunzipError::TooLong { .. })));
    }
    let cut = &compressed[..compressed.len() - 1];
    assert!(matches!(gunzip(cut, LIMIT_BYTES), Err(GunzipError::Broken(_))));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}
