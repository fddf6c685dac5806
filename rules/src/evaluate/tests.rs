//! The compiled engine against the naive one, on generated rules and events.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;
use crate::compile::Traffic;
use crate::{Lists, load};

/// Loads rules written as JSON, which is YAML too.
fn rule_set(rules: &[Value]) -> Arc<RuleSet> {
    let documents: Vec<String> = rules.iter().map(|rule| format!("---\n{rule}\n")).collect();
    let loaded = load(&[("generated".to_owned(), documents.concat())], &Lists::shipped());
    assert_eq!(loaded.errors, [], "{rules:#?}");
    Arc::new(RuleSet::compile(loaded.rules))
}

fn naive(set: &RuleSet, event: &[u8]) -> Vec<usize> {
    let Some(event) = naive::Event::read(event) else { return Vec::new() };
    let rules = set.rules().iter().enumerate();
    rules.filter(|(_, rule)| event.matches(rule)).map(|(index, _)| index).collect()
}

const KEYS: [&str; 8] = ["a", "b", "c", "a.b", "b.c", "user", "username", "x/y.z"];
const TEXTS: [&str; 17] = [
    "",
    "x",
    "X",
    "admin",
    "Administrator",
    "403",
    "1.5",
    "true",
    "10.1.2.3",
    "10.1",
    "é",
    "É*",
    "a\\b",
    "a\nb",
    "2026-01-31T08:15:00Z",
    "a /x",
    "xYQBiAA==",
];
const FIELDS: [&str; 18] = [
    "a",
    "b",
    "a.b",
    "a.b.c",
    "b.c",
    "c",
    "user.username",
    "user",
    "a.x/y.z",
    "requestObject.a",
    "requestObject.b.c",
    "responseObject.a",
    "user.name",
    "source.ip",
    "event.outcome",
    "event.action",
    "verb",
    "responseStatus.code",
];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => select(&TEXTS[..]).prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => select(&[403i64, 0, -1, 17, (1 << 53) + 1][..]).prop_map(Value::from),
        1 => select(&[1u64 << 63, u64::MAX][..]).prop_map(Value::from),
        1 => select(&[1.5f64, 403.0, -0.5][..]).prop_map(Value::from),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((select(&KEYS[..]), inner), 0..4).prop_map(|members| members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

/// An event that is partly shaped as an audit event.
fn event() -> impl Strategy<Value = Value> {
    let text = |choices: &'static [&'static str]| proptest::option::of(select(choices));
    let audit = (
        text(&["Metadata", "Request", "RequestResponse"]),
        text(&["RequestReceived", "ResponseStarted", "ResponseComplete"]),
        text(&["get", "LIST", "create"]),
        text(&["admin", "x"]),
        text(&["Administrator"]),
        proptest::option::of(proptest::collection::vec(select(&["10.1.2.3", "::1", "nowhere"][..]), 0..3)),
        proptest::option::of(select(&[200, 403][..])),
        text(&["allow", "forbid"]),
    );
    let trees = proptest::collection::vec(
        (select(&["a", "b", "a.b", "b.c", "requestObject", "responseObject"][..]), tree()),
        0..5,
    );
    (audit, trees, proptest::bool::weighted(0.1)).prop_map(|(audit, trees, truncated)| {
        let (level, stage, verb, user, other, ips, code, decision) = audit;
        let mut event = json!({"annotations": {}});
        let mut set = |path: &[&str], value: Option<Value>| {
            if let Some(value) = value {
                let end = path.iter().fold(&mut event, |at, key| &mut at[*key]);
                *end = value;
            }
        };
        set(&["level"], level.map(Value::from));
        set(&["stage"], stage.map(Value::from));
        set(&["verb"], verb.map(Value::from));
        set(&["user", "username"], user.map(Value::from));
        set(&["impersonatedUser", "username"], other.map(Value::from));
        set(&["sourceIPs"], ips.map(Value::from));
        set(&["responseStatus", "code"], code.map(Value::from));
        set(&["annotations", "authorization.k8s.io/decision"], decision.map(Value::from));
        set(&["annotations", "audit.k8s.io/truncated"], truncated.then(|| "true".into()));
        for (key, tree) in trees {
            set(&[key], Some(tree));
        }
        event
    })
}

