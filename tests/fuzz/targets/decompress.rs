//! Compressed bodies: arbitrary bytes never exceed the limit, and what was compressed comes back unchanged.
#![no_main]

use std::io::Write;

use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use watchbell_ingest::decode::{Compression, DecompressError, decompress};

const LIMIT_BYTES: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    for compression in [Compression::Gzip, Compression::Zstd] {
        foreign(data, compression);
        own(data, compression);
    }
});

/// Bytes that somebody else sent.
fn foreign(data: &[u8], compression: Compression) {
    let Ok(body) = decompress(data, compression, LIMIT_BYTES) else { return };
    assert!(body.len() <= LIMIT_BYTES);
    let exact = decompress(data, compression, body.len());
    assert_eq!(exact.expect("the limit is exactly the length"), body);
    if let Some(less) = body.len().checked_sub(1) {
        let refused = decompress(data, compression, less);
        assert!(matches!(refused, Err(DecompressError::TooLong { limit_bytes }) if limit_bytes == less));
    }
}

/// Bytes compressed here, in two parts as a stream may be.
fn own(data: &[u8], compression: Compression) {
    let (head, tail) = data.split_at(data.len() / 2);
    let compressed = [compress(head, compression), compress(tail, compression)].concat();
    let body = decompress(&compressed, compression, data.len());
    assert_eq!(&body.expect("both parts are whole")[..], data);
    if !data.is_empty() {
        let refused = decompress(&compressed, compression, data.len() - 1);
        assert!(matches!(refused, Err(DecompressError::TooLong { .. })));
    }
    let cut = decompress(&compressed[..compressed.len() - 1], compression, usize::MAX);
    assert!(matches!(cut, Err(DecompressError::Broken { .. })));
}

fn compress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).expect("memory takes all");
            encoder.finish().expect("memory takes all")
        }
        Compression::Zstd => zstd::bulk::compress(bytes, 1).expect("memory takes all"),
    }
}
