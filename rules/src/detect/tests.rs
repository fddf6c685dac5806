use bytes::Bytes;
use watchbell_event::audit::AuditEvent;
use watchbell_event::{Envelope, Format, Position, Timestamp};

use super::*;
use crate::{Lists, load};

const RULES: &str = "
title: Secrets listed
id: r1
level: high
tags: [attack.t1552.007]
detection: {s: {objectRef.resource: secrets, verb: list}, condition: s}
---
title: By object
id: r2
detection: {s: {objectRef.resource: secrets}, condition: s}
watchbell: {group-by: [objectRef.name, user.groups]}
";

fn record(bytes: &str, cluster: &str) -> Record {
    let now: Timestamp = "2026-01-31T08:15:00Z".parse().unwrap();
    let envelope = Envelope {
        id: EventId([7; 16]),
        received_at: now,
        event_time: now,
        source: "audit".into(),
        cluster: cluster.into(),
        format: Format::KubernetesAudit,
        peer: None,
        history: true,
        bytes: Bytes::copy_from_slice(bytes.as_bytes()),
    };
    Record { position: Position { partition: 0, offset: 3 }, envelope }
}

fn detect(bytes: &str, cluster: &str) -> Vec<Detection> {
    let loaded = load(&[("rules.yml".to_owned(), RULES.to_owned())], &Lists::default());
    assert_eq!(loaded.errors, []);
    let mut detector = Detector::new(Arc::new(RuleSet::compile(loaded.rules)), CorrelationConfig::default());
    let mut detections = Vec::new();
    detector.detect(&record(bytes, cluster), &mut detections);
    detections
}

const LIST: &str = r#"{"level":"Metadata","auditID":"a","stage":"ResponseComplete","verb":"list",
    "requestURI":"/api/v1/namespaces/kube-system/secrets","user":{"username":"alice","groups":["dev","ops"]},
    "sourceIPs":["6.6.6.6","10.0.0.7"],"objectRef":{"resource":"secrets","namespace":"kube-system"},
    "responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-31T08:15:00Z"}"#;

#[test]
fn a_detection_says_what_alerting_needs() {
    let detections = detect(LIST, "prod");
    assert_eq!(detections.len(), 2);
    let first = &detections[0];
    assert_eq!((&*first.rule_id, &*first.title), ("r1", "Secrets listed"));
    assert_eq!(first.summary, "alice listed secrets in kube-system from 10.0.0.7 (200)");
    assert_eq!(first.position.offset, 3);
    assert!(first.history);
    let label = |name| first.labels.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    assert_eq!(label("user.name"), Some("alice"));
    assert_eq!(label("source.ip"), Some("10.0.0.7"));
    assert_eq!(label("event.outcome"), Some("success"));
    assert_eq!(label("orchestrator.resource.name"), None);
}

