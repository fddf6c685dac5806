//! What is found in rules, and what is not.

use super::*;
use crate::{Lists, library, load};

const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n  \
    - level: None\n    verbs: [watch]\n  - level: Metadata\n    resources: [{group: '', resources: [secrets]}]\n  \
    - level: Request\n    resources: [{group: '', resources: [pods]}]\n";

/// Kinds and messages for a rule with this detection.
fn findings(detection: &str, policy: Option<&AuditPolicy>) -> Vec<(FindingKind, String)> {
    let text = format!("title: t\ndetection: {{{detection}}}\n");
    let loaded = load(&[("r.yml".to_owned(), text.clone())], &Lists::shipped());
    assert_eq!(loaded.errors, [], "{detection}");
    let mut findings = lint_text("r.yml", &text);
    findings.extend(lint(&loaded.rules, &loaded.lists, policy));
    findings.into_iter().map(|finding| (finding.kind, finding.message)).collect()
}

#[test]
fn rules_that_cannot_match_are_found() {
    use FindingKind::{Impossible, NeverMatches, UnknownField, UnusedSelection};
    for (detection, expect) in [
        ("s: {verb: get}, condition: s", vec![]),
        ("s: {hostPath: x}, condition: s", vec![UnknownField, NeverMatches]),
        ("s: {verb: get}, f: {hostPath: x}, condition: s or f", vec![UnknownField]),
        ("s: {verb: get}, f: {hostPath: x}, condition: s and not f", vec![UnknownField]),
        ("a: {verb: get}, b: {verb: list}, condition: a and b", vec![NeverMatches, Impossible]),
        (
            "a: {responseStatus.code: [200, 201]}, b: {responseStatus.code: 403}, condition: a and b",
            vec![Impossible],
        ),
        ("a: {responseStatus.code: [200, 403]}, b: {responseStatus.code: 403}, condition: a and b", vec![]),
        ("a: {user.groups|all: [x, y]}, condition: a", vec![]),
        (
            "a: {verb: get}, b: {verb: [list, LIST], userAgent: x}, c: {verb: watch}, condition: a or (b and c)",
            vec![Impossible],
        ),
        ("a: {verb: get}, b: {verb: list}, condition: a or b", vec![]),
        ("a: {verb: get}, condition: a and not a", vec![NeverMatches, Impossible]),
        (
            "a: {objectRef.resource: pods}, b: {objectRef.resource: null}, condition: a and b",
            vec![NeverMatches],
        ),
        ("a: {objectRef.resource: null, requestURI|startswith: /x}, condition: a", vec![]),
        ("a: {objectRef.namespace: null, objectRef.resource: secrets}, condition: a", vec![]),
        ("a: {verb: get}, b: {verb: list}, condition: a", vec![UnusedSelection]),
        ("a: {verb: get}, _b: {verb: list}, condition: 1 of them", vec![UnusedSelection]),
        ("a_x: {verb: get}, a_y: {verb: list}, condition: 1 of a_*", vec![]),
        ("s: [secret], condition: s", vec![]),
        ("s: {'user.groups[any]': {'.': x}}, condition: s", vec![]),
        ("s: {'user.groups[none]': {'.': x}, verb: get}, condition: s", vec![]),
        ("s: {'capabilities[any]': {a: x}}, condition: s", vec![UnknownField, NeverMatches]),
        ("s: {user.username|fieldref: objectRef.name}, condition: s", vec![]),
        ("s: {user.username|fieldref: hostPath}, condition: s", vec![UnknownField, NeverMatches]),
        ("s: {stageTimestamp|hour: 3}, condition: s", vec![]),
        ("s: {verb|hour: 3}, condition: s", vec![NeverMatches]),
        ("s: {user.username|expand: '%watched_users%'}, condition: s", vec![]),
    ] {
        let kinds: Vec<_> = findings(detection, None).into_iter().map(|(kind, _)| kind).collect();
        let mut expect = expect;
        expect.sort();
        let mut kinds = kinds;
        kinds.sort();
        assert_eq!(kinds, expect, "{detection}");
    }
}

