use proptest::prelude::*;
use watchbell_event::predicate::{EventView, Predicate};

use super::*;
use crate::parse;
use crate::testing::{all_events, ids, index_of, record, request, request_for, time};

const EVENTS: [&str; 6] = [
    r#"{"verb":"get","user":{"username":"system:node:a"},"sourceIPs":["10.0.0.1"],"responseStatus":{"code":200},"objectRef":{"resource":"pods","name":"web-1"}}"#,
    r#"{"verb":"delete","user":{"username":"eve","groups":["dev","ops"]},"sourceIPs":["6.6.6.6","10.0.0.2"],"responseStatus":{"code":403},"objectRef":{"resource":"secrets","namespace":"kube-system"},"annotations":{"authorization.k8s.io/decision":"forbid"}}"#,
    r#"{"verb":"create","user":{"username":"eve"},"impersonatedUser":{"username":"root"},"requestObject":{"spec":{"containers":[{"image":"a:1","ports":[80]},{"image":"b","privileged":true}],"replicas":1.5}}}"#,
    r#"{"verb":7,"sourceIPs":["nowhere"],"responseStatus":{"code":"500"},"stageTimestamp":"later"}"#,
    r#"{"verb":"list","user":{"username":""},"requestURI":"/api/v1/secrets?limit=500","userAgent":"kubectl/v1.30 (linux)","stageTimestamp":"2026-01-31T12:00:00.123456Z"}"#,
    r#"{"verb":"watch","sourceIPs":["fd00::1"],"objectRef":{"resourceVersion":"1234","name":"web-2"}}"#,
];

#[test]
fn queries_find_the_right_events() {
    let (_dir, index) = index_of(&EVENTS);
    let check = |query: &str, expect: &[usize]| {
        let response = index.searcher().search(&request(query)).unwrap();
        let all: Vec<_> = (0..).zip(EVENTS).map(|(n, json)| record(n, 0, json).envelope.id).collect();
        let found: Vec<usize> =
            ids(&response).iter().map(|id| all.iter().position(|one| one == id).unwrap()).collect();
        assert_eq!(found, expect, "{query}");
        assert_eq!(response.total, Total { value: expect.len() as u64, relation: Relation::Eq }, "{query}");
    };
    check("*", &[5, 4, 3, 2, 1, 0]);
    check("verb:delete", &[1]);
    check("verb:7", &[3]);
    check("verb:(get OR list) AND NOT user.username:system\\:*", &[4]);
    check("user.username:\"\"", &[4]);
    check("sourceIPs:10.0.0.0/8", &[1, 0]);
    check("sourceIPs:6.6.6.6", &[1]);
    check("source.ip:6.6.6.6", &[]);
    check("source.ip:10.0.*", &[1, 0]);
    check("sourceIPs:nowhere", &[3]);
    check("sourceIPs:\"fd00::/8\"", &[5]);
    check("responseStatus.code:>=400", &[3, 1]);
    check("responseStatus.code:4??", &[1]);
    check("responseStatus.code:500", &[3]);
    check("user.name:root", &[2]);
    check("user.name:eve", &[1]);
    check("event.outcome:failure", &[1]);
    check("event.outcome:success", &[0]);
    check("event.outcome:unknown", &[5, 4, 3, 2]);
    check("_exists_:requestObject.spec", &[2]);
    check("_exists_:requestObject.spec.containers.image", &[2]);
    check("_exists_:requestObject.sp", &[]);
    check("_exists_:user", &[4, 2, 1, 0]);
    check("requestObject.spec.containers.image:a\\:1", &[2]);
    check("requestObject.spec.containers.ports:80", &[2]);
    check("requestObject.spec.containers.privileged:true", &[2]);
    check("requestObject.spec.replicas:[1 TO 2]", &[2]);
    check("objectRef.resourceVersion:{999 TO 1234]", &[5]);
    check("_exists_:stageTimestamp", &[4, 3]);
    check("stageTimestamp:>=2026-01-31", &[4]);
    check("stageTimestamp:\"2026-01-31T12:00:00.123456Z\"", &[4]);
    check("@timestamp:{\"2026-01-31T12:00:01Z\" TO \"2026-01-31T12:00:03Z\"]", &[4, 3]);
    check("@timestamp:>2030-01-01 OR verb:get", &[0]);
    check("@timestamp:>2030-01-01 verb:get", &[]);
    check("secrets", &[1]);
    check("*secrets*", &[4, 1]);
    check("403", &[1]);
    check("10.0.0.0/24", &[1, 0]);
    check("/web-[0-9]/", &[5, 0]);
    check("cluster:test", &[5, 3, 1]);
    check("source:kubernetes_audit NOT cluster:prod", &[5, 3, 1]);
    check("NOT (verb:get OR verb:delete) NOT verb:watch", &[4, 3, 2]);
    check(&format!("id:{}", record(2, 0, EVENTS[2]).envelope.id), &[2]);
}