#[test]
fn stages_of_a_request_share_its_key_and_groups_follow_the_rule() {
    let keys = |bytes: &str, cluster| {
        let detections = detect(bytes, cluster);
        (detections[0].request_key, detections[0].group_key, detections[1].group_key)
    };
    let (request, by_user, by_groups) = keys(LIST, "prod");
    let (request_started, ..) = keys(&LIST.replace("ResponseComplete", "ResponseStarted"), "prod");
    assert_eq!(request, request_started);
    let (_, other_user, same_groups) = keys(&LIST.replace("alice", "bob"), "prod");
    assert_ne!(by_user, other_user);
    assert_eq!(by_groups, same_groups);
    let (_, same_user, other_groups) = keys(&LIST.replace("\"ops\"", "\"sec\""), "prod");
    assert_eq!(by_user, same_user);
    assert_ne!(by_groups, other_groups);
    let (_, other_cluster, _) = keys(LIST, "test");
    assert_ne!(by_user, other_cluster);
    let nobody = LIST.replace(r#""username":"alice","#, "");
    let (_, by_address, _) = keys(&nobody, "prod");
    assert_ne!(by_address, keys(&nobody.replace("10.0.0.7", "10.0.0.8"), "prod").1);
}

/// After a crash partitions of the log may be read in another order, and what was found is found again.
#[test]
fn a_chain_is_one_occurrence_however_much_of_its_start_had_come() {
    let rules = "
title: Marked
name: marked
detection: {s: {objectRef.name: marked}, condition: s}
---
title: Unmarked
name: unmarked
detection: {s: {objectRef.name: unmarked}, condition: s}
---
title: Unmarked after marked
id: chain
correlation: {type: temporal_ordered, rules: [marked, unmarked], group-by: [user.name], timespan: 10m}
";
    let event = |number: u8, name: &str| {
        let event = format!(r#"{{"user":{{"username":"bob"}},"objectRef":{{"name":"{name}"}}}}"#);
        let mut record = record(&event, "prod");
        record.position.offset = number.into();
        record.envelope.id = EventId([number; 16]);
        record.envelope.event_time = record.envelope.event_time.plus_micros(i64::from(number) * 1_000_000);
        record
    };
    let (first, second, end) = (event(1, "marked"), event(2, "marked"), event(3, "unmarked"));
    let occurrences =
        [[&first, &second, &end], [&second, &end, &first], [&end, &second, &first]].map(|order| {
            let loaded = load(&[("rules.yml".to_owned(), rules.to_owned())], &Lists::default());
            let set = Arc::new(RuleSet::compile(loaded.rules));
            let mut detector = Detector::new(set, CorrelationConfig::default());
            let mut detections = Vec::new();
            order.into_iter().for_each(|record| detector.detect(record, &mut detections));
            detections.retain(|detection| detection.correlation.is_some());
            assert_eq!(detections.len(), 1);
            detections[0].request_key
        });
    assert!(occurrences.iter().all(|occurrence| *occurrence == occurrences[0]), "{occurrences:?}");
}

const COUNTED: &str = "
title: Secrets listed
name: listed
detection: {s: {objectRef.resource: secrets, verb: list}, condition: s}
---
title: Few
id: few
correlation: {type: event_count, rules: [listed], group-by: [user.name], timespan: 1h, condition: {eq: 2}}
";

#[test]
fn matches_are_counted_and_the_end_decides_what_waits() {
    let loaded = load(&[("rules.yml".to_owned(), COUNTED.to_owned())], &Lists::default());
    assert_eq!(loaded.errors, []);
    let set = Arc::new(RuleSet::compile(loaded.rules));
    let mut detector = Detector::new(Arc::clone(&set), CorrelationConfig::default());
    let mut detections = Vec::new();
    for _ in 0..2 {
        detector.detect(&record(LIST, "prod"), &mut detections);
    }
    assert_eq!((detections.len(), detector.matched()), (0, &[2, 0][..]));
    detector.finish(&record(LIST, "prod"), &mut detections);
    assert_eq!((detections.len(), detector.matched()), (1, &[2, 1][..]));
    assert_eq!(&*detections[0].rule_id, "few");
    detector.follow(Arc::new(set.replan(&Traffic::default())));
    assert_eq!(detector.matched(), [2, 1]);
    detector.follow(Arc::new(RuleSet::compile(Vec::new())));
    assert_eq!(detector.matched(), [0_u64; 0]);
}

#[test]
fn rules_in_order_may_be_none() {
    let rules = format!(
        "title: Created\nname: created\ndetection: {{s: {{verb: create}}, condition: s}}\n---\n{}",
        COUNTED.replace("event_count, rules: [listed]", "temporal_ordered, rules: [created, listed]")
    );
    for (condition, expect) in [("lt: 1", 1), ("eq: 0", 1), ("gte: 1", 0)] {
        let rules = rules.replace("eq: 2", condition);
        let loaded = load(&[("rules.yml".to_owned(), rules)], &Lists::default());
        assert_eq!(loaded.errors, []);
        let set = Arc::new(RuleSet::compile(loaded.rules));
        let mut detector = Detector::new(set, CorrelationConfig::default());
        let mut detections = Vec::new();
        detector.detect(&record(LIST, "prod"), &mut detections);
        detector.finish(&record(LIST, "prod"), &mut detections);
        assert_eq!(detections.len(), expect, "{condition}");
    }
}

#[test]
fn summaries_are_one_plain_line() {
    let check = |event: &str, expect: &str| {
        assert_eq!(describe::summary(&AuditEvent::parse(event.as_bytes())), expect);
    };
    check(
        r#"{"verb":"get","user":{"username":"bob"},"impersonatedUser":{"username":"system:admin"},
            "objectRef":{"resource":"pods","subresource":"exec","name":"web-0","namespace":"shop"}}"#,
        "bob as system:admin ran a command in pods/web-0 in shop",
    );
    check(
        r#"{"verb":"get","requestURI":"/metrics?token=x","sourceIPs":["::1"],"responseStatus":{"code":401}}"#,
        "an unauthenticated client was refused (401): requested GET /metrics from ::1",
    );
    check(
        r#"{"verb":"update","user":{"username":"a\nb\u202ec\u001b[31m"},
            "objectRef":{"resource":"deployments","subresource":"scale","name":"x"}}"#,
        "a bc [31m updated scale of deployments/x",
    );
    let long = format!(r#"{{"verb":"list","user":{{"username":"{}"}}}}"#, "é".repeat(5000));
    assert!(describe::summary(&AuditEvent::parse(long.as_bytes())).chars().count() < 200);
}

const LOG_RULES: &str = "
title: A login failed
id: log
logsource: {product: linux, service: sshd}
detection: {s: {event.outcome: failure}, condition: s}
---
title: Any failure in a line
id: lines
logsource: {product: kubernetes, service: container}
detection: {keywords: [password], condition: keywords}
---
title: Any failed request
id: audit
logsource: {product: kubernetes, service: audit}
detection: {s: {event.outcome: failure}, condition: s}
---
title: Logins failed
id: many
logsource: {product: linux, service: sshd}
correlation: {type: event_count, rules: [log, audit], group-by: [source.ip], timespan: 1m, condition: {gte: 2}, generate: true}
";

#[test]
fn rules_see_events_of_the_format_they_are_written_for() {
    let loaded = load(&[("rules.yml".to_owned(), LOG_RULES.to_owned())], &Lists::default());
    assert_eq!(loaded.errors, []);
    let mut detector = Detector::new(Arc::new(RuleSet::compile(loaded.rules)), CorrelationConfig::default());
    let mut detect = |format: Format, event: &str| {
        let mut record = record(event, "prod");
        record.envelope.format = format;
        record.envelope.id = EventId::from_hash(&blake3::hash(event.as_bytes()));
        let mut detections = Vec::new();
        detector.detect(&record, &mut detections);
        detections
    };
    let rules = |detections: &[Detection]| -> Vec<String> {
        detections.iter().map(|detection| detection.rule_id.to_string()).collect()
    };
    let login = r#"{"@timestamp":"2026-01-31T08:15:00Z","message":"Failed password for root, password=hunter2 x",
        "event.dataset":"sshd","event.outcome":"failure","user.name":"token=abc","source.ip":"10.0.0.9",
        "orchestrator.namespace":"shop","orchestrator.resource.name":"web-1","container.name":"ssh"}"#;
    let found = detect(Format::Log, login);
    assert_eq!(rules(&found), ["log", "lines"]);
    assert_eq!(found[0].summary, "shop/web-1: Failed password for root, password=[redacted] x");
    let label =
        |name| found[0].labels.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    assert_eq!(label("user.name"), Some("token=[redacted]"));
    assert_eq!(label("source.ip"), Some("10.0.0.9"));
    assert_eq!((label("container.name"), label("event.dataset")), (Some("ssh"), Some("sshd")));
    // the same document as an audit event, and of another program
    let as_audit = login.replace("event.outcome", "outcome");
    assert_eq!(rules(&detect(Format::KubernetesAudit, &as_audit)), [""; 0]);
    assert_eq!(rules(&detect(Format::Log, &login.replace("sshd", "text"))), ["lines"]);
    // one correlation counts both
    let request = r#"{"verb":"get","sourceIPs":["10.0.0.9"],"responseStatus":{"code":401}}"#;
    assert_eq!(rules(&detect(Format::Log, request)), [""; 0]);
    let found = detect(Format::KubernetesAudit, request);
    assert_eq!(rules(&found), ["audit", "many"]);
    assert!(found[1].summary.starts_with("2 events within 1m (source.ip 10.0.0.9)"), "{}", found[1].summary);
}

