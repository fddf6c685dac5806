use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::{Envelope, EventId, Format};

fn envelope(json: &str) -> Envelope {
    Envelope {
        id: EventId::from_hash(&blake3::hash(json.as_bytes())),
        received_at: "2026-01-31T08:15:01Z".parse().unwrap(),
        event_time: "2026-01-31T08:15:00.5Z".parse().unwrap(),
        source: Arc::from("audit"),
        cluster: Arc::from("prod"),
        format: Format::KubernetesAudit,
        peer: None,
        history: false,
        bytes: Bytes::from(json.to_owned()),
    }
}

fn is(field: &str, text: &str) -> Predicate {
    Predicate::Field(Field::new(field), Test::Is(text.to_owned()))
}

fn like(pattern: &str) -> Test {
    let mut wildcard = Wildcard::new();
    for character in pattern.chars() {
        match character {
            '*' => wildcard.push_any(),
            '?' => wildcard.push_one(),
            literal => wildcard.push(literal),
        }
    }
    Test::Like(wildcard)
}

const EVENT: &str = r#"{"verb":"delete","stage":"ResponseComplete","user":{"username":"eve","groups":["dev","ops"]},
    "sourceIPs":["6.6.6.6","10.1.2.3"],"objectRef":{"resource":"secrets","namespace":"kube-system"},
    "responseStatus":{"code":403},"stageTimestamp":"2026-01-31T08:15:00.500000Z",
    "requestObject":{"metadata":{"managedFields":[{"manager":"x"}],"labels":{"a.b/c":"d"}},
      "spec":{"containers":[{"name":"one","privileged":true},{"name":"two","ports":[80,443.5]}]},"none":null},
    "annotations":{"authorization.k8s.io/decision":"forbid"}}"#;

#[test]
fn fields_are_found_by_path_and_by_alias() {
    let envelope = envelope(EVENT);
    let view = EventView::new(&envelope);
    for (field, text, expect) in [
        ("verb", "delete", true),
        ("verb", "Delete", false),
        ("event.action", "delete", true),
        ("user.groups", "ops", true),
        ("user.name", "eve", true),
        ("annotations.authorization.k8s.io/decision", "forbid", true),
        ("requestObject.metadata.labels.a.b/c", "d", true),
        ("requestObject.spec.containers.name", "two", true),
        ("requestObject.spec.containers.privileged", "true", true),
        ("requestObject.spec.containers.ports", "80", true),
        ("requestObject.spec.containers.ports", "443.50", true),
        ("requestObject.metadata.managedFields.manager", "x", false),
        ("responseStatus.code", "403", true),
        ("responseStatus.code", "403.0", true),
        ("event.outcome", "failure", true),
        ("orchestrator.namespace", "kube-system", true),
        ("orchestrator.resource.type", "secrets", true),
        ("cluster", "prod", true),
        ("orchestrator.cluster.name", "prod", true),
        ("source", "kubernetes_audit", true),
        ("source.ip", "10.1.2.3", true),
        ("source.ip", "6.6.6.6", false),
        ("sourceIPs", "6.6.6.0/24", true),
        ("sourceIPs", "::ffff:6.6.6.6", true),
        ("sourceIPs", "7.0.0.0/8", false),
        ("@timestamp", "2026-01-31", true),
        ("@timestamp", "2026-01-31T08:15:00.5Z", true),
        ("stageTimestamp", "2026-01-31T09:15:00.5+01:00", true),
        ("stageTimestamp", "2026-01-30", false),
        ("id", &envelope.id.to_string().to_uppercase(), true),
        ("id", "00", false),
    ] {
        assert_eq!(is(field, text).matches(&view), expect, "{field}:{text}");
    }
}

