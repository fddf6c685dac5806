//! Numbers, and what YAML takes for one.

use super::*;

#[test]
fn whole_numbers_compare_exactly() {
    check(
        "n: 12345678901234567890",
        &[r#"{"n":12345678901234567890}"#, r#"{"n":"12345678901234567890"}"#],
        &[r#"{"n":12345678901234567891}"#],
    );
    check("n: 9007199254740993", &[r#"{"n":9007199254740993}"#], &[r#"{"n":9007199254740992}"#]);
    check("n: 18446744073709551615", &[r#"{"n":18446744073709551615}"#], &[r#"{"n":18446744073709551614}"#]);
    check(
        "n|gt: 9007199254740992",
        &[r#"{"n":9007199254740993}"#, r#"{"n":"9007199254740993"}"#, r#"{"n":1e300}"#],
        &[r#"{"n":9007199254740992}"#, r#"{"n":9007199254740991.5}"#],
    );
    check(
        "n|lt: 18446744073709551615",
        &[r#"{"n":18446744073709551614}"#, r#"{"n":-9223372036854775808}"#],
        &[r#"{"n":18446744073709551615}"#, r#"{"n":18446744073709551616}"#],
    );
    check("n|gte: 0x20000000000001", &[r#"{"n":9007199254740993}"#], &[r#"{"n":9007199254740992}"#]);
}

#[test]
fn a_number_without_quotes_also_equals_its_spelling() {
    for (written, number) in
        [("1e5", "100000"), ("0x1F", "31"), ("0o17", "15"), ("010", "10"), ("1.10", "1.1"), ("+5", "5")]
    {
        let text = |text: &str| format!(r#"{{"a":"{text}"}}"#);
        let json = format!(r#"{{"a":{number}}}"#);
        check(&format!("a: {written}"), &[&text(written), &text(number), &json], &[&text("7")]);
        check(&format!("a: '{written}'"), &[&text(written)], &[&text(number), &json]);
        check(&format!("a|contains: {written}"), &[&text(&format!("x{written}x"))], &[&text("x7x")]);
        check(&format!("a|neq: {written}"), &[&text("7")], &[&text(written), &json]);
    }
    check("a|re: 1e5", &[r#"{"a":"x1e5"}"#], &[r#"{"a":"100000"}"#]);
    check("a|gte: 1e5", &[r#"{"a":100000}"#], &[r#"{"a":99999}"#]);
}