#[test]
fn comparisons_that_exclude_each_other_are_named() {
    const CODE: &str = "responseStatus.code";
    let check = |detection: &str, expect: Option<&str>| {
        let detection = detection.replace("CODE", CODE);
        let found = findings(&detection, None).into_iter();
        let messages: Vec<_> =
            found.filter(|(kind, _)| *kind == FindingKind::Impossible).map(|(_, message)| message).collect();
        let expect: Vec<String> = expect.iter().map(|expect| expect.replace("CODE", CODE)).collect();
        assert_eq!(messages, expect, "{detection}");
    };
    for (detection, expect) in [
        ("s: {CODE|gt: 5, CODE|lt: 3}, condition: s", Some("CODE cannot be > 5 and at once < 3")),
        ("s: {CODE|gt: 5, CODE|lt: 5}, condition: s", Some("CODE cannot be > 5 and at once < 5")),
        ("s: {CODE|gte: 5, CODE|lt: 5}, condition: s", Some("CODE cannot be >= 5 and at once < 5")),
        ("s: {CODE|gte: 5, CODE|lte: 5}, condition: s", None),
        ("s: {CODE|gte: 400, CODE|lt: 500}, condition: s", None),
        ("s: {CODE|gt: [9, 7], CODE|lt: 8}, condition: s", None),
        ("s: {CODE|gt: [9, 7], CODE|lt: 6.5}, condition: s", Some("CODE cannot be > 7 and at once < 6.5")),
        ("s: {CODE|gt: 5}, t: {CODE|lt: 3}, condition: s and t", Some("CODE cannot be > 5 and at once < 3")),
        ("s: {CODE|gt: 5}, t: {CODE|lt: 3}, condition: s or t", None),
        ("s: {CODE|gt: 9007199254740992, CODE|lte: 9007199254740993}, condition: s", None),
        (
            "s: {CODE|gte: 400}, f: {CODE|gte: 300}, condition: s and not f",
            Some("CODE cannot be >= 400 and at once < 300"),
        ),
        ("s: {CODE|gte: 400}, f: {CODE|gte: 500}, condition: s and not f", None),
        ("f: {CODE|gte: 300}, g: {CODE|lt: 300}, condition: not (f or g)", None),
        (
            "s: {CODE: [200, 201], CODE|gt: 399}, condition: s",
            Some("CODE cannot be 200 or 201 where it must hold CODE > 399"),
        ),
        ("s: {CODE: [200, 500], CODE|gt: 399}, condition: s", None),
        (
            "s: {CODE: ok}, t: {CODE|lt: 300}, condition: s and t",
            Some("CODE cannot be ok where it must hold CODE < 300"),
        ),
        (
            "s: {verb: get, verb|startswith: p}, condition: s",
            Some("verb cannot be get where it must hold verb starts with \"p\" (in any case)"),
        ),
        (
            "s: {verb: get}, f: {verb: [GET, list]}, condition: s and not f",
            Some("verb cannot be get where it must hold not: verb is \"get\" (in any case)"),
        ),
        ("s: {verb: get}, f: {verb|cased: get}, condition: s and not f", None),
        ("s: {sourceIPs|cidr: 10.0.0.0/8}, t: {sourceIPs: 11.0.0.1}, condition: s and t", None),
        (
            "s: {requestObject.spec.replicas|gt: 5, requestObject.spec.replicas|lt: 3}, condition: s",
            Some("requestObject.spec.replicas cannot be > 5 and at once < 3"),
        ),
        ("s: {requestObject.spec.ports.port|gt: 5, requestObject.spec.ports.port|lt: 3}, condition: s", None),
        (
            "s: {'requestObject.a[any]': {'.|gt': 5, '.|lt': 3}}, condition: s",
            Some(". cannot be > 5 and at once < 3"),
        ),
        ("s: {'requestObject.a[any]': {b|gt: 5, b|lt: 3}}, condition: s", None),
    ] {
        check(detection, expect);
    }
}

#[test]
fn a_filter_that_does_not_exclude_is_found() {
    for (condition, found) in [("selection", true), ("not selection", false), ("NOT (selection)", false)] {
        let text = format!(
            "title: f\nlogsource: {{product: kubernetes}}\nfilter:\n  rules: any\n  selection: {{verb: get}}\n  \
             condition: {condition}\n"
        );
        let kinds: Vec<_> = lint_text("f.yml", &text).into_iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds == [FindingKind::FilterWithoutNot], found, "{condition}");
    }
}

#[test]
fn rules_that_a_policy_starves_are_told_what_to_change() {
    let policy = AuditPolicy::read("p.yaml", POLICY).unwrap();
    for (detection, expect) in [
        ("s: {objectRef.resource: pods, verb: create, requestObject.a: x}, condition: s", vec![]),
        (
            "s: {objectRef.resource: pods, verb: create, responseObject.a: x}, condition: s",
            vec!["line 9 of the policy logs create pods at Request; the rule needs RequestResponse"],
        ),
        (
            "s: {objectRef.resource: pods, verb: create}, f: {responseObject.a: x}, g: {requestObject.a: x}, \
          condition: s and (f or g)",
            vec![],
        ),
        (
            "s: {objectRef.resource: secrets, verb: [get, watch]}, f: {requestObject.a: x}, condition: s and not f",
            vec![
                "line 5 of the policy logs watch secrets at None; the rule needs Request",
                "line 7 of the policy logs get secrets at Metadata; the rule needs Request",
            ],
        ),
        (
            "s: {objectRef.resource: nodes, verb: get}, condition: s",
            vec!["no rule of the policy matches get nodes; add one with level Metadata"],
        ),
        (
            "s: {objectRef.resource: pods, verb: create, stage: RequestReceived}, condition: s",
            vec![
                "the policy omits stage RequestReceived, which the rule is about (create pods); take it out of omitStages",
            ],
        ),
    ] {
        let messages: Vec<_> =
            findings(detection, Some(&policy)).into_iter().map(|(_, message)| message).collect();
        assert_eq!(messages, expect, "{detection}");
    }
}