/// A field with modifiers, and what it is compared to.
fn item() -> impl Strategy<Value = (String, Value)> {
    let pattern = select(
        &["x", "*", "?", "a*", "*min", "*dmi*", "a?m*n", "*a*i*", "4*3", "ADMIN", "É\\*", "a\\b", "", "tru?"]
            [..],
    );
    let text_operator =
        select(&["", "|contains", "|startswith", "|endswith", "|cased", "|contains|cased"][..]);
    let texts = (text_operator, proptest::collection::vec(pattern, 1..4), any::<bool>()).prop_map(
        |(operator, values, all)| (format!("{operator}{}", if all { "|all" } else { "" }), json!(values)),
    );
    let other = select(vec![
        ("|re", json!("^adm.n")),
        ("|re|i", json!(["ADMIN", "^$"])),
        ("|re|s", json!("a.b")),
        ("|re", json!("(x|4\\d+)")),
        ("|cidr", json!(["10.0.0.0/8", "::/0"])),
        ("|cidr", json!("10.1.2.3/32")),
        ("|exists", json!(true)),
        ("|exists", json!(false)),
        ("|gt", json!(10)),
        ("|gte", json!(403)),
        ("|lt", json!(1.5)),
        ("|lte", json!([1.5, -1])),
        ("|neq", json!(["x", "admin"])),
        ("|contains|neq", json!("dmi")),
        ("|fieldref", json!("b")),
        ("|fieldref|neq", json!(["a", "user.name"])),
        ("|startswith|fieldref", json!("requestObject.a")),
        ("|fieldref|contains|cased", json!("c")),
        ("|endswith|fieldref|all", json!(["b", "user.username"])),
        ("|hour", json!([8, 23])),
        ("|week|neq", json!(5)),
        ("|year", json!(2026)),
        ("|windash|contains", json!("-x")),
        ("|wide|base64offset|contains", json!("ab")),
        ("|all|neq", json!(["x", "admin"])),
        ("", json!(null)),
        ("", json!([null, "", 403])),
        ("", json!(true)),
        ("", json!(403)),
        ("", json!("failure")),
        ("", json!("list")),
    ])
    .prop_map(|(modifiers, value)| (modifiers.to_owned(), value));
    (select(&FIELDS[..]), prop_oneof![texts, other])
        .prop_map(|(field, (modifiers, value))| (format!("{field}{modifiers}"), value))
}

/// A field, or conditions on members of an array.
fn item_or_group() -> impl Strategy<Value = (String, Value)> {
    let member = (select(&["", ".", "a", "b", "c", "b.c", "user.name"][..]), item());
    let member = member.prop_map(|(name, (key, value))| match key.split_once('|') {
        Some((_, modifiers)) if !name.is_empty() => (format!("{name}|{modifiers}"), value),
        _ => (key, value),
    });
    let member = member.prop_recursive(2, 6, 2, |inner| {
        let group = proptest::collection::vec(inner, 1..3);
        let selector = select(&["any", "all", "all_or_empty", "none", "0", "-1"][..]);
        (select(&["a", "b", "b.c"][..]), selector, group).prop_map(|(field, selector, group)| {
            (format!("{field}[{selector}]"), group.into_iter().collect::<Value>())
        })
    });
    let selector = select(&["any", "all", "all_or_empty", "none", "0", "1", "-1"][..]);
    let group = (select(&FIELDS[..]), selector, proptest::collection::vec(member, 1..3));
    let group = group.prop_map(|(field, selector, group)| {
        (format!("{field}[{selector}]"), group.into_iter().collect::<Value>())
    });
    prop_oneof![3 => item(), 2 => group]
}

/// A comparison of the field `a`.
fn pattern_item() -> impl Strategy<Value = (String, Value)> {
    let operator = select(&["", "|contains", "|startswith", "|endswith"][..]);
    let text = (operator, "[abkKé]{0,3}|[ab]{0,7}", any::<bool>()).prop_map(|(operator, text, cased)| {
        (format!("a{operator}{}", if cased { "|cased" } else { "" }), json!(text))
    });
    let network = (select(&["10", "192"][..]), 0..4, select(&[8, 14, 15, 16, 24, 32][..])).prop_map(
        |(first, second, length)| ("a|cidr".to_owned(), json!(format!("{first}.{second}.0.1/{length}"))),
    );
    let number = (select(&["lt", "lte", "gt", "gte"][..]), -9..10)
        .prop_map(|(order, number)| (format!("a|{order}"), json!(number)));
    prop_oneof![4 => text, 1 => network, 1 => number]
}

fn selection() -> impl Strategy<Value = Value> {
    let map = proptest::collection::vec(item_or_group(), 1..3)
        .prop_map(|items| items.into_iter().collect::<Value>())
        .boxed();
    let keyword = select(vec![json!("admin"), json!(403), json!("a?m"), json!("é"), json!("10.1")]).boxed();
    prop_oneof![
        6 => map.clone(),
        2 => proptest::collection::vec(map, 1..3).prop_map(Value::from),
        1 => proptest::collection::vec(keyword.clone(), 1..3).prop_map(Value::from),
        1 => proptest::collection::vec(keyword, 1..3).prop_map(|words| json!({"|all": words})),
        1 => Just(json!({"|re": "^adm"})),
    ]
}

