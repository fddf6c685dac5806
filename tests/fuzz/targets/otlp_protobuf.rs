//! OTLP log requests as Protocol Buffers: records are all accounted for and sound.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use watchbell_fuzz::documents::{all_sound, delivery, limits, origin, redactor};
use watchbell_ingest::decode::logs::{OtlpForm, decode_otlp};

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    for limits in limits() {
        let decoded = decode_otlp(&body, OtlpForm::Protobuf, &origin(), &delivery(), &limits, &redactor());
        if let Ok(decoded) = decoded {
            all_sound(&decoded, &limits);
        }
    }
});