const CORRELATION: &str = "title: c\ncorrelation:\n  type: event_count\n  rules: [a, b]\n  group-by: [GROUP]\n  \
    timespan: 1m\n  condition: {gte: 3}\n---\ntitle: A\nname: a\ndetection: {s: {verb: create, \
    objectRef.resource: pods}, condition: s}\n---\ntitle: B\nname: b\ndetection: {s: {VERB}, condition: s}\n";

#[test]
fn correlations_are_looked_at_through_the_rules_that_they_count() {
    let policy = AuditPolicy::read("p.yaml", POLICY).unwrap();
    for (group, verb, expect) in [
        ("user.name", "verb: create, objectRef.resource: secrets", vec![]),
        (
            "user.nome",
            "verb: [create], objectRef.resource: pods",
            vec!["A: unknown-field", "B: unknown-field"],
        ),
        ("user.name", "hostPath: x", vec!["c: never-matches", "B: unknown-field", "B: never-matches"]),
        ("requestObject.a", "verb: create, objectRef.resource: pods", vec![]),
        ("requestObject.a", "verb: create, objectRef.resource: secrets", vec!["B: starved"]),
        ("responseObject.a", "verb: get, objectRef.resource: secrets", vec!["A: starved", "B: starved"]),
    ] {
        let text = CORRELATION.replace("GROUP", group).replace("VERB", verb);
        let loaded = load(&[("r.yml".to_owned(), text)], &Lists::shipped());
        assert_eq!(loaded.errors, [], "{verb}");
        let findings = lint(&loaded.rules, &loaded.lists, Some(&policy));
        let found: Vec<_> =
            findings.iter().map(|finding| format!("{}: {}", finding.rule, finding.kind.name())).collect();
        assert_eq!(found, expect, "{group} {verb}");
    }
}

#[test]
fn conditions_that_no_window_satisfies_are_named() {
    for (kind, condition, expect) in [
        ("event_count", "{gt: 5, lt: 3}", Some("in no window is what it counts > 5 and at once < 3")),
        ("event_count", "{gt: 5, lt: 6}", Some("in no window is what it counts > 5 and at once < 6")),
        ("event_count", "{gt: 5, lte: 6}", None),
        ("event_count", "{lt: 1}", Some("in no window is what it counts < 1")),
        ("event_count", "{eq: 4, gte: 5}", Some("in no window is what it counts >= 5 and at once <= 4")),
        ("event_count", "{neq: 4, gte: 2}", None),
        ("value_sum", "{field: code, gt: 5, lt: 6}", None),
        (
            "value_sum",
            "{field: code, gt: 6, lt: 5}",
            Some("in no window is what it counts > 6 and at once < 5"),
        ),
        ("temporal", "{gte: 2}", None),
        ("temporal", "{gte: 3}", Some("in no window is what it counts >= 3")),
        ("temporal", "{lt: 1}", Some("in no window is what it counts < 1")),
        ("temporal_ordered", "{lt: 1}", None),
        ("temporal_ordered", "{eq: 0}", None),
        ("temporal_ordered", "{lt: 0}", Some("in no window is what it counts < 0")),
        ("temporal", "a and not b", None),
    ] {
        let text = CORRELATION.replace("GROUP", "user.name").replace("VERB", "verb: get");
        let text = text.replace("event_count", kind).replace("{gte: 3}", condition);
        let text = text.replace("field: code", "field: responseStatus.code");
        let loaded = load(&[("r.yml".to_owned(), text)], &Lists::shipped());
        assert_eq!(loaded.errors, [], "{kind} {condition}");
        let findings = lint(&loaded.rules, &loaded.lists, None);
        let messages: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(messages, Vec::from_iter(expect), "{kind} {condition}");
    }
}

#[test]
fn documents_that_share_a_selection_are_looked_at_together() {
    let text = "action: global\ntitle: t\ndetection: {s: {verb: get}}\n---\ndetection: {condition: s}\n---\n\
        detection: {t: {verb: list}, condition: t}\n";
    let messages: Vec<_> = lint_text("r.yml", text).into_iter().map(|finding| finding.message).collect();
    assert_eq!(messages, ["no condition uses the selection \"s\""]);
}

#[test]
fn attributes_that_are_no_text_are_named() {
    let text = "title: t\nfalsepositives:\n  - Unknown\n  - Tools: backup\ndescription: [a]\nauthor:\n\
        references: https://example.com\ndetection: {s: {verb: get}, condition: s}\n";
    let findings = lint_text("r.yml", text);
    let found: Vec<_> = findings.iter().map(|finding| (finding.line, finding.message.as_str())).collect();
    let expect = [
        (5, "description takes text, not a list; it is left out"),
        (4, "falsepositives takes text, not a mapping; it is left out"),
    ];
    assert_eq!(found, expect);
}

#[test]
fn nothing_is_found_in_the_library() {
    let files = library::files();
    let mut findings: Vec<_> = files.iter().flat_map(|(name, text)| lint_text(name, text)).collect();
    let loaded = load(&files, &Lists::shipped());
    findings.extend(lint(&loaded.rules, &loaded.lists, None));
    assert_eq!(findings, []);
}
