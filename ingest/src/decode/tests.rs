use proptest::prelude::*;
use watchbell_event::audit::AuditEvent;

use super::*;

const V1: &str = r#""apiVersion":"audit.k8s.io/v1""#;
const GOOD: &str = r#"{"auditID":"1","verb":"get"}"#;

fn origin() -> Origin {
    Origin {
        source: "audit".into(),
        cluster: "test".into(),
        peer: None,
        received_at: "2026-01-31T08:15:00Z".parse().unwrap(),
        history: false,
    }
}

fn limits() -> DecodeLimits {
    DecodeLimits { event_bytes: 2000, depth: 10, values: 200, events: 20 }
}

fn decode(body: &[u8]) -> Result<Decoded, DecodeError> {
    let redactor = Redactor::new([1; 32], Vec::new());
    decode_audit(&Bytes::copy_from_slice(body), &origin(), &limits(), &redactor)
}

/// Each envelope's bytes, and each rejection as "event@offset: reason", with "+" if the event was kept.
fn outcome(body: &[u8]) -> Result<(Vec<String>, Vec<String>), String> {
    let decoded = decode(body).map_err(|error| error.to_string())?;
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let rejected = decoded.rejected.iter().map(|rejected| {
        let Place { event, offset } = rejected.place;
        format!("{}{event}@{offset}: {}", if rejected.repaired { "+" } else { "" }, rejected.reason)
    });
    Ok((decoded.envelopes.iter().map(|envelope| text(&envelope.bytes)).collect(), rejected.collect()))
}

#[track_caller]
fn check(body: &str, kept: &[&str], rejected: &[&str]) {
    let (envelopes, reasons) = outcome(body.as_bytes()).unwrap();
    assert_eq!(envelopes, kept, "{body}");
    assert_eq!(reasons, rejected, "{body}");
}

#[track_caller]
fn check_refused(body: &[u8], message: &str) {
    assert_eq!(outcome(body).unwrap_err(), message, "{}", String::from_utf8_lossy(body));
}