#[test]
fn log_lines_are_found_by_words_and_fields() {
    let lines = [
        r#"{"message":"Failed password for root from 10.0.0.9 port 22","event.dataset":"sshd","event.outcome":"failure","user.name":"root","source.ip":"10.0.0.9","orchestrator.namespace":"shop"}"#,
        r#"{"message":"password accepted; nothing failed","event.dataset":"text","orchestrator.namespace":"shop"}"#,
        r#"{"verb":"get","user":{"username":"root"},"sourceIPs":["10.0.0.9"],"objectRef":{"namespace":"shop"},"responseStatus":{"code":403}}"#,
    ];
    let (_dir, index) = index_of(&lines);
    let check = |query: &str, expect: u64| {
        let response = index.searcher().search(&request(query)).unwrap();
        assert_eq!(response.total.value, expect, "{query}");
    };
    check("message:password", 2);
    check("message:\"failed PASSWORD\"", 1);
    check("message:\"password failed\"", 0);
    check("message:PASS*", 2);
    check("message:/accept.*/", 1);
    check("message:10.0.0.9", 1);
    check("_exists_:message", 2);
    check("\"Failed password\"", 1);
    check("user.name:root", 2);
    check("source.ip:10.0.0.0/24", 2);
    check("_exists_:source.ip", 2);
    check("event.outcome:failure", 2);
    check("event.outcome:unknown", 1);
    check("orchestrator.namespace:shop", 3);
    check("shop", 3);
    check("event.dataset:sshd", 1);
    check("NOT message:\"password accepted\"", 2);
    check("shop NOT \"password accepted\"", 2);
}

