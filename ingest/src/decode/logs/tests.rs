use std::borrow::Cow;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use watchbell_event::Timestamp;

use super::super::{DecodeError, Decoded};
use super::*;

fn origin() -> Origin {
    Origin {
        source: "logs".into(),
        cluster: "prod".into(),
        peer: None,
        received_at: "2026-01-31T08:15:01Z".parse().unwrap(),
        history: false,
    }
}

fn redactor() -> Redactor {
    Redactor::new([0; 32], vec!["password".to_owned()])
}

fn record(line: &[u8]) -> LogRecord<'_> {
    LogRecord {
        time: None,
        line: Cow::Borrowed(line),
        cut: false,
        common: None,
        known: Vec::new(),
        attributes: Map::new(),
        format: None,
        identity: Sequence::delivery(&origin(), b"1").id(0),
    }
}

fn decode(record: LogRecord<'_>, limits: &LogLimits) -> Value {
    let envelopes = decode_logs([record], &origin(), limits, &redactor());
    serde_json::from_slice(&envelopes[0].bytes).unwrap()
}

pub(super) fn document(line: &str) -> Value {
    decode(record(line.as_bytes()), &LogLimits::default())
}

fn body(body: &str, form: BodyForm) -> Result<Decoded, DecodeError> {
    let origin = origin();
    let delivery = Sequence::delivery(&origin, b"1");
    decode_log_body(
        &Bytes::from(body.to_owned()),
        form,
        &origin,
        &delivery,
        &LogLimits::default(),
        &redactor(),
    )
}

fn documents(decoded: &Decoded) -> Vec<Value> {
    decoded.envelopes.iter().map(|envelope| serde_json::from_slice(&envelope.bytes).unwrap()).collect()
}

#[test]
fn a_line_never_replaces_what_the_agent_and_the_transport_know() {
    let line = br#"{"source":{"ip":"6.6.6.6"},"container":{"name":"forged"},"log.level":"warn","stream":"x","shop":1,"message":"m"}"#;
    let mut record = record(line);
    record.known = vec![
        (Field::ContainerName, "web".into()),
        (Field::LogIostream, "stderr".into()),
        (Field::LogLevel, "ERROR".into()),
    ];
    let attributes = json!({"shop": {"region": "eu"}, "container": {"name": "other", "runtime": "cri"}, "source.ip": "10.0.0.1",
        "kubernetes": {"namespace_name": "shop", "pod_name": "web-1", "host": "node-1", "labels": {"a.b/c": "d"}},
        "message": "not the line"});
    record.attributes = attributes.as_object().unwrap().clone();
    assert_eq!(
        decode(record, &LogLimits::default()),
        json!({"@timestamp": "2026-01-31T08:15:01.000000Z", "message": "m", "event.dataset": "json",
            "container.name": "web", "log.iostream": "stderr", "log.level": "error", "source.ip": "10.0.0.1",
            "orchestrator.namespace": "shop", "orchestrator.resource.name": "web-1",
            "orchestrator.resource.type": "pod", "host.name": "node-1",
            "shop": {"region": "eu"}, "container": {"runtime": "cri"}, "agent.container.name": "other",
            "agent.message": "not the line",
            "kubernetes": {"namespace_name": "shop", "pod_name": "web-1", "host": "node-1", "labels": {"a.b/c": "d"}},
            "line": {"source": {"ip": "6.6.6.6"}, "container": {"name": "forged"}, "log.level": "warn",
                "stream": "x", "shop": 1, "source.ip": "6.6.6.6", "container.name": "forged"}})
    );
}

#[test]
fn attributes_of_open_telemetry_fill_the_fields() {
    let mut record = record(b"x");
    let attributes = json!({"k8s.namespace.name": "shop", "k8s.pod.name": "web-1", "k8s.container.name": "web",
        "k8s.node.name": "node-1", "log.iostream": "stdout", "service.name": "shop", "log.file.path": ["odd"]});
    record.attributes = attributes.as_object().unwrap().clone();
    let document = decode(record, &LogLimits::default());
    for (path, expect) in [
        ("orchestrator.namespace", json!("shop")),
        ("orchestrator.resource.name", json!("web-1")),
        ("orchestrator.resource.type", json!("pod")),
        ("container.name", json!("web")),
        ("host.name", json!("node-1")),
        ("log.iostream", json!("stdout")),
        ("service.name", json!("shop")),
        ("k8s.pod.name", json!("web-1")),
        ("agent.log.file.path", json!(["odd"])),
    ] {
        assert_eq!(document[path], expect, "{path}");
    }
}