#[test]
fn the_output_of_a_falco_rule_is_the_summary() {
    let rule = "- rule: r\n  desc: d\n  condition: ka.verb=list\n  priority: NOTICE\n  source: k8s_audit\n  \
        output: \"listed by %ka.user.name of %ka.user.groups, %ka.target.name, %ka.useragent\"\n";
    let loaded = load(&[("falco.yaml".to_owned(), rule.to_owned())], &Lists::shipped());
    assert_eq!(loaded.errors, []);
    let mut detector = Detector::new(Arc::new(RuleSet::compile(loaded.rules)), CorrelationConfig::default());
    let mut detections = Vec::new();
    let agent = format!("\",\"userAgent\":\"a\\nb{}\"", "c".repeat(5000));
    let event = LIST.replace("\"verb\":\"list\"", &format!("\"verb\":\"list{agent}"));
    detector.detect(&record(&event, "prod"), &mut detections);
    let summary = &detections[0].summary;
    assert!(summary.starts_with("listed by alice of (dev,ops), <NA>, a bccc"), "{summary}");
    assert!(summary.chars().count() < 300 && !summary.chars().any(char::is_control), "{summary}");
    assert_eq!(
        (&*detections[0].rule_id, detections[0].level),
        ("falco.yaml: r", watchbell_event::Level::Low)
    );
}

