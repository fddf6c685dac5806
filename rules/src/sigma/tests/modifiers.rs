//! The modifiers that rewrite values, compare fields and read times.

use super::check;

#[test]
fn values_may_be_encoded() {
    check("a|base64|contains: foobar", &[r#"{"a":"x Zm9vYmFy y"}"#], &[r#"{"a":"foobar"}"#]);
    check(
        "a|wide|base64offset|contains: ping",
        &[r#"{"a":"cABpAG4AZwAgAA=="}"#, r#"{"a":"eHBwAGkAbgBnAA=="}"#],
        &[r#"{"a":"ping"}"#, r#"{"a":"cGluZw=="}"#],
    );
    check("a|utf16|base64|startswith: 'c'", &[r#"{"a":"//5jAA=="}"#], &[r#"{"a":"YwA="}"#]);
    check("a|utf16le: ab", &[r#"{"a":"a\u0000b\u0000"}"#], &[r#"{"a":"ab"}"#]);
    check("a|utf16be: 'a*'", &[r#"{"a":"\u0000a\u0000b"}"#], &[r#"{"a":"ab"}"#]);
    check(
        "a|contains|windash: ' -x'",
        &[r#"{"a":"do -x"}"#, r#"{"a":"do /X"}"#, r#"{"a":"do —x"}"#],
        &[r#"{"a":"do-x"}"#, r#"{"a":"do x"}"#],
    );
    check(
        "a|windash|contains|all: [' -x', ' -y']",
        &[r#"{"a":"do /x -y"}"#],
        &[r#"{"a":"do -x"}"#, r#"{"a":"do -y"}"#],
    );
    // Each form of one value is an alternative, even where all values must be found.
    check("a|base64offset|contains|all: [foo, bar]", &[r#"{"a":"Zm9v YmFy"}"#], &[r#"{"a":"Zm9v"}"#]);
}

#[test]
fn a_field_may_be_compared_to_another() {
    check(
        "a|fieldref: b.c",
        &[
            r#"{"a":"X","b":{"c":"x"}}"#,
            r#"{"a":["y","x"],"b":[{"c":"z"},{"c":"x"}]}"#,
            r#"{"a":1,"b.c":"1"}"#,
        ],
        &[r#"{"a":"x","b":{"c":"y"}}"#, r#"{"a":"x"}"#, "{}", r#"{"a":null,"b":{"c":null}}"#],
    );
    check("a|fieldref|cased: b", &[r#"{"a":"X","b":"X"}"#], &[r#"{"a":"X","b":"x"}"#]);
    check("a|fieldref|neq: b", &[r#"{"a":"x","b":"y"}"#, "{}"], &[r#"{"a":"x","b":"X"}"#]);
    check("a|fieldref|startswith: b", &[r#"{"a":"xyz","b":"xy"}"#], &[r#"{"a":"xyz","b":"yz"}"#]);
    check("a|endswith|fieldref: b", &[r#"{"a":"xyz","b":"YZ"}"#], &[r#"{"a":"xyz","b":"xy"}"#]);
    check("a|fieldref|contains: [b, c]", &[r#"{"a":"xyz","c":"y"}"#], &[r#"{"a":"xyz","b":"zy"}"#]);
    check("a|fieldref: user.name", &[r#"{"a":"eve","user":{"username":"eve"}}"#], &[r#"{"a":"eve"}"#]);
    check("a|fieldref|all: [b, c]", &[r#"{"a":"x","b":"x","c":"x"}"#], &[r#"{"a":"x","b":"x"}"#]);
}

#[test]
fn a_missing_body_makes_a_comparison_of_fields_unknown() {
    let low = r#"{"level":"Metadata","a":"x"}"#;
    check("a|fieldref|neq: requestObject.b", &[r#"{"level":"Request","a":"x"}"#], &[low]);
    check("requestObject.b|fieldref|neq: a", &[r#"{"level":"Request","a":"x"}"#], &[low]);
}

#[test]
fn parts_of_a_time_are_read_in_utc() {
    let at = |time: &str| format!(r#"{{"t":"{time}"}}"#);
    let (saturday, sunday) = (at("2026-01-31T23:15:00.000000Z"), at("2026-02-01T00:45:00+01:00"));
    check("t|hour: 23", &[&saturday, &sunday], &[r#"{"t":"23"}"#, r#"{"t":23}"#, "{}"]);
    check("t|hour: [22, 23], t|minute: 15", &[&saturday], &[&sunday]);
    check("t|day: 31, t|month: '1', t|year: 2026, t|week: 5", &[&saturday, &sunday], &[]);
    check("t|hour|neq: [22, 23]", &[&at("2026-01-31T08:15:00Z"), "{}"], &[&saturday]);
}

#[test]
fn all_with_neq_asks_that_not_each_value_is_found() {
    check("a|neq|all: [x, y]", &["{}", r#"{"a":"x"}"#, r#"{"a":"z"}"#], &[r#"{"a":["x","y"]}"#]);
    check("a|contains|all|neq: [x, y]", &[r#"{"a":"x"}"#], &[r#"{"a":"xy"}"#]);
}