#[test]
fn events_too_big_to_index_whole_are_named_and_found() {
    let items: Vec<String> = (0..3000).map(|n| format!(r#"{{"name":"pod-{n}","deep":[[{n}]]}}"#)).collect();
    let big =
        format!(r#"{{"verb":"list","responseObject":{{"items":[{}]}},"stage":"late"}}"#, items.join(","));
    let long =
        format!(r#"{{"verb":"{}","requestObject":{{"data":"{}"}}}}"#, "v".repeat(5000), "é".repeat(3000));
    let (_dir, index) = index_of(&[&big, &long]);
    let check = |query: &str, expect: u64| {
        let response = index.searcher().search(&request(query)).unwrap();
        assert_eq!(response.total.value, expect, "{query}");
    };
    check("_cut:responseObject", 1);
    check("_exists_:_cut", 1);
    check("responseObject.items.name:pod-1", 1);
    check("responseObject.items.name:pod-2999", 0);
    check("responseObject.items.deep:7", 1);
    check("stage:late", 1);
    check(&format!("verb:{}", "v".repeat(5000)), 1);
    check(&format!("verb:{}", "v".repeat(4999)), 0);
    check("verb:vvv*", 1);
    check(&format!("requestObject.data:\"{}\"", "é".repeat(3000)), 1);
    check("requestObject.data:*é", 1);
}

#[test]
fn totals_are_exact_where_that_is_cheap_or_asked_for() {
    let dir = tempfile::TempDir::new().unwrap();
    // with so much memory, a commit makes one segment
    let config = crate::Config { heap_bytes: 64 << 20, ..crate::testing::small() };
    let mut index = crate::Index::open(config, dir.path()).unwrap();
    for part in 0..3_u64 {
        let json = |n: u64| if n.is_multiple_of(2) { r#"{"verb":"get"}"# } else { r#"{"verb":"list"}"# };
        let records = (part * 8000..(part + 1) * 8000).map(|n| record(n, n.cast_signed(), json(n)));
        index.add(&records.collect::<Vec<_>>()).unwrap();
        index.commit().unwrap();
    }
    let check = |query: &str, exact_total: bool, value: u64, relation: Relation| {
        let found =
            index.searcher().search(&SearchRequest { limit: 10, exact_total, ..request(query) }).unwrap();
        assert_eq!((found.total, found.hits.len()), (Total { value, relation }, 10), "{query}");
    };
    check("*", false, 24_000, Relation::Eq);
    check("verb:get", false, 12_000, Relation::Eq);
    check("verb:*e*", false, 12_000, Relation::Eq);
    check("verb:get OR verb:l*", false, 16_000, Relation::Gte);
    check("verb:get OR verb:l*", true, 24_000, Relation::Eq);
}

#[test]
fn a_hit_carries_the_event_as_it_was() {
    let (_dir, index) = index_of(&EVENTS);
    let hit = index.searcher().search(&request("verb:delete")).unwrap().hits.remove(0);
    let original = record(1, 1, EVENTS[1]).envelope;
    assert_eq!((hit.id, hit.timestamp), (original.id, original.event_time));
    assert_eq!((hit.cluster.as_str(), hit.source.as_str()), ("test", "kubernetes_audit"));
    assert_eq!(hit.event.get(), EVENTS[1]);
    let by_id = index.searcher().by_id(original.id).unwrap().unwrap();
    assert_eq!(by_id.event.get(), EVENTS[1]);
}

#[test]
fn pages_do_not_shift_when_events_arrive() {
    let (_dir, mut index) = index_of(&EVENTS);
    let searcher = index.searcher();
    let mut request = request("*");
    request.limit = 2;
    let first = searcher.search(&request).unwrap();
    index.add(&[record(6, 100, r#"{"verb":"new"}"#), record(7, 2, r#"{"verb":"late"}"#)]).unwrap();
    index.commit().unwrap();
    let mut events: Vec<String> = first.hits.iter().map(|hit| hit.event.get().to_owned()).collect();
    request.cursor = first.next_cursor;
    while request.cursor.is_some() {
        let page = searcher.search(&request).unwrap();
        assert_eq!(page.total.value, 6);
        events.extend(page.hits.iter().map(|hit| hit.event.get().to_owned()));
        request.cursor = page.next_cursor;
    }
    let expect: Vec<&str> = EVENTS.into_iter().rev().collect();
    assert_eq!(events, expect);
    assert_eq!(all_events(&searcher).len(), 8);
}

#[test]
fn a_cursor_is_good_for_its_own_query_only() {
    let (_dir, index) = index_of(&EVENTS);
    let mut one = request("*");
    one.limit = 2;
    let cursor = index.searcher().search(&one).unwrap().next_cursor.unwrap();
    let refused =
        |request: &SearchRequest| matches!(index.searcher().search(request), Err(crate::SearchError::Cursor));
    assert!(refused(&SearchRequest { cursor: Some(cursor.clone()), ..request("verb:get") }));
    let asked = "* of yesterday".to_owned();
    assert!(refused(&SearchRequest { cursor: Some(cursor.clone()), asked, ..request("*") }));
    assert!(refused(&SearchRequest { cursor: Some("AAAA".to_owned()), ..request("*") }));
    assert!(refused(&SearchRequest { cursor: Some(format!("B{}", &cursor[1..])), ..request("*") }));
    assert!(!refused(&SearchRequest { cursor: Some(cursor), ..request("*") }));
}

#[test]
fn a_range_of_time_includes_its_beginning_and_not_its_end() {
    let (_dir, index) = index_of(&EVENTS);
    let mut request = request("*");
    (request.from, request.to) = (Some(time("2026-01-31T12:00:00Z")), Some(time("2026-01-31T12:00:02Z")));
    let found = index.searcher().search(&request).unwrap();
    assert_eq!(found.total.value, 2);
    assert_eq!(found.hits[0].event.get(), EVENTS[2]);
}

#[test]
fn a_search_stops_when_its_time_is_up() {
    let (_dir, index) = index_of(&EVENTS);
    let request = SearchRequest { deadline: Instant::now(), ..request("verb:*e*") };
    assert!(matches!(index.searcher().search(&request), Err(crate::SearchError::Deadline)));
}

#[test]
fn known_ids_are_recognised_and_others_are_not() {
    let (_dir, index) = index_of(&EVENTS);
    let id = |n: u64, json: &str| record(n, 0, json).envelope.id;
    let asked = [id(1, EVENTS[1]), id(9, EVENTS[1]), id(5, EVENTS[5]), id(1, EVENTS[1])];
    let contains = |asked: &[_]| index.searcher().contains(asked).unwrap();
    assert_eq!(contains(&asked.map(|id| (id, None))), [true, false, true, true]);
    let at = |n: u64, seconds| (asked[0], Some(record(n, seconds, EVENTS[1]).envelope.event_time));
    assert_eq!(contains(&[at(1, 1), at(1, 3600), at(1, -5)]), [true, false, false]);
    let mut near = asked[0];
    near.0[15] ^= 1;
    assert_eq!(contains(&[(near, None)]), [false]);
    assert!(index.searcher().by_id(near).unwrap().is_none());
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab*?:/]{0,3}".prop_map(|text| format!("{text:?}")),
        Just("\"system:node\"".to_owned()),
        Just("\"10.0.0.1\"".to_owned()),
        Just("\"::ffff:10.0.0.1\"".to_owned()),
        Just("\"fd00::2\"".to_owned()),
        Just("\"2026-01-31T08:00:00.000001Z\"".to_owned()),
        Just("\"0001-01-01T00:00:00Z\"".to_owned()),
        Just("\"forbid\"".to_owned()),
        Just("\"failure\"".to_owned()),
        "[abAB .]{0,9}".prop_map(|text| format!("{text:?}")),
        Just(format!("\"{}\"", "ab".repeat(600))),
        Just(format!("\"{}é\"", "ab".repeat(511))),
        (0..600_u64).prop_map(|number| number.to_string()),
        (-3..3_i64).prop_map(|number| number.to_string()),
        Just("1.5".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("null".to_owned()),
    ]
}

fn json_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => scalar(),
        1 => prop::collection::vec(scalar(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
        1 => (scalar(), scalar()).prop_map(|(a, b)| format!("[{{\"a\":{a}}},{{\"a\":{b},\"b\":1}}]")),
        1 => scalar().prop_map(|value| format!("{{\"a.b/c\":{value}}}")),
    ]
}

fn json_event() -> impl Strategy<Value = String> {
    let entry = (prop::sample::select(&PATHS[..]), json_value());
    prop::collection::vec(entry, 0..10).prop_map(|entries| {
        let entries: Vec<String> = entries.iter().map(|(path, value)| nest(path, value)).collect();
        format!("{{{}}}", entries.join(","))
    })
}

/// `a/b` as a key in a key; repeated keys are allowed to happen.
fn nest(path: &str, value: &str) -> String {
    match path.split_once('|') {
        Some((first, rest)) => format!("{first:?}:{{{}}}", nest(rest, value)),
        None => format!("{path:?}:{value}"),
    }
}

const PATHS: [&str; 19] = [
    "message",
    "user.name",
    "source.ip",
    "event.outcome",
    "orchestrator.namespace",
    "verb",
    "user|username",
    "user|groups",
    "impersonatedUser|username",
    "sourceIPs",
    "responseStatus|code",
    "responseStatus",
    "objectRef|name",
    "stageTimestamp",
    "requestReceivedTimestamp",
    "annotations|authorization.k8s.io/decision",
    "requestObject|spec|x",
    "requestObject|metadata|managedFields",
    "other",
];

const FIELDS: [&str; 25] = [
    "message",
    "event.action",
    "orchestrator.namespace",
    "verb",
    "user.username",
    "user.groups",
    "user",
    "impersonatedUser.username",
    "sourceIPs",
    "source.ip",
    "responseStatus.code",
    "objectRef.name",
    "stageTimestamp",
    "requestReceivedTimestamp",
    "annotations.authorization.k8s.io/decision",
    "requestObject.spec.x",
    "requestObject.spec.x.a",
    "requestObject.metadata.managedFields",
    "other",
    "other.a.b/c",
    "user.name",
    "event.outcome",
    "cluster",
    "source",
    "@timestamp",
];

fn query_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab]{1,2}",
        "[ab*?]{1,3}",
        Just("\"\"".to_owned()),
        "\"[abAB .]{0,4}\"",
        Just("system\\:*".to_owned()),
        Just("10.0.0.0/8".to_owned()),
        Just("\"fd00::/8\"".to_owned()),
        Just("10.*".to_owned()),
        Just("[10.0.0.0 TO 10.0.0.9]".to_owned()),
        Just("failure".to_owned()),
        Just("/s?u.*/".to_owned()),
        Just("/(a|b)+/".to_owned()),
        Just(">=400".to_owned()),
        Just("[-1 TO 2}".to_owned()),
        Just("<1.6".to_owned()),
        Just("[a TO ab]".to_owned()),
        Just(">a".to_owned()),
        (0..4_u64).prop_map(|number| number.to_string()),
        Just("true".to_owned()),
        Just("prod".to_owned()),
        Just(">=2026-01-31".to_owned()),
        Just("[* TO 2026-01-30}".to_owned()),
        Just("\"2026-01-31T08:00:00.000001Z\"".to_owned()),
        Just(format!("\"{}\"", "ab".repeat(600))),
        Just(format!("{}*", "ab".repeat(400))),
        Just("*b".to_owned()),
    ]
}

fn query() -> impl Strategy<Value = String> {
    let field = prop::sample::select(&FIELDS[..]);
    let leaf = prop_oneof![
        6 => (field.clone(), query_value()).prop_map(|(field, value)| format!("{field}:{value}")),
        2 => field.prop_map(|field| format!("_exists_:{field}")),
        2 => query_value(),
        1 => Just("*".to_owned()),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        let some = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            some.clone().prop_map(|parts| format!("({})", parts.join(" AND "))),
            some.prop_map(|parts| format!("({})", parts.join(" OR "))),
            inner.prop_map(|part| format!("NOT {part}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// The index and the plain evaluator answer alike.
    #[test]
    fn the_index_finds_what_the_evaluator_finds(
        events in prop::collection::vec(json_event(), 1..24),
        queries in prop::collection::vec(query(), 60),
    ) {
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let (_dir, index) = index_of(&events);
        let records: Vec<_> = (0..).zip(&events).map(|(n, json)| record(n, n as i64, json)).collect();
        // Some combinations are refused: a pattern on a time.
        let queries: Vec<Predicate> = queries.iter().filter_map(|query| parse(query).ok()).collect();
        prop_assert!(queries.len() > 10);
        for query in queries {
            let mut expect: Vec<_> = records
                .iter()
                .filter(|record| query.matches(&EventView::new(&record.envelope)))
                .map(|record| record.envelope.id)
                .collect();
            expect.reverse();
            let found = index.searcher().search(&request_for(query.clone())).unwrap();
            prop_assert_eq!(ids(&found), expect, "{}", query);
        }
    }
}