fn rule() -> impl Strategy<Value = Value> {
    let condition = select(
        &[
            "s0",
            "not s0",
            "s0 and s1",
            "s0 or s1",
            "s0 and not s1",
            "not (s0 or s1) and s2",
            "1 of s*",
            "all of them",
            "not 1 of s*",
            "s0 and (s1 or not s2)",
            "not (s0 and s1 and not s2)",
        ][..],
    );
    (condition, proptest::array::uniform3(selection())).prop_map(|(condition, [s0, s1, s2])| {
        json!({"title": "t", "detection": {"s0": s0, "s1": s1, "s2": s2, "condition": condition}})
    })
}

fn rules() -> impl Strategy<Value = Vec<Value>> {
    proptest::collection::vec(rule(), 1..12).prop_map(|mut rules| {
        for (number, rule) in rules.iter_mut().enumerate() {
            rule["id"] = format!("r{number}").into();
        }
        rules
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However rules are found: by guesses, or by any counts that traffic could leave.
    #[test]
    fn compiled_and_naive_agree(
        rules in rules(),
        events in proptest::collection::vec(event(), 1..8),
        counts in proptest::collection::vec(0..1_000u32, 1..40),
    ) {
        let set = rule_set(&rules);
        let counts = counts.into_iter().cycle().take(set.atoms.len()).collect();
        let planned = Arc::new(set.replan(&Traffic::of(1_000, counts)));
        let mut evaluators = [Evaluator::new(set.clone()), Evaluator::new(planned)];
        let mut matches = Vec::new();
        // What is remembered of the first reading decides the second.
        for event in events.iter().chain(&events) {
            let bytes = if event["a"].is_null() { event.to_string() } else { format!("{event:#}") };
            for evaluator in &mut evaluators {
                evaluator.matches(bytes.as_bytes(), &mut matches);
                prop_assert_eq!(&matches, &naive(&set, bytes.as_bytes()), "{}", bytes);
            }
        }
        let [guessed, counted] = evaluators.map(|evaluator| evaluator.not_evaluable());
        prop_assert_eq!(guessed, counted);
    }

    /// So many patterns on one field that they are found by automata and look-ups.
    #[test]
    fn many_patterns_on_one_field_agree(
        items in proptest::collection::vec(pattern_item(), 5..60),
        values in proptest::collection::vec("[abkK\u{212a}é]{0,6}|[abAB]{0,12}|(10|192)\\.[0-3]\\.0\\.[0-9]|-?[0-9]", 1..8),
        negate in any::<bool>(),
    ) {
        let rules: Vec<Value> = items.into_iter().enumerate().map(|(number, (key, value))| {
            let condition = if negate && number % 2 == 0 { "b and not s" } else { "s" };
            let detection = json!({"s": {key: value}, "b": {"b": 1}, "condition": condition});
            json!({"title": "t", "id": format!("r{number}"), "detection": detection})
        }).collect();
        let set = rule_set(&rules);
        let mut evaluator = Evaluator::new(set.clone());
        let mut matches = Vec::new();
        for value in values {
            let event = json!({"a": value, "b": 1}).to_string();
            evaluator.matches(event.as_bytes(), &mut matches);
            prop_assert_eq!(&matches, &naive(&set, event.as_bytes()), "{}", event);
        }
    }

    #[test]
    fn broken_events_match_nothing_and_do_no_harm(
        rules in rules(), event in event(), cut in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let set = rule_set(&rules);
        let mut evaluator = Evaluator::new(set.clone());
        let mut matches = Vec::new();
        let whole = event.to_string().into_bytes();
        let at = cut.index(whole.len());
        prop_assert!(!evaluator.matches(&whole[..at], &mut matches));
        prop_assert!(matches.is_empty());
        let mut changed = whole.clone();
        changed[at] = byte;
        evaluator.matches(&changed, &mut matches);
        if serde_json::from_slice::<Value>(&changed).is_ok_and(|value| value.is_object()) {
            prop_assert_eq!(&matches, &naive(&set, &changed));
        }
        prop_assert!(evaluator.matches(&whole, &mut matches));
        prop_assert_eq!(&matches, &naive(&set, &whole));
    }
}

#[test]
fn the_library_agrees_on_recorded_events() {
    let loaded = load(&crate::library::files(), &Lists::shipped());
    let set = Arc::new(RuleSet::compile(loaded.rules));
    let mut evaluator = Evaluator::new(set.clone());
    let mut matches = Vec::new();
    let bytes = recorded();
    for event in lines(&bytes).step_by(3) {
        assert!(evaluator.matches(event, &mut matches));
        assert_eq!(matches, naive(&set, event), "{}", String::from_utf8_lossy(event));
    }
}

/// The recorded attack.
fn recorded() -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recorded");
    std::fs::read(folder.join("attack.jsonl")).unwrap()
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|event| !event.is_empty())
}

