use serde_json::Value;
use watchbell_event::Timestamp;

use super::*;

fn origin() -> Origin {
    Origin {
        source: "bulk".into(),
        cluster: "".into(),
        peer: None,
        received_at: Timestamp::from_micros(1_770_000_000_000_000),
        history: false,
    }
}

fn decode(body: &str) -> Result<DecodedBulk, DecodeError> {
    let cluster_of = |index: Option<&str>| match index {
        Some("forbidden") => None,
        Some("test") => Some("test".into()),
        _ => Some("prod".into()),
    };
    let (limits, redactor) =
        (LogLimits { records: 9, ..LogLimits::default() }, Redactor::new([7; 32], vec![]));
    let body = Bytes::copy_from_slice(body.as_bytes());
    decode_bulk(&body, Some("path"), &cluster_of, (&origin(), b"1"), &limits, &redactor)
}

/// What Filebeat 8 sends.
const FILEBEAT: &str = r#"{"create":{"_index":"filebeat-8.15.0"}}
{"@timestamp":"2026-01-31T08:15:00.123Z","message":"Failed password for root from 203.0.113.9 port 22 ssh2","log":{"offset":17,"file":{"path":"/var/log/auth.log"}},"host":{"name":"node-1"},"kubernetes":{"namespace":"shop","pod":{"name":"bastion-0"}}}
"#;

#[test]
fn documents_become_records() {
    let bulk = decode(FILEBEAT).unwrap();
    let document: Value = serde_json::from_slice(&bulk.decoded.envelopes[0].bytes).unwrap();
    for (key, expect) in [
        ("@timestamp", "2026-01-31T08:15:00.123000Z"),
        ("event.dataset", "sshd"),
        ("source.ip", "203.0.113.9"),
        ("log.file.path", "/var/log/auth.log"),
        ("host.name", "node-1"),
        ("orchestrator.namespace", "shop"),
        ("orchestrator.resource.name", "bastion-0"),
    ] {
        assert_eq!(document[key], expect, "{key} of {document}");
    }
    assert_eq!((bulk.items.len(), bulk.items[0].refused), (1, None));
}

#[test]
fn every_action_is_answered_in_its_place() {
    let body = concat!(
        "{\"index\":{\"_id\":\"a\"}}\n{\"message\":\"1\"}\n\n",
        "{\"delete\":{\"_index\":\"x\",\"_id\":\"b\"}}\n",
        "{\"update\":{\"_id\":\"c\"}}\n{\"doc\":{}}\n",
        "{\"create\":{\"_index\":\"test\"}}\r\n{\"message\":\"2\"}\r\n",
        "{\"create\":{}}\n7\n",
        "{\"create\":{\"_index\":\"forbidden\"}}\n{}\n",
        "{\"index\":{}}\n{\"message\":\"3\"}",
    );
    let bulk = decode(body).unwrap();
    let answers: Vec<_> = bulk
        .items
        .iter()
        .map(|item| (item.action.name(), item.index.as_deref().unwrap(), item.refused))
        .collect();
    assert_eq!(
        answers,
        [
            ("index", "path", None),
            ("delete", "x", Some(BulkRefusal::Unsupported)),
            ("update", "path", Some(BulkRefusal::Unsupported)),
            ("create", "test", None),
            ("create", "path", Some(BulkRefusal::NotAnObject)),
            ("create", "forbidden", Some(BulkRefusal::NoCluster)),
            ("index", "path", None),
        ]
    );
    let clusters: Vec<_> = bulk.decoded.envelopes.iter().map(|envelope| &*envelope.cluster).collect();
    assert_eq!(clusters, ["prod", "prod", "test"]);
    assert_eq!(bulk.decoded.rejected[0].bytes, "7");
}

#[test]
fn a_document_with_an_id_is_known_again_and_one_without_is_not() {
    let ids = |body: &str, delivery: &[u8]| -> Vec<EventId> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let (limits, redactor) = (LogLimits::default(), Redactor::new([7; 32], vec![]));
        let cluster = |_: Option<&str>| Some("prod".into());
        let bulk = decode_bulk(&body, None, &cluster, (&origin(), delivery), &limits, &redactor).unwrap();
        bulk.decoded.envelopes.iter().map(|envelope| envelope.id).collect()
    };
    let named = "{\"index\":{\"_id\":\"a\"}}\n{\"m\":1}\n";
    let anonymous = "{\"index\":{}}\n{\"m\":1}\n";
    assert_eq!(ids(named, b"1"), ids(named, b"2"));
    assert_ne!(ids(named, b"1"), ids(&named.replace(":1", ":2"), b"1"));
    assert_ne!(ids(named, b"1"), ids(&named.replace("\"a\"", "\"b\""), b"1"));
    assert_ne!(ids(anonymous, b"1"), ids(anonymous, b"2"));
    let twice = ids(&anonymous.repeat(2), b"1");
    assert_ne!(twice[0], twice[1]);
    // an id is the same wherever in a request it stands
    assert_eq!(ids(&format!("{anonymous}{named}"), b"1")[1], ids(named, b"1")[0]);
}

#[test]
fn what_cannot_be_told_apart_is_refused_as_a_whole() {
    assert_eq!(decode(" \n\n").unwrap_err(), DecodeError::Empty);
    let good = "{\"index\":{}}\n{}\n";
    assert_eq!(decode(&good.repeat(10)).unwrap_err(), DecodeError::TooManyEvents { limit: 9 });
    for bad in [
        "x",
        "{}",
        "{\"upsert\":{}}\n{}",
        "{\"index\":{},\"x\":1}\n{}",
        "{\"index\":{}}",
        "{\"index\":{}}\n\n{}",
    ] {
        let place = Place { event: 1, offset: good.len() };
        let expect = DecodeError::Unusable { place, reason: Reason::NotAnAction };
        assert_eq!(decode(&format!("{good}{bad}")).unwrap_err(), expect, "{bad}");
    }
}
