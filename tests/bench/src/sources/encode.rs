//! Lines in the forms in which agents send them.

use std::fmt::Write as _;

use serde_json::json;

/// Under which forwarded lines come, and what names a chunk of them.
const TAG: &str = "kube.shop.web";

/// What Fluent Bit posts: one object a line, with the pod's metadata.
pub(super) fn ndjson(lines: &[String]) -> Vec<u8> {
    let pod = json!({ "namespace_name": "shop", "pod_name": "web-1", "container_name": "app" });
    let record = |line: &String| json!({ "log": line, "stream": "stdout", "kubernetes": pod }).to_string();
    lines.iter().map(record).collect::<Vec<_>>().join("\n").into_bytes()
}

pub(super) fn plain(lines: &[String]) -> Vec<u8> {
    lines.join("\n").into_bytes()
}

pub(super) fn bulk(lines: &[String]) -> Vec<u8> {
    let mut body = String::new();
    for line in lines {
        let document = json!({ "message": line, "kubernetes": { "namespace": "shop" } });
        let _ = writeln!(body, "{{\"create\":{{}}}}\n{document}");
    }
    body.into_bytes()
}

/// An `ExportLogsServiceRequest` with one resource and one scope.
pub(super) fn otlp(lines: &[String]) -> Vec<u8> {
    let records: Vec<u8> = lines
        .iter()
        .flat_map(|line| {
            let time = [&[0x09][..], &1_769_847_300_000_000_000_u64.to_le_bytes()].concat();
            field(2, &[time, field(5, &field(1, line.as_bytes()))].concat())
        })
        .collect();
    let namespace = [field(1, b"k8s.namespace.name"), field(2, &field(1, b"shop"))].concat();
    let resource = field(1, &field(1, &namespace));
    field(1, &[resource, field(2, &records)].concat())
}

/// A field of Protocol Buffers that has a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    bytes.push(length.to_le_bytes()[0]);
    bytes.extend_from_slice(content);
    bytes
}

/// The same as one message of gRPC, not compressed.
pub(super) fn grpc(lines: &[String]) -> Vec<u8> {
    let message = otlp(lines);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, &message].concat()
}

/// Messages of RFC 5424, each ended by a line break.
pub(super) fn syslog(lines: &[String]) -> Vec<u8> {
    let message = |line: &String| format!("<13>1 2026-01-31T08:15:00Z web-1 app 7 - - {line}\n").into_bytes();
    lines.iter().flat_map(message).collect()
}

/// One message of the forward protocol whose chunk is to be acknowledged; of at most 65,535 lines that are no longer.
pub(super) fn forward(lines: &[String], chunk: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x93];
    short_text(TAG.as_bytes(), &mut bytes);
    bytes.push(0xdc);
    bytes.extend_from_slice(&u16_of(lines.len()));
    for line in lines {
        bytes.extend_from_slice(&[0x92, 0xce]);
        bytes.extend_from_slice(&1_769_847_300_u32.to_be_bytes());
        bytes.push(0x81);
        short_text(b"log", &mut bytes);
        bytes.push(0xda);
        bytes.extend_from_slice(&u16_of(line.len()));
        bytes.extend_from_slice(line.as_bytes());
    }
    bytes.push(0x81);
    short_text(b"chunk", &mut bytes);
    short_text(chunk, &mut bytes);
    bytes
}

/// Text of at most 31 bytes.
fn short_text(text: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(0xa0 | text.len().to_le_bytes()[0]);
    bytes.extend_from_slice(text);
}

fn u16_of(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use watchbell_event::Timestamp;
    use watchbell_ingest::decode::Origin;
    use watchbell_ingest::decode::logs::{
        BodyForm, ForwardMessage, LogLimits, OtlpForm, Sequence, decode_bulk, decode_forward,
        decode_log_body, decode_otlp,
    };
    use watchbell_ingest::redact::Redactor;

    use super::super::lines::line;
    use super::*;

    /// A form that is read as something else would be measured as that.
    #[test]
    fn every_form_is_read_as_the_same_lines() {
        let lines: Vec<String> = (0..1_000).map(|number| line(number * 7)).collect();
        let origin = Origin {
            source: "bench".into(),
            cluster: "bench".into(),
            peer: None,
            received_at: Timestamp::from_micros(1_770_000_000_000_000),
            history: false,
        };
        let (limits, redactor) = (LogLimits::default(), Redactor::new([7; 32], Vec::new()));
        let sequence = Sequence::delivery(&origin, b"1");
        let body = |bytes: Vec<u8>| {
            decode_log_body(&bytes.into(), BodyForm::ByContent, &origin, &sequence, &limits, &redactor)
        };
        let cluster = |_: Option<&str>| Some("bench".into());
        let bulk = decode_bulk(&bulk(&lines).into(), None, &cluster, (&origin, b"1"), &limits, &redactor);
        let chunk = ForwardMessage::parse(&Bytes::from(forward(&lines, b"1"))).unwrap();
        let (tag, form) = (&*chunk.tag, chunk.form);
        let forwarded =
            decode_forward(&chunk.entries, (tag, form), &origin, &sequence, &limits, &redactor).unwrap();
        let otlp = Bytes::from(otlp(&lines));
        for decoded in [
            body(ndjson(&lines)).unwrap(),
            body(plain(&lines)).unwrap(),
            bulk.unwrap().decoded,
            decode_otlp(&otlp, OtlpForm::Protobuf, &origin, &sequence, &limits, &redactor).unwrap(),
            forwarded,
        ] {
            assert_eq!((decoded.envelopes.len(), decoded.rejected.len()), (lines.len(), 0));
            let document = String::from_utf8_lossy(&decoded.envelopes[1].bytes).into_owned();
            assert!(document.contains("10.1.2.7") || document.contains("shop/web-7"), "{document}");
        }
    }
}
