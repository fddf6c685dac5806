//! Files of several documents: collections and filters.

use super::*;

fn found(loaded: Loaded, event: &str) -> Vec<String> {
    assert_eq!(loaded.errors, []);
    let set = Arc::new(RuleSet::compile(loaded.rules));
    let mut evaluator = Evaluator::new(set.clone());
    let mut matches = Vec::new();
    evaluator.matches(event.as_bytes(), &mut matches);
    matches.iter().map(|rule| set.rules()[*rule].key.to_string()).collect()
}

#[test]
fn what_a_global_document_says_holds_until_the_next() {
    let text = "action: global\ntitle: G\nlevel: high\ndetection: {f: {b: x}, condition: s and not f}\n---\n\
        id: one\ndetection: {s: {a: 1}}\n---\nid: two\nlevel: low\ndetection: {s: {a: 2}}\n---\n\
        action: reset\n---\nid: three\ntitle: T\ndetection: {s: {a: 1}, condition: s}\n---\n\
        action: global\ntitle: H\n---\nid: four\ndetection: {s: {a: 1}, condition: s}\n";
    let loaded = read(text);
    let titles: Vec<_> =
        loaded.rules.iter().map(|rule| (&*rule.key, &*rule.title, rule.level.name(), rule.line)).collect();
    let expect = [
        ("one", "G", "high", 6),
        ("two", "G", "low", 9),
        ("three", "T", "medium", 15),
        ("four", "H", "medium", 22),
    ];
    assert_eq!(titles, expect);
    assert_eq!(found(read(text), r#"{"a":1}"#), ["one", "three", "four"]);
    assert_eq!(found(read(text), r#"{"a":1,"b":"x"}"#), ["three", "four"]);
}

#[test]
fn a_repeated_document_is_the_one_before_with_changes() {
    let text = "title: R\nid: r\ndetection: {s: {a: 1, b: 1}, condition: s}\n---\n\
        action: repeat\ndetection: {s: {a: 2}}\n---\naction: repeat\nid: own\ndetection: {s: {b: 3}}\n";
    assert_eq!(found(read(text), r#"{"a":1,"b":1}"#), ["r"]);
    assert_eq!(found(read(text), r#"{"a":2,"b":1}"#), ["r#2"]);
    assert_eq!(found(read(text), r#"{"a":2,"b":3}"#), ["own"]);
    let shared = "action: global\ntitle: G\nid: g\ndetection: {condition: s}\n---\ndetection: {s: {a: 1}}\n---\n\
        detection: {s: {a: 1}}\n---\ntitle: x\nid: other\ndetection: {s: {a: 1}}";
    assert_eq!(found(read(shared), r#"{"a":1}"#), ["g", "g#2", "other"]);
}

#[test]
fn rules_without_an_id_are_told_apart_by_their_number() {
    let detection = "detection: {s: {a: 1}, condition: s}";
    let global = "action: global\ntitle: G\ndetection: {condition: s}\n---\n";
    let rule = "detection: {s: {a: 1}}\n---\n";
    for (text, keys) in [
        (format!("{global}{rule}{rule}{rule}"), &["rule.yml: G", "rule.yml: G#2", "rule.yml: G#3"][..]),
        (format!("{global}{rule}{rule}action: repeat\n"), &["rule.yml: G", "rule.yml: G#2", "rule.yml: G#3"]),
        (format!("title: R\n{detection}\n---\naction: repeat\n"), &["rule.yml: R", "rule.yml: R#2"]),
        (
            ["T", "T#2", "T", "U", "T"].map(|title| format!("title: {title}\n{detection}\n---\n")).concat(),
            &["rule.yml: T", "rule.yml: T#2", "rule.yml: T#3", "rule.yml: U", "rule.yml: T#4"],
        ),
    ] {
        let loaded = read(&*text);
        assert!(loaded.rules.iter().all(|rule| &*rule.title == "T#2" || rule.title.len() == 1), "{text}");
        assert_eq!(found(loaded, r#"{"a":1}"#), keys, "{text}");
    }
    let files = ["a.yml", "a.yml"].map(|name| (name.to_owned(), format!("title: T\n{detection}\n")));
    let twice = load(&files, &Lists::shipped());
    assert_eq!(twice.rules.len(), 1, "a file that is given twice");
    assert!(twice.errors[0].reason.contains("already in a.yml, line 1"), "{:?}", twice.errors);
}

#[test]
fn a_filter_narrows_rules_by_id_name_or_log_source() {
    let rule = |id: &str, service: &str| {
        format!(
            "title: {id}\nid: {id}\nname: the_{id}\nlogsource: {{product: kubernetes, service: {service}}}\n\
            detection: {{selection: {{a: 1}}, condition: selection}}\n---\n"
        )
    };
    let rules = [rule("r1", "audit"), rule("r2", "audit"), rule("r3", "other")].concat();
    let filter = |source: &str, rules: &str, body: &str| {
        format!("title: F\nlogsource: {{{source}}}\nfilter: {{rules: {rules}, {body}}}\n")
    };
    let body = "selection: {u: ops}, condition: not selection";
    let check = |filter: String, event: &str, expect: &[&str]| {
        assert_eq!(found(read(format!("{rules}{filter}")), event), expect, "{filter} on {event}");
    };
    let (ops, eve) = (r#"{"a":1,"u":"ops"}"#, r#"{"a":1,"u":"eve"}"#);
    check(filter("product: kubernetes", "[r1]", body), ops, &["r2", "r3"]);
    check(filter("product: kubernetes", "[r1]", body), eve, &["r1", "r2", "r3"]);
    check(filter("product: kubernetes", "the_r2", body), ops, &["r1", "r3"]);
    check(filter("product: kubernetes, service: audit", "any", body), ops, &["r3"]);
    check(filter("product: kubernetes", "ANY", body), ops, &[]);
    // The names of selections are the filter's own, and `them` are its own, too.
    let them = "a: {u: ops}, b: {u: dev}, condition: not 1 of them";
    check(filter("product: kubernetes", "any", them), eve, &["r1", "r2", "r3"]);
    check(filter("product: kubernetes", "any", them), ops, &[]);
    // It may stand before the rules, and two filters hold together.
    let first = format!("{}---\n{rules}", filter("product: kubernetes", "[r1]", body));
    let second = filter("product: kubernetes", "[r2]", "s: {u: eve}, condition: not s");
    assert_eq!(found(read(format!("{first}{second}")), ops), ["r2", "r3"]);
    assert_eq!(found(read(format!("{first}{second}")), eve), ["r1", "r3"]);
}

#[test]
fn a_filter_of_the_operator_holds_for_shipped_rules() {
    let file = |name: &str, text: &str| [(name.to_owned(), text.to_owned())];
    let base = file(
        "shipped.yml",
        "title: r\nid: r\nlogsource: {product: kubernetes}\ndetection: {s: {a: 1}, condition: s}",
    );
    let own = file(
        "own.yml",
        "title: F\nlogsource: {product: kubernetes}\nfilter:\n  rules: r\n  \
        s: {a|expand: '%ours%'}\n  condition: not s\n---\nours: {values: [1]}",
    );
    let loaded = load_over(&base, &own, &Lists::shipped());
    assert_eq!(loaded.rules[0].lists, ["ours".into()]);
    assert_eq!(found(loaded, r#"{"a":1}"#), [""; 0]);
}

#[test]
fn what_is_wrong_with_documents_is_said_with_its_line() {
    let rule = "title: t\nid: r\nlogsource: {product: linux}\ndetection: {s: {a: 1}, condition: s}\n---\n";
    let filter = |body: &str| format!("{rule}title: f\nlogsource: {{product: windows}}\nfilter:\n{body}");
    for (text, line, reason) in [
        ("action: repeat\ntitle: t".to_owned(), 1, "no document before it"),
        ("action: again\ntitle: t".to_owned(), 1, "unknown action \"again\""),
        (
            format!("{rule}title: f\nfilter: {{rules: any, s: {{a: 1}}, condition: s}}"),
            6,
            "needs a logsource",
        ),
        (filter("  rules: [r, x]\n  s: {a: 1}\n  condition: s"), 9, "\"r\", but the rule's logsource"),
        (filter("  rules: y\n  s: {a: 1}\n  condition: s"), 9, "\"y\", but no rule"),
        (filter("  s: {a: 1}\n  condition: s"), 9, "has no rules"),
        (filter("  rules: []\n  s: {a: 1}\n  condition: s"), 9, "names no rules"),
        (filter("  rules: any\n  s: {a: 1}"), 9, "no condition"),
        (filter("  rules: any\n  s: {a: 1}\n  condition: [s, s]"), 9, "exactly one condition"),
        (filter("  rules: any\n  s: {a|re: '('}\n  condition: s"), 10, "unclosed group"),
        (filter("  rules: any\n  s: {a: 1}\n  condition: t"), 11, "no such selection"),
        (filter("  rules: any\n  s: {a|expand: '%x%'}\n  condition: s"), 10, "no list"),
    ] {
        let errors = errors(&text);
        let told = errors.iter().any(|error| error.line == line && error.reason.contains(reason));
        assert!(told, "{text}: {errors:?}");
    }
}

#[test]
fn a_collection_cannot_grow_without_bound() {
    let many: Vec<String> = (0..3000).map(|number| format!("k{number}: x")).collect();
    let global = format!("action: global\ntitle: G\nx: {{{}}}\n", many.join(", "));
    let rules = "---\ndetection: {s: {a: 1}, condition: s}\n".repeat(1000);
    let errors = errors(&format!("{global}{rules}"));
    assert!(errors.iter().any(|error| error.reason.contains("more than 2000000 values")), "{errors:?}");
}