/// What the first rule of `rules` says of an event: field, test and values of each condition.
fn matched(rules: &str, event: &str) -> Vec<String> {
    let loaded = load(&[("rules.yml".to_owned(), rules.to_owned())], &Lists::shipped());
    assert_eq!(loaded.errors, []);
    let explanation = explanation::of_event(&loaded.rules[0], &record(event, "prod").envelope);
    let line = |met: &watchbell_event::MetCondition| {
        let values = met.values.join("|");
        format!("{} {}: {values}", met.field, met.test)
    };
    let more = (explanation.matched_beyond > 0).then(|| format!("+{}", explanation.matched_beyond));
    explanation.matched.iter().map(line).chain(more).collect()
}

#[test]
fn an_explanation_names_the_conditions_that_were_met_and_the_values_that_met_them() {
    let check = |detection: &str, event: &str, expect: &[&str]| {
        let rule = format!("title: t\ndetection: {detection}\n");
        assert_eq!(matched(&rule, event), expect, "{detection}");
    };
    check(
        "{s: {verb: [get, list], objectRef.resource: secrets}, f: {user.username|startswith: 'system:'}, \
         condition: s and not f}",
        LIST,
        &[
            "verb is \"list\": list",
            "objectRef.resource is \"secrets\": secrets",
            "user.username not: starts with \"system:\": alice",
        ],
    );
    check(
        "{a: {verb: create}, b: {user.groups: ops}, f: {userAgent: [x, y]}, condition: (a or b) and not f}",
        LIST,
        &["user.groups is \"ops\": ops", "userAgent is none of 2 exceptions: "],
    );
    check(
        "{s: {'r[any]': {v: x, w|gt: 1}}, condition: s}",
        r#"{"r":[{"v":"x","w":1},{"v":"x","w":2}]}"#,
        &["r[1].v is \"x\": x", "r[1].w > 1: 2"],
    );
    check(
        "{a: {verb: list}, f: {verb: list, user.groups: admins, userAgent: x}, condition: a and not f}",
        LIST,
        &["verb is \"list\": list", "user.groups is not \"admins\": dev|ops"],
    );
    check(
        "{s: {userAgent: null, verb|contains|all: [l, st], user.username: '*'}, condition: s}",
        LIST,
        &[
            "verb contains \"l\" and contains \"st\": list",
            "user.username has a value: alice",
            "userAgent is not there: ",
        ],
    );
    check("{s: {source.ip|cidr: 10.0.0.0/8}, condition: s}", LIST, &["source.ip is in 10.0.0.0/8: 10.0.0.7"]);
    check("{s: [alice], condition: s}", LIST, &["any value contains \"alice\": "]);
}

