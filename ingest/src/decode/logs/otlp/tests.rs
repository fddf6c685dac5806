use super::*;

/// Written by OpenTelemetry's own messages, as `request.json` is but for the ids, which OTLP wants in hexadecimal.
const PROTOBUF: &[u8] = include_bytes!("fixtures/request.pb");
const JSON: &[u8] = include_bytes!("fixtures/request.json");

fn origin() -> Origin {
    Origin {
        source: "otlp".into(),
        cluster: "prod".into(),
        peer: None,
        received_at: "2026-01-31T08:20:00Z".parse().unwrap(),
        history: false,
    }
}

fn decode_within(body: &[u8], form: OtlpForm, limits: &LogLimits) -> Result<Decoded, DecodeError> {
    let origin = origin();
    let delivery = Sequence::delivery(&origin, b"1");
    let redactor = Redactor::new([7; 32], vec![]);
    decode_otlp(&Bytes::copy_from_slice(body), form, &origin, &delivery, limits, &redactor)
}

fn decode(body: &[u8], form: OtlpForm) -> Result<Decoded, DecodeError> {
    decode_within(body, form, &LogLimits::default())
}

fn documents(decoded: &Decoded) -> Vec<Value> {
    decoded.envelopes.iter().map(|envelope| serde_json::from_slice(&envelope.bytes).unwrap()).collect()
}

#[test]
fn records_become_documents_in_both_forms() {
    let [protobuf, json] = [(PROTOBUF, OtlpForm::Protobuf), (JSON, OtlpForm::Json)]
        .map(|(body, form)| decode(body, form).unwrap());
    let found = documents(&protobuf);
    assert_eq!(found, documents(&json));
    for (key, expect) in [
        ("@timestamp", "2026-01-31T08:15:00.123456Z".into()),
        ("message", "Failed password for root from 203.0.113.9 port 22 ssh2".into()),
        ("event.dataset", "sshd".into()),
        ("source.ip", "203.0.113.9".into()),
        ("log.level", "error".into()),
        ("log.logger", "com.example.Login".into()),
        ("trace.id", "000102030405060708090a0b0c0d0e0f".into()),
        ("span.id", "0001020304050607".into()),
        ("orchestrator.namespace", "shop".into()),
        ("orchestrator.resource.name", "bastion-0".into()),
        ("k8s.pod.name", "bastion-0".into()),
        ("agent.k8s.pod.name", "forged".into()),
        ("host.name", "node-1".into()),
        ("service.name", "bastion".into()),
        ("retries", Value::from(-3)),
        ("ratio", 0.5.into()),
        ("last", true.into()),
        ("raw", "AAEC".into()),
        ("list", serde_json::json!(["a", 7])),
    ] {
        assert_eq!(found[0][key], expect, "{key} of {}", found[0]);
    }
    for (key, expect) in [
        ("@timestamp", "2026-01-31T08:15:02.000000Z".into()),
        ("message", "started".into()),
        ("port", Value::from(8080)),
        ("event.name", "app.start".into()),
    ] {
        assert_eq!(found[1][key], expect, "{key} of {}", found[1]);
    }
}

#[test]
fn a_request_that_is_sent_again_is_known_by_records_that_say_exactly_when_they_were() {
    let (origin, limits, redactor) = (origin(), LogLimits::default(), Redactor::new([7; 32], vec![]));
    let ids = |delivery: &[u8], body: &Bytes| -> Vec<EventId> {
        let delivery = Sequence::delivery(&origin, delivery);
        let decoded = decode_otlp(body, OtlpForm::of(body), &origin, &delivery, &limits, &redactor).unwrap();
        decoded.envelopes.iter().map(|envelope| envelope.id).collect()
    };
    for (body, message, another) in [(PROTOBUF, &b"Failed"[..], &b"failed"[..]), (JSON, b"Failed", b"failed")]
    {
        let first = ids(b"1", &Bytes::from_static(body));
        let again = ids(b"2", &Bytes::from_static(body));
        // the second one says when it was to the second, and the next one may look the same
        assert_eq!(first[0], again[0]);
        assert_ne!(first[1], again[1]);
        let at = body.windows(message.len()).position(|window| window == message).unwrap();
        let changed = [&body[..at], another, &body[at + message.len()..]].concat();
        assert_ne!(first[0], ids(b"1", &changed.into())[0]);
    }
}

#[test]
fn a_request_without_records_is_good() {
    for (body, form) in [
        ("", OtlpForm::Protobuf),
        ("{}", OtlpForm::Json),
        (" {\"resourceLogs\": []} ", OtlpForm::Json),
        ("{\"resourceLogs\": [{\"scopeLogs\": [{\"logRecords\": null}]}]}", OtlpForm::Json),
    ] {
        assert!(decode(body.as_bytes(), form).unwrap().envelopes.is_empty(), "{body}");
    }
}

#[test]
fn a_request_that_cannot_be_read_is_refused_and_a_bad_record_alone_rejected() {
    for (body, form) in [
        (&PROTOBUF[..PROTOBUF.len() - 1], OtlpForm::Protobuf),
        (b"\x0b", OtlpForm::Protobuf),
        (b"", OtlpForm::Json),
        (b"{\"resourceLogs\": 7}", OtlpForm::Json),
        (b"{\"resourceLogs\": [7]}", OtlpForm::Json),
        (b"{} {}", OtlpForm::Json),
        (b"[", OtlpForm::Json),
    ] {
        let error = decode(body, form).unwrap_err();
        assert!(matches!(error, DecodeError::Unusable { .. }), "{error}");
    }
    let body = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"a"}},{"severityText":7},
        {"body":{"stringValue":"b"}}]}]}]}"#;
    let decoded = decode(body.as_bytes(), OtlpForm::Json).unwrap();
    assert_eq!((decoded.envelopes.len(), decoded.rejected.len()), (2, 1));
    assert_eq!(decoded.rejected[0].bytes, r#"{"severityText":7}"#);
    // wire type 7 does not exist
    let body = request(b"", &[field(2, b""), field(2, b"\x0f")].concat());
    let decoded = decode(&body, OtlpForm::Protobuf).unwrap();
    assert_eq!((decoded.envelopes.len(), decoded.rejected.len()), (1, 1));
}

