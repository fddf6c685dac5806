//! Conditions bound to members of arrays.

use super::matches;

/// As for other items, but in block style, whose keys may hold brackets without quotes.
fn check(item: &str, yes: &[&str], no: &[&str]) {
    let detection = format!("s:\n  {item}\ncondition: s");
    for (events, expect) in [(yes, true), (no, false)] {
        for event in events {
            assert_eq!(matches(&detection, event), expect, "{item} on {event}");
        }
    }
}

#[test]
fn conditions_are_bound_to_one_member() {
    check(
        "c[any]: {n: x, m: y}",
        &[
            r#"{"c":[{"n":"z"},{"n":"x","m":"y"}]}"#,
            r#"{"c":[[{"n":"x","m":["z","Y"]}]]}"#,
            r#"{"c":{"n":"x","m":"y"}}"#,
        ],
        &[r#"{"c":[{"n":"x"},{"m":"y"}]}"#, r#"{"c":[]}"#, "{}", r#"{"c":null}"#],
    );
    check(
        "c[all]: {n: x}",
        &[r#"{"c":[{"n":"x"},{"n":["x","y"]}]}"#],
        &[r#"{"c":[{"n":"x"},{"n":"y"}]}"#, r#"{"c":[{"n":"x"},null]}"#, r#"{"c":[]}"#, "{}"],
    );
    check(
        "c[all_or_empty]: {n: x}",
        &[r#"{"c":[{"n":"x"}]}"#, r#"{"c":[]}"#, "{}"],
        &[r#"{"c":[{"n":"y"}]}"#],
    );
    check(
        "c[none]: {n: x}",
        &[r#"{"c":[{"n":"y"}]}"#, r#"{"c":[]}"#, "{}"],
        &[r#"{"c":[{"n":"y"},{"n":"x"}]}"#],
    );
    check("c[any].n: x", &[r#"{"c":[{"n":"x"}]}"#], &[r#"{"c":[{"m":"x"}]}"#]);
    check("c[any]: [{n: x}, {m: y}]", &[r#"{"c":[{"m":"y"}]}"#], &[r#"{"c":[{"m":"x"}]}"#]);
}

#[test]
fn one_member_may_be_named_by_its_number() {
    let event = r#"{"c":[{"n":"a"},{"n":"b"},{"n":"c"}]}"#;
    check("c[0].n: a", &[event], &[r#"{"c":[{"n":"b"},{"n":"a"}]}"#, r#"{"c":[]}"#]);
    check("c[-1].n: c", &[event], &[r#"{"c":[{"n":"c"},{"n":"a"}]}"#]);
    check("c[1]: {n: b}", &[event], &[r#"{"c":[{"n":"b"}]}"#]);
    check("c[-4].n: a", &[], &[event]);
    check("c[0]: x", &[r#"{"c":["X","y"]}"#, r#"{"c":"x"}"#], &[r#"{"c":["y","x"]}"#]);
}

#[test]
fn members_themselves_are_compared() {
    check("c[all]|startswith: x", &[r#"{"c":["x1","X2"]}"#], &[r#"{"c":["x1","y"]}"#]);
    check("c[any]: {'.|gte': 10, '.|lt': 20}", &[r#"{"c":[5,15]}"#], &[r#"{"c":[5,25]}"#]);
    check("c[none]: [x, y]", &[r#"{"c":["z"]}"#], &[r#"{"c":["z","y"]}"#]);
    check("c[any]|re: '^a.c$'", &[r#"{"c":["x","abc"]}"#], &[r#"{"c":["abcd"]}"#]);
}

#[test]
fn groups_nest_and_have_conditions_of_their_own() {
    check(
        "rules[any]: {'verbs[any]': '\\*', 'resources[all]|startswith': pod, 'apiGroups[0]': ''}",
        &[
            r#"{"rules":[{"verbs":["get"]},{"verbs":["get","*"],"resources":["pods","pods/log"],"apiGroups":[""]}]}"#,
        ],
        &[
            r#"{"rules":[{"verbs":["*"],"resources":["pods","nodes"],"apiGroups":[""]},{"resources":["pods"]}]}"#,
        ],
    );
    check(
        "a.c[any]: {'p[any]': {q: 1, r: 2}}",
        &[r#"{"a":[{"c":[{"p":[{"q":1,"r":2}]}]}]}"#],
        &[r#"{"a":[{"c":[{"p":[{"q":1},{"r":2}]}]},{"c":[{"p":[{"r":2}]}]}]}"#],
    );
    let detection = "s:\n  c[any]:\n    n: {n: x}\n    m: {m: y}\n    condition: n and not m\ncondition: s";
    assert!(matches(detection, r#"{"c":[{"n":"x","m":"y"},{"n":"x"}]}"#));
    assert!(!matches(detection, r#"{"c":[{"n":"x","m":"y"},{"m":"z"}]}"#));
    // Names within a group are those of the member, not facets.
    check(
        "u[any]: {user.name: eve}",
        &[r#"{"u":[{"user":{"name":"eve"}}]}"#],
        &[r#"{"u":[{"user":{"username":"eve"}}]}"#, r#"{"u":[{}],"user":{"username":"eve"}}"#],
    );
    check("c[any]: {'|contains': sec}", &[], &[r#"{"a":"sec","c":[1]}"#]);
    // A dot has no meaning outside of a group.
    let errors = super::errors("title: t\ndetection: {s: {'.': x}, condition: s}");
    assert!(errors[0].reason.contains("empty segment"), "{errors:?}");
    check("c\\[0\\]: x", &[r#"{"c[0]":"x"}"#], &[r#"{"c":["x"]}"#]);
}

#[test]
fn a_missing_body_makes_members_unknown() {
    let detection = "s: {verb: create}\nf: {'requestObject.c[any]': {n: x}}\ncondition: s and not f";
    assert!(!matches(detection, r#"{"verb":"create","level":"Metadata"}"#));
    assert!(matches(detection, r#"{"verb":"create","level":"Request","requestObject":{"c":[{"n":"y"}]}}"#));
    assert!(!matches(detection, r#"{"verb":"create","level":"Request","requestObject":{"c":[{"n":"x"}]}}"#));
}
