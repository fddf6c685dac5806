//! What rules mean, case by case, and what is refused.

mod arrays;
mod documents;
mod modifiers;
mod numbers;
mod pipelines;
mod public;

use std::sync::Arc;

use crate::{Evaluator, Lists, LoadError, Loaded, RuleSet, load, load_over};

fn read(text: impl Into<String>) -> Loaded {
    load(&[("rule.yml".to_owned(), text.into())], &Lists::shipped())
}

fn errors(text: &str) -> Vec<LoadError> {
    read(text).errors
}

/// Whether a rule with this detection matches an event.
fn matches(detection: &str, event: &str) -> bool {
    let indented = detection.replace('\n', "\n  ");
    let loaded = read(format!("title: t\ndetection:\n  {indented}\n"));
    assert_eq!(loaded.errors, [], "{detection}");
    let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(loaded.rules)));
    let mut found = Vec::new();
    assert!(evaluator.matches(event.as_bytes(), &mut found), "{event}");
    !found.is_empty()
}

/// Checks items (`field: value`) against events that must and must not match.
fn check(item: &str, yes: &[&str], no: &[&str]) {
    let detection = format!("s: {{{item}}}\ncondition: s");
    for (events, expect) in [(yes, true), (no, false)] {
        for event in events {
            assert_eq!(matches(&detection, event), expect, "{item} on {event}");
        }
    }
}