#[test]
fn what_configuration_maps_and_environments_hold_is_not_told() {
    for (field, event) in [
        ("requestObject.data.key", r#"{"requestObject":{"data":{"key":"sesame"}}}"#),
        ("requestObject.stringData.key", r#"{"requestObject":{"stringData":{"key":"sesame"}}}"#),
        ("responseObject.spec.env.value", r#"{"responseObject":{"spec":{"env":[{"value":"sesame"}]}}}"#),
        ("requestObject.status.token", r#"{"requestObject":{"status":{"token":"sesame"}}}"#),
        ("requestObject.value", r#"{"requestObject":[{"op":"add","path":"/data/key","value":"sesame"}]}"#),
        ("responseObject.value", r#"{"responseObject":{"value":"sesame"}}"#),
    ] {
        let rule = format!("title: t\ndetection: {{s: {{{field}|contains: e}}, condition: s}}\n");
        assert_eq!(matched(&rule, event), [format!("{field} contains \"e\": ")]);
        let members = field.rsplit_once('.').unwrap();
        let rule = format!(
            "title: t\ndetection: {{s: {{'{}[any]': {{{}: '*'}}}}, condition: s}}\n",
            members.0, members.1
        );
        assert!(!matched(&rule, event).concat().contains("sesame"), "{rule}");
    }
}

#[test]
fn secrets_that_programs_log_are_not_told() {
    let rule = "title: t\nlogsource: {product: kubernetes, service: container}\n\
        detection: {s: {message|contains: password, api_key: '*', user.name: '*'}, condition: s}\n";
    let loaded = load(&[("rules.yml".to_owned(), rule.to_owned())], &Lists::default());
    assert_eq!(loaded.errors, []);
    let line = r#"{"message":"password=sesame for root","api_key":"sesame","user.name":"root"}"#;
    let mut envelope = record(line, "prod").envelope;
    envelope.format = Format::Log;
    let explanation = explanation::of_event(&loaded.rules[0], &envelope);
    let values: Vec<_> = explanation.matched.iter().flat_map(|met| &met.values).collect();
    assert_eq!(values, ["password=[redacted] for root", "[redacted]", "root"]);
    assert!(explanation.context.is_empty(), "{explanation:?}");
}

#[test]
fn what_is_given_to_commands_is_not_told() {
    let uri =
        "/api/v1/namespaces/shop/pods/web/exec?command=mysql&command=-psesame&watch&container=web#sesame";
    let event = format!(r#"{{"verb":"create","requestURI":"{uri}","userAgent":"kubectl"}}"#);
    let rule = "title: t\ndetection: {s: {requestURI|contains: 'command='}, condition: s}\n";
    let shown = "/api/v1/namespaces/shop/pods/web/exec?command=…&watch&container=…";
    assert_eq!(matched(rule, &event), [format!("requestURI contains \"command=\": {shown}")]);
    let loaded = load(&[("rules.yml".to_owned(), rule.to_owned())], &Lists::default());
    let explanation = explanation::of_event(&loaded.rules[0], &record(&event, "prod").envelope);
    assert_eq!(explanation.context["requestURI"], shown);
    let falco = "- rule: r\n  desc: d\n  condition: ka.uri.param[command] contains sql and ka.uri contains exec\n  \
        priority: NOTICE\n  source: k8s_audit\n  output: x\n";
    let loaded = load(&[("falco.yaml".to_owned(), falco.to_owned())], &Lists::shipped());
    assert_eq!(loaded.errors, []);
    let explanation = explanation::of_event(&loaded.rules[0], &record(&event, "prod").envelope);
    let values: Vec<_> = explanation.matched.iter().map(|met| met.values.join("|")).collect();
    assert_eq!(values, ["", shown]);
}

#[test]
fn values_beyond_those_that_are_told_are_counted_once_and_only_if_they_could_be_told() {
    for (values, expect) in [
        (r#""a","b","a","c""#, "a|b|c"),
        (r#""a",["b"],"c","d""#, "a|b|c|… 1 more"),
        (r#""a","a","b","c","d","e","d""#, "a|b|c|… 2 more"),
    ] {
        let event = format!(r#"{{"x":[{values}]}}"#);
        let rule = "title: t\ndetection: {s: {x|exists: true}, condition: s}\n";
        assert_eq!(matched(rule, &event), [format!("x is there: {expect}")], "{values}");
    }
}

#[test]
fn the_work_for_an_explanation_is_bounded() {
    let words: Vec<String> = (0..3_000).map(|number| format!("w{number:04}x")).collect();
    let rules = format!(
        "title: Read\nname: read\ndetection: {{s: [{}], condition: s}}\n---\n\
         title: Many\nid: c\ncorrelation: {{type: event_count, rules: [read], timespan: 5m, condition: {{gte: 1}}}}\n",
        words.join(", ")
    );
    let leaves = vec!["x".repeat(60); 4_000];
    let event = format!(r#"{{"verb":"w2999x","r":["{}"]}}"#, leaves.join("\",\""));
    let began = std::time::Instant::now();
    assert_eq!(matched(&rules, &event), ["+1"], "what is not looked at is counted");
    let loaded = load(&[("rules.yml".to_owned(), rules)], &Lists::default());
    let mut detector = Detector::new(Arc::new(RuleSet::compile(loaded.rules)), CorrelationConfig::default());
    let mut detections = Vec::new();
    detector.detect(&record(&event, "prod"), &mut detections);
    let explanation = detections[0].explanation.get();
    assert_eq!((explanation.matched.len(), explanation.matched_beyond), (0, 1));
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_correlation_over_correlations_says_what_its_last_event_met() {
    let rules = "title: Read\nname: read\ndetection: {s: {objectRef.resource: secrets}, condition: s}\n---\n\
        title: Some\nname: some\ncorrelation: {type: event_count, rules: [read], timespan: 5m, condition: {gte: 1}}\n---\n\
        title: Many\nid: many\ncorrelation: {type: event_count, rules: [some], timespan: 5m, condition: {gte: 1}}\n";
    let loaded = load(&[("rules.yml".to_owned(), rules.to_owned())], &Lists::default());
    assert_eq!(loaded.errors, []);
    let mut detector = Detector::new(Arc::new(RuleSet::compile(loaded.rules)), CorrelationConfig::default());
    let mut detections = Vec::new();
    detector.detect(&record(LIST, "prod"), &mut detections);
    assert_eq!((detections.len(), &*detections[0].rule_id), (1, "many"));
    assert_eq!(detections[0].explanation.get().matched[0].field, "objectRef.resource");
}

#[test]
fn an_explanation_is_bounded_whatever_the_rule_and_the_event_say() {
    let values: Vec<String> = (0..3_000).map(|number| format!("v{number}")).collect();
    let long = "x".repeat(100_000);
    let rule = format!(
        "title: t\ndescription: {long}\ndetection: {{s: {{a|contains|all: [{}]}}, condition: s}}\n",
        values.join(", ")
    );
    let event = format!(r#"{{"a":["{}"],"userAgent":"{long}"}}"#, values.join("\",\""));
    let lines = matched(&rule, &event);
    assert_eq!((lines.len(), lines.last().map(String::as_str)), (17, Some("+2984")));
    let rule = format!("title: t\ndetection: {{s: {{a: [{}]}}, condition: s}}\n", values.join(", "));
    assert_eq!(matched(&rule, r#"{"a":"v2999"}"#), ["a is \"v2999\": v2999"]);
    let loaded = load(&[("rules.yml".to_owned(), rule)], &Lists::shipped());
    let explanation = explanation::of_event(&loaded.rules[0], &record(&event, "prod").envelope);
    assert!(serde_json::to_string(&explanation).unwrap().len() < 8_000);
}

#[test]
fn an_alert_of_a_correlation_says_what_was_counted() {
    let rules = "title: Secret read\nname: read\nid: r1\n\
        detection: {s: {objectRef.resource: secrets}, condition: s}\n---\n\
        title: Many\nid: c1\nwatchbell: {next-steps: [look]}\ncorrelation: {type: event_count, rules: [read], \
        group-by: [user.username], timespan: 5m, condition: {gte: 1}}\n---\n\
        title: New\nid: c2\ncorrelation: {type: new_value, rules: [read], group-by: [verb], timespan: 30d, \
        warm-up: 0, condition: {field: user.username}}\n";
    let loaded = load(&[("rules.yml".to_owned(), rules.to_owned())], &Lists::default());
    assert_eq!(loaded.errors, []);
    let mut detector = Detector::new(Arc::new(RuleSet::compile(loaded.rules)), CorrelationConfig::default());
    let mut detections = Vec::new();
    detector.detect(&record(LIST, "prod"), &mut detections);
    assert_eq!(detections.len(), 2);
    let explanation = detections[0].explanation.get();
    let counted = explanation.correlation.as_ref().unwrap();
    assert_eq!((counted.what.as_str(), counted.condition.as_str()), ("events", ">= 1"));
    assert_eq!((counted.reached.as_str(), counted.timespan.as_str()), ("1", "5m"));
    assert_eq!((counted.rules[0].id.as_str(), counted.rules[0].title.as_str()), ("r1", "Secret read"));
    assert_eq!(counted.group.get("user.username").map(String::as_str), Some("alice"));
    assert_eq!(explanation.next_steps, ["look"]);
    assert_eq!(explanation.context["sourceIPs"], "6.6.6.6, 10.0.0.7");
    assert_eq!(explanation.matched[0].field, "objectRef.resource");
    let new = &detections[1].explanation.get().matched[0];
    assert_eq!((new.test.as_str(), new.values.as_slice()), ("not seen for 30d", &["alice".to_owned()][..]));
}