#[test]
fn log_documents_are_found_under_the_same_names() {
    let json = r#"{"message":"Failed password for root","event.dataset":"sshd","event.action":"ssh_login",
        "event.outcome":"failure","user.name":"root","source.ip":"10.0.0.9","orchestrator.namespace":"shop",
        "orchestrator.resource.name":"web-1","line":{"source.ip":"6.6.6.6"},"kubernetes":{"labels":{"a.b/c":"d"}}}"#;
    let envelope = Envelope { format: Format::Log, ..envelope(json) };
    let view = EventView::new(&envelope);
    for (field, text, expect) in [
        ("user.name", "root", true),
        ("source.ip", "10.0.0.0/8", true),
        ("source.ip", "6.6.6.6", false),
        ("event.outcome", "failure", true),
        ("event.outcome", "unknown", false),
        ("event.action", "ssh_login", true),
        ("orchestrator.namespace", "shop", true),
        ("orchestrator.resource.name", "web-1", true),
        ("event.dataset", "sshd", true),
        ("line.source.ip", "6.6.6.6", true),
        ("kubernetes.labels.a.b/c", "d", true),
        ("source", "log", true),
        ("message", "failed PASSWORD", true),
        ("message", "failed root", false),
    ] {
        assert_eq!(is(field, text).matches(&view), expect, "{field}:{text}");
    }
    assert!(Predicate::Anywhere(Test::Is("password".to_owned())).matches(&view));
    assert!(Predicate::Field(Field::new("message"), like("PASS*")).matches(&view));
    assert!(Predicate::Field(Field::new("source.ip"), Test::Exists).matches(&view));
}

#[test]
fn exists_means_a_value_at_or_below() {
    let envelope = envelope(EVENT);
    let view = EventView::new(&envelope);
    for (field, expect) in [
        ("objectRef", true),
        ("objectRef.name", false),
        ("objectRef.res", false),
        ("requestObject.none", false),
        ("requestObject.spec.containers", true),
        ("impersonatedUser", false),
        ("user.name", true),
        ("@timestamp", true),
        ("_cut", false),
    ] {
        assert_eq!(Predicate::Field(Field::new(field), Test::Exists).matches(&view), expect, "{field}");
    }
}

#[test]
fn ranges_compare_as_their_bounds_say() {
    let json = r#"{"n":10,"text":"9","word":"banana","ip":"10.0.0.9","time":"2026-01-31T12:00:00Z","big":18446744073709551615}"#;
    let envelope = envelope(json);
    let view = EventView::new(&envelope);
    let included = |text: &str| if text == "*" { Bound::Unbounded } else { Bound::Included(text.to_owned()) };
    for (field, lower, upper, expect) in [
        ("n", "9", "11", true),
        ("n", "10.5", "*", false),
        ("n", "*", "10", true),
        ("text", "10", "*", false),
        ("text", "8", "10", true),
        ("word", "apple", "cherry", true),
        ("word", "cherry", "*", false),
        ("word", "1", "2", false),
        ("ip", "10.0.0.1", "10.0.0.20", true),
        ("ip", "10.0.0.10", "10.0.0.20", false),
        ("time", "2026-01-30", "2026-01-31", true),
        ("time", "2026-01-31T12:00:01Z", "*", false),
        ("big", "9223372036854775808", "*", true),
    ] {
        let range = Range::new(included(lower), included(upper));
        let predicate = Predicate::Field(Field::new(field), Test::Within(range));
        assert_eq!(predicate.matches(&view), expect, "{field}:[{lower} TO {upper}]");
    }
    let before =
        Range::new(Bound::Excluded("2026-01-30".to_owned()), Bound::Excluded("2026-01-31".to_owned()));
    assert!(!Predicate::Field(Field::new("time"), Test::Within(before)).matches(&view));
}

#[test]
fn whole_numbers_compare_exactly() {
    let parse = |text: &str| Number::parse(text).unwrap();
    let ascending = [
        "-9223372036854775808",
        "-0.5",
        "0",
        "9007199254740992",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808.0",
        "12345678901234567890",
        "18446744073709551615",
        "18446744073709551616",
        "1e300",
    ];
    for (at, one) in ascending.iter().enumerate() {
        for (other_at, other) in ascending.iter().enumerate() {
            let (number, other_number) = (parse(one), parse(other));
            assert_eq!(number.compare(other_number), at.cmp(&other_at), "{one} to {other}");
            assert_eq!(number == other_number, at == other_at, "{one} is {other}");
        }
    }
    assert_eq!(parse("9223372036854775808.0"), parse("9223372036854775808"));
    assert_eq!(parse("-0.0"), parse("0"));
}