/// A protobuf field that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    [&out, bytes].concat()
}

fn request(resource: &[u8], records: &[u8]) -> Vec<u8> {
    field(1, &[field(1, resource), field(2, records)].concat())
}

#[test]
fn of_more_values_than_a_record_may_hold_the_rest_is_cut_in_both_forms() {
    let numbers = |count: u32| -> (Vec<Vec<u8>>, Vec<String>) {
        let pair = |number: u32| {
            let key = format!("k{number:05}");
            let json = format!(r#"{{"key":"{key}","value":{{"intValue":"7"}}}}"#);
            ([field(1, key.as_bytes()), field(2, &[0x18, 7])].concat(), json)
        };
        (0..count).map(pair).unzip()
    };
    for (count, kept) in [(1_400, 1_400), (1_600, 1_600), (10_000, 10_000), (15_000, 10_000)] {
        let (pairs, written) = numbers(count);
        let attributes: Vec<u8> = pairs.iter().flat_map(|pair| field(6, pair)).collect();
        let json = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"attributes":[{}],"severityText":"INFO"}}]}}]}}]}}"#,
            written.join(" , ")
        );
        let record = field(2, &[attributes, field(3, b"INFO")].concat());
        let protobuf = decode(&request(b"", &record), OtlpForm::Protobuf).unwrap();
        let json = decode(json.as_bytes(), OtlpForm::Json).unwrap();
        let document = &documents(&json)[0];
        assert_eq!(*document, documents(&protobuf)[0], "{count}");
        let found = document.as_object().unwrap().keys().filter(|key| key.starts_with('k')).count();
        assert_eq!((found, document["log.level"].as_str()), (kept, Some("info")), "{count}");
        let flags = if count == 15_000 { serde_json::json!(["members_cut"]) } else { Value::Null };
        assert_eq!(document["log.flags"], flags, "{count}");
    }

    let values = numbers(15_000).1.join(",");
    let body = format!(r#"{{"kvlistValue":{{"values":[{values}]}}}}"#);
    let deep = r#"{"arrayValue":{"values":["#.repeat(30) + r#"{"stringValue":"deep"}"# + &"]}}".repeat(30);
    for (record, flag) in [(format!(r#""body":{body}"#), "truncated"), (format!(r#""body":{deep}"#), "")] {
        let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{record}}}]}}]}}]}}"#);
        let decoded = decode(json.as_bytes(), OtlpForm::Json).unwrap();
        assert_eq!((decoded.envelopes.len(), decoded.rejected.len()), (1, 0));
        let document = &documents(&decoded)[0];
        assert_eq!(document["log.flags"][0].as_str().unwrap_or_default(), flag);
        assert!(!flag.is_empty() || document["message"].to_string().contains("deep"), "{document}");
    }
}

#[test]
fn what_one_record_and_one_request_may_hold_is_bounded() {
    // a million empty attributes, and a million empty elements in the body
    let many = [0x32, 0].repeat(1 << 20);
    let list = field(5, &field(5, &[0x0a, 0].repeat(1 << 20)));
    let record = field(2, &[many, list].concat());
    let decoded = decode(&request(b"", &record), OtlpForm::Protobuf).unwrap();
    let document = &documents(&decoded)[0];
    assert!(decoded.envelopes[0].bytes.len() < 1 << 20, "{}", decoded.envelopes[0].bytes.len());
    assert!(document["log.flags"].as_array().unwrap().contains(&"truncated".into()), "{document}");

    // nesting
    let mut value = field(1, b"deep");
    for _ in 0..1_000 {
        value = field(5, &field(1, &value));
    }
    let attribute = field(6, &[field(1, b"k"), field(2, &value)].concat());
    let decoded = decode(&request(b"", &field(2, &attribute)), OtlpForm::Protobuf).unwrap();
    assert_eq!(decoded.envelopes.len(), 1);

    // records
    let records = field(2, b"").repeat(9);
    let limits = LogLimits { records: 8, ..LogLimits::default() };
    let error = decode_within(&request(b"", &records), OtlpForm::Protobuf, &limits).unwrap_err();
    assert_eq!(error, DecodeError::TooManyEvents { limit: 8 });

    // a long resource, repeated in each of many records
    let resource = field(1, &[field(1, b"k"), field(2, &field(1, &vec![b'x'; 10 << 10]))].concat());
    let body = Bytes::from(request(&resource, &field(2, b"").repeat(9)));
    let (origin, limits, redactor) = (origin(), LogLimits::default(), Redactor::new([7; 32], vec![]));
    let delivery = Sequence::delivery(&origin, b"1");
    let decoder = LogDecoder::new(&origin, &limits, &redactor);
    let (body, delivery, limits) = (&body, &delivery, &limits);
    let room = 80 << 10;
    let (content, decoded) = (delivery.clone(), Decoded::default());
    let export = Export { body, content, delivery, limits, decoder, decoded, records: 0, room };
    let error = export.read(OtlpForm::Protobuf).unwrap_err();
    assert_eq!(error, DecodeError::TooLong { limit_bytes: MAX_DOCUMENTS_BYTES });
}
