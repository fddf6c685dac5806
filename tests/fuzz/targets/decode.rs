//! Request bodies: whatever is sent, no event is lost, none is invented, and what is kept is sound.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use watchbell_event::{Envelope, Timestamp};
use watchbell_ingest::decode::{DecodeLimits, Decoded, Origin, Reason, Rejected, decode_audit};
use watchbell_ingest::redact::Redactor;

/// No byte of a body may become more than this many: the longest replacement stands for two bytes.
const MAX_GROWTH: usize = 32;
const LIST_HEAD: &str = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":["#;

fuzz_target!(|data: &[u8]| {
    whole_body(data);
    agrees_with_serde_json(data);
    let values: Vec<&str> = data.split(|byte| *byte == b'\n').filter_map(json).collect();
    nothing_is_lost(&values);
    values.iter().for_each(|value| secrets_leave(value));
});

/// The bytes as they are, under usual and under tight limits.
fn whole_body(data: &[u8]) {
    if let Some(decoded) = decode(data, &DecodeLimits::default()) {
        decoded.envelopes.iter().for_each(decodes_to_itself);
    }
    decode(data, &DecodeLimits { event_bytes: 512, depth: 5, values: 40, events: 10 });
}

/// What is accepted without any complaint is JSON for a parser written by others too. Of a list only the
/// items are read strictly.
fn agrees_with_serde_json(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if text.contains("items")
        || !decode(data, &DecodeLimits::default()).is_some_and(|all| all.rejected.is_empty())
    {
        return;
    }
    let text = text.trim_start_matches('\u{feff}');
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        value.expect("accepted what is not JSON");
    }
}

/// JSON values as items of a list, as an array and as lines: all of them are kept or rejected, in order, and
/// the form of the body does not change what they are.
fn nothing_is_lost(values: &[&str]) {
    if values.is_empty() {
        return;
    }
    let limits = DecodeLimits::default();
    let in_list = decode(&list(values), &limits).expect("a list is never refused as a whole");
    assert_eq!(events(&in_list), values.len());
    let syntax = |rejected: &Rejected| matches!(rejected.reason, Reason::Syntax(_));
    assert!(!in_list.rejected.iter().any(syntax), "refused what is JSON: {in_list:?}");
    let numbers: Vec<usize> = in_list.rejected.iter().map(|rejected| rejected.place.event).collect();
    assert!(numbers.is_sorted() && numbers.iter().all(|number| *number < values.len()));

    let array = format!("[{}]", values.join(","));
    if let Some(in_array) = decode(array.as_bytes(), &limits) {
        assert_eq!(events(&in_array), values.len());
    }
    let singles: Vec<&str> = in_list.envelopes.iter().filter_map(single).collect();
    if !singles.is_empty() {
        let in_lines = decode(singles.join("\n").as_bytes(), &limits).expect("every line is an event");
        let ids = |envelopes: &[Envelope]| envelopes.iter().map(|envelope| envelope.id).collect::<Vec<_>>();
        let expect: Vec<_> = in_list.envelopes.iter().filter(|envelope| single(envelope).is_some()).collect();
        assert_eq!(ids(&in_lines.envelopes), expect.iter().map(|envelope| envelope.id).collect::<Vec<_>>());
        assert!(in_lines.rejected.is_empty());
    }
}

/// The event if it also stands for itself on a line: it says what it is and is no list.
fn single(envelope: &Envelope) -> Option<&str> {
    let event: Value = serde_json::from_slice(&envelope.bytes).expect("JSON");
    let named = event.get("auditID").is_some_and(Value::is_string) && event.get("items").is_none();
    named.then(|| str::from_utf8(&envelope.bytes).expect("Unicode"))
}

/// Any value as the content of a Secret: nothing of it but its keys is left.
fn secrets_leave(value: &str) {
    let event = format!(
        r#"{{"auditID":"a","objectRef":{{"resource":"secrets"}},"requestObject":{{"data":{value}}},
            "responseObject":{{"items":[{{"kind":"Secret","stringData":{value}}}]}}}}"#
    );
    let Some(decoded) = decode(event.as_bytes(), &DecodeLimits::default()) else { return };
    for envelope in &decoded.envelopes {
        let event: Value = serde_json::from_slice(&envelope.bytes).expect("JSON");
        for content in ["/requestObject/data", "/responseObject/items/0/stringData"] {
            match event.pointer(content).expect("the key stays") {
                Value::Object(members) => assert!(members.values().all(is_redacted), "{event}"),
                value => assert!(is_redacted(value), "{event}"),
            }
        }
    }
}

fn is_redacted(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.strip_prefix("redacted:").is_some_and(is_hash))
}

fn is_hash(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What was kept is its own form: redacted, repaired and identified once and for all.
fn decodes_to_itself(envelope: &Envelope) {
    let again = decode(&list([&envelope.bytes]), &DecodeLimits::default()).expect("it was decoded before");
    assert!(again.rejected.is_empty(), "{:?}", again.rejected);
    assert_eq!(again.envelopes.len(), 1);
    assert_eq!(again.envelopes[0].bytes, envelope.bytes);
    assert_eq!(again.envelopes[0], *envelope);
}

/// Decodes, and checks what holds for every body.
fn decode(body: &[u8], limits: &DecodeLimits) -> Option<Decoded> {
    let body = Bytes::copy_from_slice(body);
    let origin = Origin {
        source: "audit".into(),
        cluster: "fuzzed".into(),
        peer: None,
        received_at: "2026-01-31T08:15:00Z".parse().expect("a time"),
        history: false,
    };
    let redactor = Redactor::new([7; 32], vec!["requestObject.spec.password".to_owned()]);
    let decoded = decode_audit(&body, &origin, limits, &redactor).ok()?;
    let kept: usize = decoded.envelopes.iter().map(|envelope| envelope.bytes.len()).sum();
    assert!(kept <= MAX_GROWTH * body.len(), "{kept} bytes of {}", body.len());
    assert!(decoded.envelopes.len() <= limits.events);
    for envelope in &decoded.envelopes {
        let event: Value = serde_json::from_slice(&envelope.bytes).expect("what is kept is JSON");
        assert!(event.is_object());
        assert!(envelope.event_time <= Timestamp::event_time(Some(envelope.event_time), origin.received_at));
    }
    for rejected in &decoded.rejected {
        assert!(rejected.place.offset <= body.len());
        assert!(rejected.bytes.len() <= MAX_GROWTH * body.len());
        assert!(!rejected.reason.to_string().is_empty());
    }
    Some(decoded)
}

fn events(decoded: &Decoded) -> usize {
    decoded.envelopes.len() + decoded.rejected.iter().filter(|rejected| !rejected.repaired).count()
}

/// The text, if it is one JSON value.
fn json(line: &[u8]) -> Option<&str> {
    let text = str::from_utf8(line).ok()?;
    serde_json::from_str::<&RawValue>(text).is_ok().then_some(text)
}

fn list<I: AsRef<[u8]>>(items: impl IntoIterator<Item = I>) -> Vec<u8> {
    let items: Vec<I> = items.into_iter().collect();
    let items: Vec<&[u8]> = items.iter().map(AsRef::as_ref).collect();
    [LIST_HEAD.as_bytes(), &items.join(&b","[..]), b"]}"].concat()
}
