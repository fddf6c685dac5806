//! What is found in rules, and what is not.

use super::*;
use crate::{library, load};

const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n  \
    - level: None\n    verbs: [watch]\n  - level: Metadata\n    resources: [{group: '', resources: [secrets]}]\n  \
    - level: Request\n    resources: [{group: '', resources: [pods]}]\n";

/// Kinds and messages for a rule with this detection.
fn findings(detection: &str, policy: Option<&AuditPolicy>) -> Vec<(FindingKind, String)> {
    let text = format!("title: t\ndetection: {{{detection}}}\n");
    let loaded = load(&[("r.yml".to_owned(), text.clone())]);
    assert_eq!(loaded.errors, [], "{detection}");
    let mut findings = lint_text("r.yml", &text);
    findings.extend(loaded.rules.iter().flat_map(|rule| lint(rule, policy)));
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
        ("a: {verb: get}, condition: a and not a", vec![NeverMatches]),
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

#[test]
fn nothing_is_found_in_the_library() {
    let files = library::files();
    let mut findings: Vec<_> = files.iter().flat_map(|(name, text)| lint_text(name, text)).collect();
    findings.extend(load(&files).rules.iter().flat_map(|rule| lint(rule, None)));
    assert_eq!(findings, []);
}