#[test]
fn what_was_learned_makes_fewer_candidates_and_no_other_matches() {
    let set = Arc::new(RuleSet::compile(load(&crate::library::files(), &Lists::shipped()).rules));
    let mut evaluator = Evaluator::new(set.clone());
    let bytes = recorded();
    let pass = |evaluator: &mut Evaluator| {
        let (mut all, mut matches, before) = (Vec::new(), Vec::new(), evaluator.candidates());
        for event in lines(&bytes) {
            evaluator.matches(event, &mut matches);
            all.push(matches.clone());
        }
        (all, evaluator.candidates() - before)
    };
    let (guessed, guessed_candidates) = pass(&mut evaluator);
    let traffic = (0..20).find_map(|_| {
        pass(&mut evaluator);
        evaluator.learned()
    });
    let traffic = traffic.unwrap();
    assert!(evaluator.learned().is_none());
    let starved = evaluator.not_evaluable();
    assert!(starved.iter().any(|count| *count > 0));
    evaluator.follow(Arc::new(set.replan(&traffic)));
    assert_eq!(evaluator.not_evaluable(), starved);
    let (learned, learned_candidates) = pass(&mut evaluator);
    assert_eq!(learned, guessed);
    assert!(learned_candidates < guessed_candidates, "{learned_candidates} of {guessed_candidates}");
}

/// What belongs to them lies close together then.
#[test]
fn tests_that_hold_most_often_come_first() {
    let detection = json!({"s": {"a": ["one", "two"], "b": "three", "c|contains": "four"}, "condition": "s"});
    let set = rule_set(&[json!({"title": "t", "detection": detection})]);
    let tests = |set: &RuleSet| set.atoms.iter().map(|atom| atom.test.clone()).collect::<Vec<_>>();
    let (first, counts) = (tests(&set), (0..).map(|atom| atom * 7 % 5).take(set.atoms.len()).collect());
    let planned = set.replan(&Traffic::of(100, counts));
    let expected: Vec<_> = [2, 1, 3, 0].map(|atom| first[atom].clone()).into();
    assert_eq!(tests(&planned), expected);
    // what was counted with that order is not taken for what the first one counted
    let again = planned.replan(&Traffic::of(100, vec![1, 2, 3, 4]));
    assert_eq!(tests(&again), expected.into_iter().rev().collect::<Vec<_>>());
}

/// A look at every value of every event costs more than all other rules together.
#[test]
fn keywords_are_looked_for_in_events_that_may_match() {
    let keywords = json!(["admin", "b*d"]);
    let check = |detection: Value, on_demand: bool| {
        let set = rule_set(&[json!({"title": "t", "detection": detection})]);
        assert_eq!(set.anywhere.unwrap().on_demand, on_demand, "{detection}");
        let mut evaluator = Evaluator::new(set.clone());
        for (c, deep, matched) in [("delete", "admin", true), ("delete", "x", false), ("get", "admin", false)]
        {
            let event = json!({"c": c, "a": [{"b": {"c": [1, null, deep]}}], "d": true}).to_string();
            let mut matches = Vec::new();
            assert!(evaluator.matches(event.as_bytes(), &mut matches));
            assert_eq!(
                (matches.len() == 1, naive(&set, event.as_bytes()) == matches),
                (matched, true),
                "{event}"
            );
        }
    };
    check(json!({"c": {"c": "delete"}, "k": keywords, "condition": "c and k"}), true);
    check(json!({"c": {"c": "delete"}, "k": {"|re": "^ad.in$"}, "condition": "c and k"}), true);
    check(json!({"c": {"c": "get"}, "k": keywords, "condition": "k and not c"}), false);
}

#[test]
fn with_many_rules_the_events_they_could_not_be_decided_on_are_estimated() {
    let rule = |number: usize| {
        let detection = json!({ "s": { "requestObject.a": 1, "user.username": [format!("u{number}"), "everybody"] },
            "condition": "s" });
        json!({ "title": "t", "id": format!("r{number}"), "detection": detection })
    };
    let mut evaluator = Evaluator::new(rule_set(&(0..1_000).map(rule).collect::<Vec<_>>()));
    let event =
        json!({ "level": "Metadata", "stage": "ResponseComplete", "user": { "username": "everybody" } });
    let (event, mut matches) = (event.to_string(), Vec::new());
    let events = 8_000u64;
    (0..events).for_each(|_| assert!(evaluator.matches(event.as_bytes(), &mut matches)));
    for count in evaluator.not_evaluable() {
        assert!(count.abs_diff(events) < events / 10, "{count} of {events}");
    }
}