#[test]
fn limits_cut_and_say_so() {
    let limits = LogLimits { line_bytes: 8, depth: 2, values: 3, records: 10 };
    let mut long = record("1234567é9".as_bytes());
    long.attributes = json!({"big": "123456789", "deep": [[[1]]], "ok": 1}).as_object().unwrap().clone();
    let document = decode(long, &limits);
    assert_eq!(document["message"], "1234567");
    assert_eq!(document["log.flags"], json!(["truncated", "members_cut"]));
    assert_eq!((&document["ok"], document.get("big"), document.get("deep")), (&json!(1), None, None));

    let document = decode(record(b"a\xff\x1bb"), &limits);
    assert_eq!(
        (&document["message"], &document["log.flags"]),
        (&json!("a\u{fffd}\u{1b}b"), &json!(["not_utf8"]))
    );

    let wide = LogLimits { line_bytes: 100, ..limits };
    assert_eq!(decode(record(br#"{"a":1,"b":2}"#), &wide)["event.dataset"], "text");
    let deep = decode(record(br#"{"a":[[{}]]}"#), &LogLimits { values: 10, ..wide });
    assert_eq!(deep["a"], json!(["cut by watchbell: nested too deeply"]));
}

#[test]
fn a_format_that_is_said_counts() {
    let mut json = record(br#"{"a":1}"#);
    json.format = Some(LineFormat::Text);
    assert_eq!(decode(json, &LogLimits::default())["event.dataset"], "text");
    let mut logfmt = record(b"a=1");
    logfmt.format = Some(LineFormat::Klog);
    assert_eq!(decode(logfmt, &LogLimits::default())["event.dataset"], "text");
}

#[test]
fn configured_paths_are_redacted() {
    let document = document(r#"{"msg":"x","password":"hunter2"}"#);
    assert!(document["password"].as_str().unwrap().starts_with("redacted:"), "{document}");
}

#[test]
fn bodies_are_taken_in_every_form_that_agents_send() {
    let expect = ["one", "two"];
    for (text, form) in [
        (r#"[{"date":1769847300.5,"log":"one\n"},{"date":1769847300.5,"log":"two\n"}]"#, BodyForm::ByContent),
        (
            "{\"date\":1769847300.5,\"log\":\"one\"}\n{\"date\":1769847300.5,\"log\":\"two\"}\n",
            BodyForm::ByContent,
        ),
        (
            r#"{"date":1769847300.5,"log":"one"}{"@timestamp":"2026-01-31T08:15:00.5Z","message":"two"}"#,
            BodyForm::ByContent,
        ),
        (r#"[1769847300.5,{"log":"one"}] [[1769847300.5,{}],{"log":"two"}]"#, BodyForm::ByContent),
        ("2026-01-31T08:15:00.5Z stdout F one\n\n2026-01-31T08:15:00.5Z stderr F two\r\n", BodyForm::Lines),
    ] {
        let decoded = body(text, form).unwrap();
        let documents = documents(&decoded);
        let messages: Vec<_> =
            documents.iter().map(|document| document["message"].as_str().unwrap()).collect();
        assert_eq!(messages, expect, "{text}");
        for envelope in &decoded.envelopes {
            assert_eq!(envelope.event_time, "2026-01-31T08:15:00.5Z".parse().unwrap(), "{text}");
        }
        assert_ne!(decoded.envelopes[0].id, decoded.envelopes[1].id);
    }
}

#[test]
fn a_record_without_a_line_is_the_line() {
    let decoded = body(
        r#"{"date":1769847300,"level":"error","user":"eve","kubernetes":{"pod_name":"web-1"}}"#,
        BodyForm::ByContent,
    );
    let document = &documents(&decoded.unwrap())[0];
    assert_eq!((&document["log.level"], &document["line"]["user"]), (&json!("error"), &json!("eve")));
    assert_eq!(
        (&document["orchestrator.resource.name"], &document["user.name"]),
        (&json!("web-1"), &json!("eve"))
    );
    assert_eq!(document.get("message"), None);
}

#[test]
fn broken_records_do_not_take_others_with_them() {
    for (text, kept, rejected) in [
        ("{\"log\":\"a\"}\n{\"log\":\"b\n{\"log\":\"c\"}", 3, 0),
        (r#"[{"log":"a"},{"log":"b"},{"log":"#, 2, 1),
        (r#"[{"log":"a"},7,[],{"log":"b"}]"#, 2, 2),
        ("{\"log\":\"a\"}\nplain\n", 2, 0),
        ("[2026-01-31T08:15:00Z] \"GET / HTTP/1.1\" 200\n[error] x\n", 2, 0),
        ("plain\n{\"log\":\"a\"}\n", 2, 0),
    ] {
        let decoded = body(text, BodyForm::ByContent).unwrap();
        assert_eq!((decoded.envelopes.len(), decoded.rejected.len()), (kept, rejected), "{text}");
    }
    assert_eq!(body(" \n", BodyForm::ByContent).unwrap_err(), DecodeError::Empty);
    let many = "x\n".repeat(LogLimits::default().records + 1);
    assert_eq!(body(&many, BodyForm::Lines).unwrap_err(), DecodeError::TooManyEvents { limit: 100_000 });
}

proptest! {
    #[test]
    fn whatever_a_line_holds_its_document_is_sound(
        parts in prop::collection::vec(prop_oneof![
            Just(r#"10.0.0.9 - eve [21/Feb/2018:17:26:53 +0000] "GET / HTTP/1.0" 401 2"#.to_owned()),
            Just("Failed password for invalid user a from 10.0.0.9 port 22 ssh2".to_owned()),
            Just("Jan 31 08:15:00 node-1 sshd[77]: pam_unix(sshd:auth): authentication failure; rhost=10.0.0.9  user=x".to_owned()),
            Just(r#"[2026-01-31T08:15:00.123Z] "GET /a HTTP/1.1" 403 - a - "-" 0 19 0 - "-" "curl/8" "#.to_owned()),
            Just("I0131 08:15:00.123456       1 a.go:12] \"m\" a=1 ".to_owned()),
            Just(r#"{"host":{"name":"forged"},"orchestrator":{"namespace":"forged"},"container.name":"forged","line":{},"@timestamp":1,"a":"#.to_owned()),
            Just("}".to_owned()),
            Just("host.name=forged container.name=forged @timestamp=1 a=1 a=2 ".to_owned()),
            "[\\[\\]{},:\"<>= \\\\a-z0-9é\\n\\t]{0,12}",
        ], 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let line = parts.concat();
        let mut cut = cut.index(line.len() + 1);
        while !line.is_char_boundary(cut) {
            cut -= 1;
        }
        for line in [&line[..], &line[..cut], &line[cut..]] {
            let mut record = record(line.as_bytes());
            record.known = vec![(Field::ContainerName, "web".into())];
            let bytes = decode_logs([record], &origin(), &LogLimits::default(), &redactor()).remove(0).bytes;
            // strict: no key twice
            let mut tape = Tape::default();
            let end = json::parse(&bytes, 0, json::Limits { depth: 127, values: 100_000 }, &mut tape);
            prop_assert_eq!((end, tape.flaws()), (Ok(bytes.len()), &[][..]), "{:?}", bytes);
            let document: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(&document["container.name"], "web");
            for origin in ["host.name", "host", "orchestrator", "container", "orchestrator.namespace"] {
                prop_assert_eq!(document.get(origin), None);
            }
            prop_assert!(document["@timestamp"].as_str().unwrap().parse::<Timestamp>().is_ok());
        }
    }
}

proptest::proptest! {
    /// What is written once for many lines is written as it would be for each.
    #[test]
    fn facts_that_lines_have_in_common_change_nothing(
        line in r#"(\{"user":"u","level":"warn","log.level":3,"container":\{"name":"x"\}\}|level=info user=bob x=1|10.0.0.1 - - \[31/Jan/2026:08:15:00 \+0000\] "GET / HTTP/1.1" 200 7|.{0,40})"#,
        texts in proptest::collection::vec(".{0,12}", 7),
        chosen in proptest::prelude::any::<u8>(),
    ) {
        let fields = [
            Field::OrchestratorNamespace,
            Field::ContainerName,
            Field::EventDataset,
            Field::LogLevel,
            Field::UserName,
            Field::SourceIp,
            Field::LogFilePath,
        ];
        let facts = || fields.into_iter().zip(&texts).enumerate().filter(|(n, _)| chosen >> n & 1 == 1);
        let facts = || facts().map(|(_, (field, text))| (field, Fact::from(text.as_str())));
        let offset = (Field::LogOffset, Fact::from(7));
        let mut each = record(line.as_bytes());
        each.known = facts().chain([offset.clone()]).collect();
        let common = CommonFacts::new(facts());
        let mut shared = record(line.as_bytes());
        (shared.common, shared.known) = (Some(&common), vec![offset]);
        let limits = LogLimits::default();
        proptest::prop_assert_eq!(
            decode_logs([each], &origin(), &limits, &redactor()),
            decode_logs([shared], &origin(), &limits, &redactor())
        );
    }
}