#[test]
fn values_compare_by_text_without_regard_to_case_and_type() {
    check(
        "a: Foo",
        &[r#"{"a":"fOO"}"#],
        &[r#"{"a":"foo "}"#, r#"{"a":{"b":"foo"}}"#, r#"{"A":"foo"}"#, "{}"],
    );
    check("a: É", &[r#"{"a":"é"}"#, r#"{"a":"\u00c9"}"#], &[r#"{"a":"e"}"#]);
    check("a: k", &["{\"a\":\"\u{212a}\"}"], &[r#"{"a":"kk"}"#]);
    check("a|cased: Foo", &[r#"{"a":"Foo"}"#], &[r#"{"a":"foo"}"#]);
    check("a: 403", &[r#"{"a":403}"#, r#"{"a":"403"}"#, r#"{"a":403.0}"#], &[r#"{"a":4030}"#]);
    check("a: '403'", &[r#"{"a":403}"#], &[r#"{"a":40}"#]);
    check("a: true", &[r#"{"a":true}"#, r#"{"a":"True"}"#], &[r#"{"a":false}"#, r#"{"a":1}"#]);
    check("a: 4*3", &[r#"{"a":403}"#, r#"{"a":"4xx3"}"#], &[r#"{"a":404}"#]);
}

#[test]
fn null_empty_missing_and_star_differ() {
    check(
        "a: null",
        &["{}", r#"{"a":null}"#, r#"{"a":[null,1]}"#],
        &[r#"{"a":""}"#, r#"{"a":0}"#, r#"{"a":{}}"#, r#"{"a":[]}"#],
    );
    check("a: ''", &[r#"{"a":""}"#], &["{}", r#"{"a":null}"#, r#"{"a":" "}"#]);
    check(
        "a: '*'",
        &[r#"{"a":""}"#, r#"{"a":{}}"#, r#"{"a":0}"#, r#"{"a":[{}]}"#],
        &["{}", r#"{"a":null}"#, r#"{"a":[]}"#],
    );
    check("a|exists: true", &[r#"{"a":null}"#, r#"{"a":[]}"#, r#"{"a":{}}"#], &["{}", r#"{"b":1}"#]);
    check("a|exists: false", &["{}"], &[r#"{"a":null}"#]);
    check("a: [null, x]", &["{}", r#"{"a":"x"}"#], &[r#"{"a":"y"}"#]);
    check("a|exists: true, a: null", &[r#"{"a":null}"#], &["{}", r#"{"a":1}"#]);
}

#[test]
fn neq_holds_if_no_value_equals_any_given_one() {
    check("a|neq: x", &["{}", r#"{"a":"y"}"#, r#"{"a":null}"#], &[r#"{"a":"X"}"#, r#"{"a":["y","x"]}"#]);
    check("a|neq: [x, y]", &[r#"{"a":"z"}"#], &[r#"{"a":"x"}"#, r#"{"a":"y"}"#]);
    check("a|contains|neq: x", &[r#"{"a":"y"}"#, "{}"], &[r#"{"a":"axb"}"#]);
}

#[test]
fn operators() {
    check("a|contains: B*d", &[r#"{"a":"abcde"}"#], &[r#"{"a":"bc"}"#]);
    check("a|startswith: [x, ab]", &[r#"{"a":"ABC"}"#], &[r#"{"a":"cab"}"#]);
    check("a|endswith: bc", &[r#"{"a":"abc"}"#], &[r#"{"a":"bca"}"#]);
    check("a|contains|all: [x, y]", &[r#"{"a":"yx"}"#, r#"{"a":["x","y"]}"#], &[r#"{"a":"x"}"#]);
    check("a|re: '^ab+$'", &[r#"{"a":"abb"}"#], &[r#"{"a":"ABB"}"#, r#"{"a":"xabb"}"#]);
    check("a|re|i: 'AB'", &[r#"{"a":"xab"}"#], &[r#"{"a":"a"}"#]);
    check("a|re|m: '^b'", &[r#"{"a":"a\nb"}"#], &[r#"{"a":"ab"}"#]);
    check("a|re|s: 'a.b'", &[r#"{"a":"a\nb"}"#], &[r#"{"a":"ab"}"#]);
    check("a|re: '^4'", &[r#"{"a":403}"#], &[r#"{"a":304}"#]);
    check(
        "a|cidr: 10.0.0.0/8",
        &[r#"{"a":"10.9.9.9"}"#, r#"{"a":["x","::ffff:10.1.1.1"]}"#],
        &[r#"{"a":"11.0.0.1"}"#, r#"{"a":"10.0.0.0/8"}"#],
    );
    check(
        "a|cidr: ['fd00::/8', 192.0.2.1]",
        &[r#"{"a":"fd12::1"}"#, r#"{"a":"192.0.2.1"}"#],
        &[r#"{"a":"fe80::1"}"#],
    );
    check(
        "a|gt: 1, a|lte: 3",
        &[r#"{"a":3}"#, r#"{"a":"2"}"#, r#"{"a":1.5}"#],
        &[r#"{"a":1}"#, r#"{"a":3.1}"#, r#"{"a":"x"}"#, r#"{"a":true}"#],
    );
    check("a|gte: 400", &[r#"{"a":400}"#], &[r#"{"a":399}"#, "{}"]);
    check("a|lt: 0.5", &[r#"{"a":-1}"#], &[r#"{"a":0.5}"#]);
}

#[test]
fn paths_try_every_split_and_any_member_of_arrays() {
    check(
        "annotations.authorization.k8s.io/decision: forbid",
        &[
            r#"{"annotations":{"authorization.k8s.io/decision":"forbid"}}"#,
            r#"{"annotations.authorization.k8s":{"io/decision":"forbid"}}"#,
        ],
        &[r#"{"annotations":{"authorization":"forbid"}}"#, r#"{"annotations":{"io/decision":"forbid"}}"#],
    );
    check(
        "c.n: x",
        &[
            r#"{"c":[{"n":"y"},{"n":"x"}]}"#,
            r#"{"c":{"n":["y",["x"]]}}"#,
            r#"[0]"#.replace("[0]", r#"{"c":[[{"n":"x"}]]}"#).as_str(),
        ],
        &[r#"{"c":[{"m":"x"}]}"#, r#"{"c":"x"}"#],
    );
    // Conditions on one array are not bound to one member.
    check("c.n: x, c.m: y", &[r#"{"c":[{"n":"x"},{"m":"y"}]}"#], &[r#"{"c":[{"n":"x"}]}"#]);
    // A repeated key hides nothing.
    check("a: x", &[r#"{"a":"x","a":"y"}"#, r#"{"a":"y","a":"x"}"#], &[r#"{"a":"y","a":"z"}"#]);
}

#[test]
fn keywords_are_found_in_every_value() {
    let check = |selection: &str, yes: &[&str], no: &[&str]| {
        let detection = format!("s: {selection}\ncondition: s");
        for (events, expect) in [(yes, true), (no, false)] {
            for event in events {
                assert_eq!(matches(&detection, event), expect, "{selection} on {event}");
            }
        }
    };
    check("[Foo, bar]", &[r#"{"a":[{"b":"a foo b"}]}"#, r#"{"x":"BAR"}"#], &[r#"{"foo":"x"}"#, "{}"]);
    check("[403]", &[r#"{"a":{"code":403}}"#, r#"{"a":"error 403"}"#], &[r#"{"a":404}"#]);
    check("{'|all': [foo, bar]}", &[r#"{"a":"foo","b":["bar"]}"#], &[r#"{"a":"foo"}"#]);
    check("{'|re': '^fo+$'}", &[r#"{"a":{"b":"foo"}}"#], &[r#"{"a":"xfoo"}"#]);
    check("plain", &[r#"{"a":"a plain word"}"#], &[r#"{"a":1}"#]);
    check("[foo, {a: x}]", &[r#"{"a":"x"}"#, r#"{"b":"foo"}"#], &[r#"{"a":"y"}"#]);
}

#[test]
fn facets_stand_beside_the_paths_of_the_event() {
    let event = r#"{"verb":"list","user":{"username":"alice"},"impersonatedUser":{"username":"root"},
        "sourceIPs":["6.6.6.6","10.0.0.7"],"objectRef":{"resource":"secrets","namespace":"shop","name":"web"},
        "responseStatus":{"code":403},"requestURI":"/x"}"#;
    for item in [
        "user.name: root",
        "user.username: alice",
        "event.action: list",
        "event.outcome: failure",
        "orchestrator.namespace: shop",
        "orchestrator.resource.type: secrets",
        "orchestrator.resource.name: web",
        "source.ip|cidr: 10.0.0.0/8",
        "user.name|re: '^ro'",
    ] {
        check(item, &[event], &["{}"]);
    }
    check("user.name: alice", &[r#"{"user":{"name":"alice"}}"#], &[event]);
    check("source.ip: 6.6.6.6", &[], &[event]);
    check("event.outcome: unknown", &["{}"], &[event]);
}

#[test]
fn a_missing_body_is_not_an_empty_one() {
    let detection = "s: {verb: create}\nf: {requestObject.a: x}\ncondition: s and not f";
    for (event, expect) in [
        (r#"{"verb":"create","level":"Metadata"}"#, false),
        (r#"{"verb":"create","level":"Metadata","requestObject":null}"#, false),
        (r#"{"verb":"create","level":"Request","stage":"RequestReceived"}"#, false),
        (r#"{"verb":"create","level":"Request","annotations":{"audit.k8s.io/truncated":"true"}}"#, false),
        (r#"{"verb":"create","level":"Request"}"#, true),
        (r#"{"verb":"create","level":"Request","requestObject":{"a":"y"}}"#, true),
        (r#"{"verb":"create","level":"Request","requestObject":{"a":"x"}}"#, false),
        (r#"{"verb":"create"}"#, true),
    ] {
        assert_eq!(matches(detection, event), expect, "{event}");
    }
}

#[test]
fn rules_that_starve_are_counted() {
    let rule = |id: &str, detection: &str| format!("---\ntitle: t\nid: {id}\ndetection: {detection}\n");
    let text = [
        rule("request", "{s: {verb: create, requestObject.a: x}, condition: s}"),
        rule("negative", "{s: {verb: create}, f: {requestObject.a: x}, condition: s and not f}"),
        rule("response", "{s: {verb: create, responseObject.a: x}, condition: s}"),
        rule("either", "{s: {verb: create, requestObject.a: x}, o: {user.username: me}, condition: s or o}"),
        rule("body only", "{s: {requestObject.a: x}, condition: s}"),
        rule("none", "{s: {verb: create}, condition: s}"),
    ];
    let loaded = read(text.concat());
    assert_eq!(loaded.errors, []);
    let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(loaded.rules)));
    let mut found = Vec::new();
    for event in [
        r#"{"verb":"create","level":"Metadata"}"#,
        r#"{"verb":"create","level":"Metadata","user":{"username":"me"}}"#,
        r#"{"verb":"get","level":"Metadata"}"#,
        r#"{"verb":"create","level":"Request","requestObject":{"a":"y"}}"#,
        r#"{"verb":"create","level":"Request","stage":"RequestReceived"}"#,
        r#"{"verb":"create","level":"RequestResponse","requestObject":{"a":"y"},"responseObject":{}}"#,
    ] {
        assert!(evaluator.matches(event.as_bytes(), &mut found));
    }
    assert_eq!(evaluator.not_evaluable(), [2, 2, 3, 1, 3, 0]);
}

#[test]
fn conditions() {
    let truth = |condition: &str, events: [bool; 4]| {
        let detection = format!(
            "sel_a: {{a: x}}\nsel_b: {{b: x}}\nother: {{c: x}}\n_hidden: {{d: x}}\ncondition: {condition}"
        );
        let cases = [r#"{"a":"x"}"#, r#"{"a":"x","b":"x"}"#, r#"{"c":"x"}"#, r#"{"d":"x"}"#];
        for (event, expect) in cases.into_iter().zip(events) {
            assert_eq!(matches(&detection, event), expect, "{condition} on {event}");
        }
    };
    truth("sel_a", [true, true, false, false]);
    truth("sel_a and not sel_b", [true, false, false, false]);
    truth("not sel_a and not sel_b", [false, false, true, true]);
    truth("1 of sel_*", [true, true, false, false]);
    truth("any of sel_*", [true, true, false, false]);
    truth("all of sel_*", [false, true, false, false]);
    truth("1 of them", [true, true, true, false]);
    truth("not 1 of them", [false, false, false, true]);
    truth("sel_b or sel_a and other", [false, true, false, false]);
    truth("(sel_b or sel_a) and not other", [true, true, false, false]);
    truth("not (sel_a or other)", [false, false, false, true]);
    truth("SEL_A or sel_a".replace("SEL_A", "_hidden").as_str(), [true, true, false, true]);
    truth("sel_a AND NOT sel_b OR other", [true, false, true, false]);
    truth("[sel_b, other]", [false, true, true, false]);
    truth("1 of s*_b", [false, true, false, false]);
}

#[test]
fn a_list_of_maps_is_or() {
    let detection = "s:\n  - {a: x, b: y}\n  - {c: z}\ncondition: s";
    for (event, expect) in [(r#"{"a":"x","b":"y"}"#, true), (r#"{"c":"z"}"#, true), (r#"{"a":"x"}"#, false)] {
        assert_eq!(matches(detection, event), expect, "{event}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let rule = |detection: &str| format!("title: t\ndetection:\n{detection}\n");
    let document =
        |attribute: &str| format!("title: t\n{attribute}\ndetection: {{s: {{a: 1}}, condition: s}}\n");
    for (text, line, reason) in [
        (rule("  s: {a: 1}"), 3, "no condition"),
        (rule("  s: {a: 1}\n  condition: x"), 4, "no such selection"),
        (rule("  s: {a: 1}\n  condition: s and"), 4, "ends too early"),
        (rule("  s: {a: 1}\n  condition: (s"), 4, "not closed"),
        (rule("  s: {a: 1}\n  condition: s s"), 4, "goes on with \"s\""),
        (rule("  s: {a: 1}\n  condition: s)"), 4, "goes on with \")\""),
        (rule("  s: {a: 1}\n  condition: 2 of s*"), 4, "only 1, any and all"),
        (rule("  s: {a: 1}\n  condition: 1 of x*"), 4, "names no selection"),
        (rule("  _s: {a: 1}\n  condition: 1 of them"), 4, "names no selection"),
        (rule("  s: {a: 1}\n  condition: s | count() > 5"), 4, "aggregations after a pipe"),
        (rule("  s: {a: 1}\n  condition: {a: b}"), 4, "must be text"),
        (rule("  s: {a: 1}\n  timeframe: 5m\n  condition: s"), 4, "timeframe"),
        (rule(&format!("  s: {{a: 1}}\n  condition: {}s", "not ".repeat(100))), 4, "nested deeper"),
        (rule("  s:\n    a: 1\n    b|base64: x*\n  condition: s"), 5, "wildcards cannot be encoded"),
        (rule("  s:\n    b|hour: 24\n  condition: s"), 4, "whole number from 0 to 23"),
        (rule("  s:\n    b|fieldref: a..b\n  condition: s"), 4, "empty segment"),
        (rule("  s:\n    b|foo: x\n  condition: s"), 4, "modifier \"foo\" is unknown"),
        (rule("  s:\n    b:\n      - x\n      - {c: d}\n  condition: s"), 6, "a value must be"),
        (rule("  s:\n    b|re: '('\n  condition: s"), 4, "unclosed group"),
        (rule("  s:\n    b|re: '(?!x)y'\n  condition: s"), 4, "look-around"),
        (rule("  s:\n    b|cidr: 10.0.0\n  condition: s"), 4, "not a block of addresses"),
        (rule("  s:\n    b|lt: x\n  condition: s"), 4, "needs a number"),
        (rule("  s:\n    b|contains: null\n  condition: s"), 4, "cannot compare to null"),
        (rule("  s:\n    b|exists: 3\n  condition: s"), 4, "takes true or false"),
        (rule("  s:\n    b: []\n  condition: s"), 4, "empty list"),
        (rule("  s: {}\n  condition: s"), 3, "empty mapping"),
        (rule("  s: []\n  condition: s"), 3, "empty list"),
        (rule("  s: [[x]]\n  condition: s"), 3, "list within a list"),
        (rule("  s: null\n  condition: s"), 3, "cannot be null"),
        (rule("  s:\n    a[some]: {b: c}\n  condition: s"), 4, "unknown selector [some]"),
        (rule("  s:\n    a[0: {b: c}\n  condition: s"), 4, "not closed"),
        (rule("  s:\n    a[0][1]: x\n  condition: s"), 4, "in a row"),
        (rule("  s:\n    a[any]: {b|re: '('}\n  condition: s"), 4, "unclosed group"),
        (rule(&format!("  s:\n    {}: x\n  condition: s", ["a[any]"; 9].join("."))), 4, "more than 8 deep"),
        ("detection: {s: {a: 1}, condition: s}".to_owned(), 1, "no title"),
        ("title: t\nlevel: urgent\ndetection: {s: {a: 1}, condition: s}".to_owned(), 2, "unknown level"),
        ("title: t\ndetection: [x]".to_owned(), 2, "must be a mapping"),
        ("title: t\n".to_owned(), 1, "no detection"),
        ("title: t\nwatchbell: {groupby: x}\ndetection: {s: {a: 1}, condition: s}".to_owned(), 2, "groupby"),
        (
            "title: t\nwatchbell:\n  next-steps:\n    - a: b\ndetection: {s: {a: 1}, condition: s}"
                .to_owned(),
            4,
            "quote it",
        ),
        (document("logsource: []"), 2, "logsource must be a mapping, not a list"),
        (document("logsource: 5"), 2, "logsource must be a mapping, not a number"),
        (document("logsource: {product: [linux]}"), 2, "product of logsource must be text, not a list"),
        (document("logsource: {service: 5}"), 2, "service of logsource must be text, not a number"),
        (document("tags: 5"), 2, "a tag must be text, not a number"),
        (document("tags: {a: b}"), 2, "a tag must be text, not a mapping"),
        (document("tags:\n  - attack.t1552\n  - a: b"), 4, "a tag must be text, not a mapping"),
        (document("sigma-version: 9"), 2, "sigma-version \"9\" is not known; known: 1 to 3"),
        (document("sigma-version: abc"), 2, "sigma-version \"abc\" is not known"),
        (document("sigma-version: [2]"), 2, "sigma-version \"a list\" is not known"),
        ("- rule: x\n  condition: y".to_owned(), 1, "output is missing"),
        ("just text".to_owned(), 1, "a mapping, not text"),
        ("".to_owned(), 0, "no rule"),
        ("a: b: c".to_owned(), 1, "not YAML"),
    ] {
        let errors = errors(&text);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].reason.contains(reason), "{text}: {}", errors[0]);
        assert_eq!(errors[0].line, line, "{text}: {}", errors[0]);
        let place = if line == 0 { "rule.yml: ".to_owned() } else { format!("rule.yml:{line}: ") };
        assert!(errors[0].to_string().starts_with(&place), "{}", errors[0]);
    }
}

#[test]
fn attributes_may_be_empty_and_name_a_version() {
    for attribute in [
        "tags:",
        "tags: []",
        "tags: attack.t1552",
        "logsource: {category: }",
        "sigma-version: 2.1.0",
        "sigma-version: 3",
    ] {
        let text = format!("title: t\n{attribute}\ndetection: {{s: {{a: 1}}, condition: s}}\n");
        assert_eq!(errors(&text), [], "{attribute}");
    }
}

#[test]
fn all_errors_are_listed_and_sound_rules_load() {
    let text = "title: a\nid: '1'\ndetection:\n  s:\n    b|foo: x\n    c|lt: y\n  condition: s or t\n---\n\
        title: b\nid: '2'\ndetection: {s: {a: 1}, condition: s}\n---\n\
        title: c\nid: '2'\ndetection: {s: {a: 1}, condition: s}\n";
    let loaded = read(text);
    let lines: Vec<usize> = loaded.errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [5, 6, 7, 13]);
    assert!(loaded.errors[3].reason.contains("already in rule.yml, line 9"), "{}", loaded.errors[3]);
    let titles: Vec<&str> = loaded.rules.iter().map(|rule| &*rule.title).collect();
    assert_eq!(titles, ["b"]);
}

#[test]
fn what_a_rule_says_about_itself_is_kept() {
    let text = "title: |\n  Two\n  words\nid: 1234\nlevel: HIGH\nstatus: test\ndescription: d\n\
        references: [https://example.com]\ntags: [attack.t1609]\nfalsepositives: none\nauthor: me\n\
        logsource: {product: kubernetes, service: audit}\ncustom: {x: 1}\n\
        detection: {s: {a: 1}, condition: s}\nwatchbell: {group-by: user.name, next-steps: [look]}\n";
    let loaded = read(text);
    assert_eq!(loaded.errors, []);
    let rule = &loaded.rules[0];
    assert_eq!((&*rule.title, &*rule.key, rule.level.name()), ("Two words", "1234", "high"));
    assert_eq!(rule.false_positives, ["none"]);
    assert_eq!(rule.group_by, ["user.name"]);
    assert_eq!(rule.next_steps, ["look"]);
    assert_eq!(rule.log_source.service.as_deref(), Some("audit"));
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let windows = read(windows);
    assert_eq!(windows.errors, []);
    assert_eq!(&*windows.rules[0].title, "Two words");
    let unnamed = read("title: t\ndetection: {s: {a: 1}, condition: s}");
    assert_eq!(&*unnamed.rules[0].key, "rule.yml: t");
    assert_eq!(unnamed.rules[0].level.name(), "medium");
}

#[test]
fn what_is_too_large_is_refused() {
    let value = "x".repeat(9000);
    let many = (0..2000).map(|n| format!("v{n}")).collect::<Vec<_>>().join(", ");
    let names = vec!["s"; 100].join(" or ");
    for (detection, reason) in [
        (format!("{{s: {{a: {value}}}, condition: s}}"), "longer than"),
        (format!("{{s: {{a: [{many}]}}, condition: {names}}}"), "more than 100000 comparisons"),
        (format!("{{s: {{a: 1}}, condition: '{}'}}", "s or ".repeat(5000)), "longer than"),
        (format!("{{s: {{{}: 1}}, condition: s}}", vec!["a"; 30].join(".")), "segments"),
        (format!("{{s: {{{}: 1}}, condition: s}}", "a".repeat(600)), "longer than"),
    ] {
        let errors = errors(&format!("title: t\ndetection: {detection}"));
        assert!(errors[0].reason.contains(reason), "{}", errors[0]);
    }
    let broken = "---\ntitle: t\n".repeat(200);
    let errors = errors(&broken);
    assert_eq!(errors.len(), 101);
    assert!(errors.iter().any(|error| error.reason.contains("more than 100 errors")));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(500))]

    /// No text makes the loader panic; what loads can be compiled and run.
    #[test]
    fn no_text_harms(
        key in "[a-c.|]{0,8}(contains|re|cidr|all|exists|lt|neq|cased)?",
        value in "[-a-c0-9*?\\\\(){}\\[\\]'\":, ]{0,20}",
        condition in "(s|t|not|and|or|1|all|of|them|\\(|\\)|\\||\\*| ){0,12}",
    ) {
        let text = format!("title: t\ndetection:\n  s:\n    {key}: {value}\n  condition: {condition}\n");
        let loaded = read(text);
        let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(loaded.rules)));
        evaluator.matches(br#"{"a":{"b":["x",1,null]},"c":"abc"}"#, &mut Vec::new());
    }
}

#[test]
fn placeholders_stand_for_lists() {
    let matches = |item: &str, event: &str| {
        let lists = "trusted: {values: [ops*, 'a?b']}\nempty: {values: []}\nnets: {values: [10.0.0.0/8]}";
        let rule = format!("title: t\ndetection: {{s: {{{item}}}, condition: s}}");
        let loaded = read(format!("{lists}\n---\n{rule}"));
        assert_eq!(loaded.errors, [], "{item}");
        let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(loaded.rules)));
        let mut found = Vec::new();
        evaluator.matches(event.as_bytes(), &mut found);
        !found.is_empty()
    };
    for (item, event, expect) in [
        ("a|expand: '%trusted%'", r#"{"a":"Ops-1"}"#, true),
        ("a|expand: '%trusted%'", r#"{"a":"axb"}"#, true),
        ("a|expand: '%trusted%'", r#"{"a":"%trusted%"}"#, false),
        ("a: '%trusted%'", r#"{"a":"%trusted%"}"#, true),
        ("a|expand: [x, 'u:%trusted%!']", r#"{"a":"u:ops1!"}"#, true),
        ("a|expand: [x, 'u:%trusted%!']", r#"{"a":"ops1"}"#, false),
        ("a|expand|all: '%trusted%'", r#"{"a":"ops"}"#, false),
        ("a|expand|all: '%trusted%'", r#"{"a":["ops","axb"]}"#, true),
        ("a|expand: '%empty%'", r#"{"a":"x"}"#, false),
        ("a|expand|all: ['%empty%', x]", r#"{"a":"x"}"#, false),
        ("a|expand|neq: '%empty%'", r#"{"a":"x"}"#, true),
        ("a|expand|cidr: '%nets%'", r#"{"a":"10.1.1.1"}"#, true),
        ("a|expand|cased: '%trusted%'", r#"{"a":"OPS"}"#, false),
        ("a|expand|contains: '%trusted%'", r#"{"a":"an ops man"}"#, true),
        ("a|expand: [1, null]", "{}", true),
    ] {
        assert_eq!(matches(item, event), expect, "{item} on {event}");
    }
    let unknown = "title: t\ndetection:\n  s:\n    a|expand:\n    - x\n    - '%nobody%'\n  condition: s";
    let errors = errors(unknown);
    assert_eq!(errors[0].to_string(), "rule.yml:6: a|expand: there is no list of the name \"nobody\"");
}

#[test]
fn files_go_over_others_with_their_lists() {
    let file = |name: &str, text: &str| [(name.to_owned(), text.to_owned())];
    let rule = |id: &str| {
        format!(
            "title: {id}\nid: {id}\ndetection: {{s: {{a|expand: '%system_namespaces%'}}, condition: s}}\n"
        )
    };
    let base = file("base.yml", &format!("{}---\n{}", rule("r1"), rule("r2")));
    let over = file("own.yml", &format!("system_namespaces: {{values: [infra]}}\n---\n{}", rule("r2")));
    let loaded = load_over(&base, &over, &Lists::shipped());
    assert_eq!(loaded.errors, []);
    let found: Vec<_> = loaded.rules.iter().map(|rule| (&*rule.key, &*rule.file)).collect();
    assert_eq!(found, [("r2", "own.yml"), ("r1", "base.yml")]);
    assert!(loaded.rules.iter().all(|rule| rule.lists == ["system_namespaces".into()]));
    let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(loaded.rules)));
    let mut matches = Vec::new();
    evaluator.matches(br#"{"a":"infra"}"#, &mut matches);
    assert_eq!(matches, [0, 1]);
}
