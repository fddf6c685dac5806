//! Elasticsearch's bulk requests: every item has an answer, and those that are not refused have a document.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use watchbell_fuzz::documents::{limits, origin, redactor, sound};
use watchbell_ingest::decode::logs::decode_bulk;

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    let cluster = |index: Option<&str>| (index != Some("no")).then(|| "fuzzed".into());
    for limits in limits() {
        let decoded = decode_bulk(&body, None, &cluster, (&origin(), b"1"), &limits, &redactor());
        let Ok(bulk) = decoded else { continue };
        let stored = bulk.items.iter().filter(|item| item.refused.is_none()).count();
        assert_eq!(stored, bulk.decoded.envelopes.len());
        for envelope in &bulk.decoded.envelopes {
            sound(envelope);
        }
    }
});