fn list(items: &str) -> String {
    format!(r#"{{"kind":"EventList",{V1},"metadata":{{}},"items":[{items}]}}"#)
}

#[test]
fn every_form_of_a_body_is_accepted() {
    let single = format!(r#"{{"kind":"Event",{V1},"auditID":"2"}}"#);
    let beta = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1beta1","metadata":{},"timestamp":"2026-01-31T08:00:00Z"}"#;
    check(&list(&format!("{GOOD}, {single} ,{beta}")), &[GOOD, &single, beta], &[]);
    check(&list(""), &[], &[]);
    check(&format!(r#"{{"kind":"EventList",{V1},"items":null}}"#), &[], &[]);
    check(&format!(r#"{{"items":[{GOOD}],{V1},"kind":"EventList"}}"#), &[GOOD], &[]);
    check(&format!(r#"{{"items":[{GOOD}]}}"#), &[GOOD], &[]);
    check(&list(r#"{"stage":"Panic"}"#), &[r#"{"stage":"Panic"}"#], &[]);
    check(&single, &[&single], &[]);
    check(&format!("\u{FEFF} {single}\n"), &[&single], &[]);
    check(&format!("[{GOOD},{single}]"), &[GOOD, &single], &[]);
    check("[]", &[], &[]);
    check(&format!("{GOOD}\n\r\n{}\n{single}\n", list(beta)), &[GOOD, beta, &single], &[]);
    check(
        "{\n  \"auditID\": \"1\",\n  \"user\": {\n    \"groups\": []\n  }\n}",
        &["{\n  \"auditID\": \"1\",\n  \"user\": {\n    \"groups\": []\n  }\n}"],
        &[],
    );
}

#[test]
fn bad_events_are_rejected_and_good_ones_beside_them_kept() {
    let bad = |item: &str, reason: &str| {
        let body = list(&format!("{GOOD},{item},{GOOD}"));
        check(&body, &[GOOD, GOOD], &[&format!("1@{}: {reason}", body.find(item).unwrap())]);
    };
    bad("7", "not an object");
    bad("[{}]", "not an object");
    bad("null", "not an object");
    bad(r#"{"kind":"Pod"}"#, r#"kind "Pod" of "" is not an audit.k8s.io/v1 or v1beta1 Event"#);
    bad(
        r#"{"kind":"Event","apiVersion":"v1"}"#,
        r#"kind "Event" of "v1" is not an audit.k8s.io/v1 or v1beta1 Event"#,
    );
    bad(r#"{"kind":7}"#, r#"kind "7" of "" is not an audit.k8s.io/v1 or v1beta1 Event"#);
    bad(r#"{"verb":"get","v\u0065rb":"list"}"#, "a key is given twice in one object");
    bad(r#"{"user":{"username":"a","username":"b"}}"#, "a key is given twice in one object");
    bad(&format!(r#"{{"userAgent":"{}"}}"#, "x".repeat(2000)), "longer than 2000 bytes");
    bad(&format!(r#"{{"extra":[{}0]}}"#, "1,".repeat(200)), "more than 200 keys and values");
}

#[test]
fn what_a_client_can_write_into_a_body_hides_no_event() {
    let repaired = |item: &str, kept: &str, reason: &str| {
        let body = list(&format!("{item},{GOOD}"));
        check(&body, &[kept, GOOD], &[&format!("+0@{}: {reason}", body.find(item).unwrap())]);
        assert_eq!(decode(body.as_bytes()).unwrap().rejected[0].bytes, kept.as_bytes());
        assert!(AuditEvent::parse(kept.as_bytes()).verb.is_some());
    };
    let wrap = |body: &str| format!(r#"{{"verb":"patch","requestObject":{body},"auditID":"x"}}"#);
    // the last one is what the API server acts on
    repaired(
        &wrap(r#"{"a":{"hostPID":false},"b":[{"c":1, "c" : 2}],"a":{"hostPID":true}}"#),
        &wrap(r#"{"b":[{"c" : 2}],"a":{"hostPID":true}}"#),
        "a key is given twice in one object",
    );
    repaired(
        &wrap(&format!("{}1{}", "[".repeat(60), "]".repeat(60))),
        &wrap(&format!(r#"{}"cut by watchbell: nested too deeply"{}"#, "[".repeat(9), "]".repeat(9))),
        "nested deeper than 10",
    );
    repaired(
        &wrap("[-1e999,1e308]"),
        &wrap(r#"["-1e999",1e308]"#),
        "a number beyond the range of 64-bit floating point",
    );
    repaired(&wrap(r#""a\ud800\"b""#), &wrap("\"a\u{FFFD}\\\"b\""), "text that is not Unicode");
    let left_out = wrap(r#""left out by watchbell: too large""#);
    repaired(&wrap(&format!("[{}0]", "1,".repeat(200))), &left_out, "more than 200 keys and values");
    repaired(&wrap(&format!("\"{}\"", "x".repeat(2000))), &left_out, "longer than 2000 bytes");
    repaired(&wrap(&format!("\"{}\"", "\\ud800".repeat(400))), &left_out, "longer than 2000 bytes");
    // of a Secret, too: that a body was left out is no secret, and rules look for it
    let secret = |body: &str| {
        format!(
            r#"{{"verb":"create","objectRef":{{"resource":"secrets"}},"requestObject":{body},"responseObject":{body},"auditID":"x"}}"#
        )
    };
    repaired(
        &secret(&format!("{{\"data\":{{\"a\":\"{}\"}}}}", "x".repeat(2000))),
        &secret(r#""left out by watchbell: too large""#),
        "longer than 2000 bytes",
    );
    let body = [br#"{"auditID":"1","requestObject":"a"#, &[0xFF, b'b'][..], br#""}"#].concat();
    let (kept, rejected) = outcome(&body).unwrap();
    assert_eq!(kept, ["{\"auditID\":\"1\",\"requestObject\":\"a\u{FFFD}b\"}"]);
    assert_eq!(rejected, ["+0@0: text that is not Unicode"]);
}

#[test]
fn an_event_beyond_the_limits_is_kept_with_what_matters() {
    let redactor = Redactor::new([1; 32], Vec::new());
    let addresses = |count: usize| vec!["\"::\""; count].join(",");
    let annotations =
        |count: usize| (0..count).map(|n| format!("\"{n}\":\"\"")).collect::<Vec<_>>().join(",");
    let check = |rest: &str, kept: &str| {
        let event =
            |rest| format!(r#"{{"auditID":"x","verb":"create",{rest},"requestReceivedTimestamp":null}}"#);
        let limits = DecodeLimits::default();
        let body = Bytes::from(event(rest));
        let decoded = decode_audit(&body, &origin(), &limits, &redactor).unwrap();
        assert!(decoded.rejected.len() == 1 && decoded.rejected[0].repaired);
        assert!(decoded.envelopes[0].bytes == event(kept).as_bytes());
        assert_eq!(AuditEvent::parse(&decoded.envelopes[0].bytes).verb.as_deref(), Some("create"));
    };
    let forwarded =
        |count| format!(r#""sourceIPs":[{},"10.0.0.1"],"requestObject":{{"a":1}}"#, addresses(count));
    check(&forwarded(300_000), &forwarded(15));
    let long = "é".repeat(5 << 20);
    let text = format!("{} (cut by watchbell: too long)", "é".repeat(8 << 10));
    for key in ["userAgent", "requestURI"] {
        check(&format!(r#""{key}":"{long}""#), &format!(r#""{key}":"{text}""#));
    }
    let status = |message: &str, details: &str| {
        format!(r#""responseStatus":{{"message":"{message}","details":{details},"code":422}}"#)
    };
    let causes = format!(r#"{{"causes":[{}]}}"#, addresses(300_000));
    check(&status(&long, &causes), &status(&text, "\"left out by watchbell: too large\""));
    let annotated = |count| format!(r#""annotations":{{{}}}"#, annotations(count));
    check(&annotated(200_000), &annotated(1000));
}

#[test]
fn a_repaired_event_is_redacted_as_well() {
    let event = r#"{"auditID":"1","objectRef":{"resource":"secrets"},"requestObject":{"data":{"a":"hush"},"data":{"a":"hush","a":"hush2"}}}"#;
    let (kept, _) = outcome(event.as_bytes()).unwrap();
    assert!(!kept[0].contains("hush") && kept[0].matches("redacted:").count() == 1, "{}", kept[0]);
}

#[test]
fn what_goes_into_quarantine_holds_no_secret_if_it_is_json() {
    let secret = r#"{"kind":"Secret","data":{"a":"hush"},"items":[{"kind":"Secret","data":{"b":"hush"}}]}"#;
    let twice = r#"{"data":{"a":"hush","a":"hush"}}"#;
    let deep = format!("{}\"hush\"{}", "[".repeat(20), "]".repeat(20));
    let patched =
        r#"{"auditID":"1","objectRef":{"resource":"secrets"},"requestObject":{"data":{"a":"hush"}}}"#;
    let many = format!("[\"hush\"{}]", ",1".repeat(300));
    let items = [
        secret.to_owned(),
        format!("[{secret}]"),
        format!(r#"[{{"kind":"Secret","data":{twice}}}]"#),
        format!(r#"{{"kind":"Pod","data":{twice}}}"#),
        format!(r#"{{"kind":"Secret","stringData":{deep}}}"#),
        format!(r#"{{"kind":"Pod","a":{many}}}"#),
        many,
        format!(r#"{{"kind":"PodList","apiVersion":"v1","items":[{patched}]}}"#),
        patched.replace("auditID", "audit").replace("}}}", r#"}},"audit":"1","requestURI":"/?token=hush"}"#),
        patched.replace("}}}", r#"}},"auditID":"2"}"#),
        patched.replace("}}}", r#","a":"hush"}},"requestURI":"/?token=hush"}"#),
    ];
    for item in items {
        assert!(item.contains("hush"));
        // an array at the top would be a list of events
        let line = item.starts_with('{').then(|| format!("{item}\n{GOOD}"));
        for body in line.into_iter().chain([format!("[{item},{GOOD}]")]) {
            let decoded = decode(body.as_bytes()).unwrap();
            assert_eq!(decoded.rejected.len(), 1, "{body}");
            let kept = String::from_utf8(decoded.rejected[0].bytes.to_vec()).unwrap();
            assert!(!kept.contains("hush"), "{kept}");
            serde_json::from_str::<serde_json::Value>(&kept).unwrap();
        }
    }
    let harmless = r#"{"auditID":"1","auditID":"2","verb":"get","user":{"username":"eve"}}"#;
    let rejected = decode(format!("{harmless}\n{GOOD}").as_bytes()).unwrap().rejected;
    assert_eq!(rejected[0].bytes, harmless.as_bytes());
}

#[test]
fn what_comes_before_a_syntax_error_is_kept() {
    let body = list(&format!("{GOOD},{{\"auditID\":tru}},{GOOD}"));
    let at = body.find("tru}").unwrap();
    check(&body, &[GOOD], &[&format!("1@{at}: not JSON: expected a value")]);
    let rejected = decode(body.as_bytes()).unwrap().rejected;
    assert_eq!(rejected[0].bytes, body[at - 11..]);
    let whole = list(&format!("{GOOD},{GOOD}"));
    let cut = whole.len() - 10;
    check(&whole[..cut], &[GOOD], &[&format!("1@{cut}: not JSON: the text ends too early")]);
    check(
        &format!("{GOOD}\n{{\"auditID\":\n{GOOD}\n{{\"x\n{GOOD}"),
        &[GOOD, GOOD, GOOD],
        &[
            "1@70: not JSON: expected a comma or the end of the list or object",
            "3@73: not JSON: a control character within a string",
        ],
    );
}

#[test]
fn a_body_of_syntax_errors_costs_little() {
    let many = DecodeLimits { events: usize::MAX, ..DecodeLimits::default() };
    let redactor = Redactor::new([1; 32], Vec::new());
    for line in ["{\"a\":[\n", "{\"items\":[\n", "{\"items\":[x\n", "{\"a\":[x\n", "{\"a\":{}\n", "{\n"] {
        let body = Bytes::from(line.repeat(20_000));
        let started = std::time::Instant::now();
        assert!(decode_audit(&body, &origin(), &many, &redactor).is_err());
        assert!(started.elapsed().as_secs() < 20, "{line}");
    }
}

#[test]
fn broken_lines_count_as_events() {
    for line in ["{\"items\":x\n", "{\"items\":[x\n", "{\"a\":x\n"] {
        check_refused(format!("{GOOD}\n{}", line.repeat(21)).as_bytes(), "the body has more than 20 events");
        assert_eq!(outcome(format!("{GOOD}\n{}", line.repeat(19)).as_bytes()).unwrap().1.len(), 19);
    }
}

#[test]
fn bodies_without_anything_usable_are_refused() {
    check_refused(b"", "the body is empty");
    check_refused(b" \n\xEF", "event 0 at byte 2: not JSON: expected a value");
    check_refused(b"\xEF\xBB\xBF\n", "the body is empty");
    check_refused(b"hello", "event 0 at byte 0: not JSON: expected a value");
    check_refused(b"{", "event 0 at byte 1: not JSON: the text ends too early");
    check_refused(b"{}", "event 0 at byte 0: not an audit event: it has neither apiVersion nor auditID");
    check_refused(b"7", "event 0 at byte 0: not an object");
    check_refused(
        br#"{"foo":1}"#,
        "event 0 at byte 0: not an audit event: it has neither apiVersion nor auditID",
    );
    check_refused(
        br#"{"kind":"PodList","apiVersion":"v1","items":[{"auditID":"1"}]}"#,
        r#"event 0 at byte 0: kind "PodList" of "" is not an audit.k8s.io/v1 or v1beta1 Event"#,
    );
    check_refused(
        br#"{"items":[{"auditID":"1"}],"kind":"EventList","apiVersion":"v1"}"#,
        r#"event 0 at byte 0: kind "" of "v1" is not an audit.k8s.io/v1 or v1beta1 Event"#,
    );
    check_refused(br#"{"items":[],"items":[]}"#, "event 0 at byte 0: a key is given twice in one object");
    check_refused(list(&vec![GOOD; 21].join(",")).as_bytes(), "the body has more than 20 events");
    let (kept, _) = outcome(list(&vec![GOOD; 20].join(",")).as_bytes()).unwrap();
    assert_eq!(kept.len(), 20);
}

#[test]
fn envelopes_say_where_and_when() {
    let body = list(concat!(
        r#"{"stageTimestamp":"2026-01-31T08:14:59.5Z","requestReceivedTimestamp":"2026-01-31T08:00:00Z"},"#,
        r#"{"stageTimestamp":"soon","requestReceivedTimestamp":"2026-01-31T08:00:00Z"},"#,
        r#"{"timestamp":"2026-01-31T07:00:00Z"},{"timestamp":"2027-01-31T07:00:00Z"},{"stage":"Panic"}"#,
    ));
    let decoded = decode(body.as_bytes()).unwrap();
    let times: Vec<String> =
        decoded.envelopes.iter().map(|envelope| envelope.event_time.to_string()).collect();
    let expect =
        ["08:14:59.500000", "08:00:00.000000", "07:00:00.000000", "08:20:00.000000", "08:15:00.000000"];
    assert_eq!(times, expect.map(|time| format!("2026-01-31T{time}Z")));
    for envelope in &decoded.envelopes {
        let claimed = AuditEvent::parse(&envelope.bytes).claimed_time();
        assert_eq!(envelope.event_time, Timestamp::event_time(claimed, envelope.received_at));
        assert_eq!((&*envelope.cluster, &*envelope.source), ("test", "audit"));
    }
    let [first, second] = [GOOD, r#"{"kind":"Event","verb":"get","auditID":"1"}"#];
    let ids: Vec<_> = decode(list(&format!("{first},{second}")).as_bytes()).unwrap().envelopes;
    assert_eq!(ids[0].id, ids[1].id);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_what_is_kept_can_be_read(
        parts in prop::collection::vec(prop_oneof![
            Just(GOOD.as_bytes().to_vec()),
            Just(list(GOOD).into_bytes()),
            Just(br#"{"items":["#.to_vec()),
            Just(br#"{"auditID":"1","requestObject":{"a":1,"a":"\ud800"}}"#.to_vec()),
            Just(br#"{"auditID":"1","verb":1e999}"#.to_vec()),
            "[\\[\\]{},:\"\n ]{1,3}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..4),
        ], 0..8)
    ) {
        let body = parts.concat();
        if let Ok(decoded) = decode(&body) {
            for envelope in decoded.envelopes {
                serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&envelope.bytes).unwrap();
            }
            for rejected in decoded.rejected {
                prop_assert!(rejected.place.offset <= body.len());
            }
        }
    }

    #[test]
    fn a_body_cut_anywhere_keeps_the_events_before_the_cut(cut in 0usize..400) {
        let body = list(&[GOOD; 10].join(","));
        let head = body.find("[").unwrap() + 1;
        let cut = cut.min(body.len() - 1);
        let whole = cut.saturating_sub(head).checked_div(GOOD.len() + 1).unwrap_or(0);
        let whole = whole + usize::from(cut > head && (cut - head) % (GOOD.len() + 1) == GOOD.len());
        match outcome(&body.as_bytes()[..cut]) {
            Ok((kept, rejected)) => prop_assert_eq!((kept.len(), rejected.len()), (whole.min(10), 1)),
            Err(_) => prop_assert_eq!(whole, 0),
        }
    }
}