#[test]
fn patterns_describe_the_whole_value() {
    for (pattern, text, expect) in [
        ("system:*", "system:node", true),
        ("*:node", "system:node", true),
        ("s*:n??e", "system:node", true),
        ("*a*b*c", "xaxbxbxc", true),
        ("*a*b*c", "xaxbxbxcd", false),
        ("?", "é", true),
        ("?", "", false),
        ("a*", "a", true),
        ("*ab", "aab", true),
        ("é*é", "éé", true),
    ] {
        assert_eq!(
            like(pattern).accepts(Kind::General, &Scalar::Text(text.into())),
            expect,
            "{pattern} {text}"
        );
    }
    let matches = |source: &str, text: &str| Pattern::new(source).unwrap().fits(text);
    assert!(matches("a|ab", "ab"));
    assert!(!matches("a", "ab"));
    assert!(matches("(?i)ADMIN.*", "admin\nx"));
    assert_eq!(Pattern::new("a)(b").unwrap_err(), PatternError::Syntax);
    assert_eq!(Pattern::new(r"(\pL{100}){100}").unwrap_err(), PatternError::TooComplex);
    assert_eq!(Pattern::new(&"a".repeat(600)).unwrap_err(), PatternError::TooLong);
    assert!(like("10.1.*").accepts(Kind::Address, &Scalar::Text("::ffff:10.1.2.3".into())));
}

#[test]
fn long_values_are_equal_as_a_whole_and_fit_patterns_by_their_beginning() {
    let long = "x".repeat(2000);
    let other = format!("{}y", "x".repeat(1999));
    assert_ne!(indexed_text(&long), indexed_text(&other));
    assert!(indexed_text(&long).len() > MAX_VALUE_BYTES);
    let accepts = |test: &Test| test.accepts(Kind::General, &Scalar::Text(other.as_str().into()));
    assert!(accepts(&Test::Is(other.clone())));
    assert!(!accepts(&Test::Is(long)));
    assert!(accepts(&like("xx*")));
    assert!(!accepts(&like("*y")));
}

#[test]
fn what_is_left_out_is_named() {
    let many: Vec<String> = (0..3000).map(|n| format!("\"v{n}\"")).collect();
    let deep = format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60));
    for (json, cut) in [
        (format!(r#"{{"responseObject":{{"items":[{}]}},"verb":"list"}}"#, many.join(",")), "responseObject"),
        (format!(r#"{{"requestObject":{deep},"verb":"list"}}"#), "requestObject"),
        (format!(r#"{{"verb":"list","x":[{}]}}"#, many.join(",")), "event"),
        (r#"{"verb":"list","a\u0000b":1}"#.to_owned(), "event"),
        (r#"{"verb":"list","x":"#.to_owned(), "event"),
    ] {
        let envelope = envelope(&json);
        let view = EventView::new(&envelope);
        assert!(is(leaves::CUT, cut).matches(&view), "{json:.60}");
        assert!(is("verb", "list").matches(&view), "{json:.60}");
    }
}

#[test]
fn an_outcome_and_an_actor_follow_from_several_fields() {
    for (json, outcome, actor) in [
        (r#"{"responseStatus":{"code":200},"user":{"username":"a"}}"#, "success", "a"),
        (
            r#"{"responseStatus":{"code":404},"user":{"username":"a"},"impersonatedUser":{"username":"b"}}"#,
            "failure",
            "b",
        ),
        (r#"{"responseStatus":{"code":"200"},"user":{"username":"a"}}"#, "unknown", "a"),
    ] {
        let envelope = envelope(json);
        let view = EventView::new(&envelope);
        assert!(is("event.outcome", outcome).matches(&view), "{json}");
        assert!(is("user.name", actor).matches(&view), "{json}");
        assert!(!is("user.name", "x").matches(&view), "{json}");
    }
}
