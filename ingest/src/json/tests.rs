use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { depth: 8, values: 1000 };

fn parsed(text: &str) -> Result<(usize, Vec<Flaw>), SyntaxError> {
    let mut tape = Tape::default();
    let end = parse(text.as_bytes(), 0, LIMITS, &mut tape)?;
    Ok((end, tape.flaws().to_vec()))
}

#[test]
fn what_is_not_json_is_refused_at_its_place() {
    for (text, offset) in [
        ("", 0),
        ("{", 1),
        (r#"{"a"}"#, 4),
        (r#"{"a":}"#, 5),
        (r#"{"a":1,}"#, 7),
        (r#"{a:1}"#, 1),
        ("[1 2]", 3),
        ("[1,]", 3),
        ("01", 1),
        ("-", 1),
        ("1.", 2),
        ("1.e5", 2),
        ("1e+", 3),
        ("+1", 0),
        ("tru", 0),
        ("nul", 0),
        (r#""\x""#, 2),
        (r#""\u12g4""#, 2),
        ("\"a\nb\"", 2),
        ("\"abc", 4),
        ("NaN", 0),
    ] {
        let found = match parsed(text) {
            Err(error) => error.offset,
            Ok((end, _)) => end,
        };
        assert_eq!(found, offset, "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
    }
}

#[test]
fn flaws_are_found_where_they_are() {
    let check = |text: &str, expect: &[Flaw]| assert_eq!(parsed(text).unwrap().1, expect, "{text}");
    let duplicate = |range, in_body| Flaw::Duplicate { range, in_body };
    check(r#"{"a":1,"b":2}"#, &[]);
    check(r#"{"a":1,"b":2,"\u0061":3}"#, &[duplicate(1..7, false)]);
    check(r#"{"requestObject":{"a":[{"b":1,"b":2}]}}"#, &[duplicate(24..30, true)]);
    check(r#"{"x":{"a":1,"a":2,"a":3}}"#, &[duplicate(6..12, false), duplicate(12..18, false)]);
    check("[[[[[[[[[1]]]]]]]]]", &[Flaw::TooDeep(8..11)]);
    check("[[[[[[[[1]]]]]]]]", &[]);
    check(r#"["\ud83d","\ud83d\ude00","\ude00"]"#, &[Flaw::LoneSurrogate(1..9), Flaw::LoneSurrogate(25..33)]);
    check("[1e308,1E309,1e-999,0e999,-1.5e+310]", &[Flaw::HugeNumber(7..12), Flaw::HugeNumber(26..35)]);
    check(&format!("[1{}]", "0".repeat(400)), &[Flaw::HugeNumber(1..402)]);
    check(&format!("[{}1]", "1,".repeat(999)), &[Flaw::TooManyValues]);
}

#[test]
fn edits_that_overlap_are_made_once() {
    let edit = |range, replacement: &str| Edit { range, replacement: replacement.to_owned() };
    let edits = vec![edit(6..8, "C"), edit(2..4, "x"), edit(1..5, "B"), edit(8..8, "+")];
    assert_eq!(apply("0123456789", edits), "0B5C+89");
}

#[test]
fn values_give_their_content() {
    let text = r#"{"b":["\u00e9",-1.5],"a":{"":null}}"#;
    let mut tape = Tape::default();
    parse(text.as_bytes(), 0, LIMITS, &mut tape).unwrap();
    let root = tape.root(text).unwrap();
    let elements: Vec<Value<'_>> = root.get("b").unwrap().elements().collect();
    assert!(elements[0].is("é") && elements[1].raw() == "-1.5" && elements.len() == 2);
    let sorted: Vec<_> = root.sorted_members().map(|(key, _)| key.raw()).collect();
    assert_eq!(sorted, [r#""a""#, r#""b""#]);
    assert_eq!(root.get("a").unwrap().get("").unwrap().kind(), Kind::Null);
    assert!(root.get("c").is_none() && elements[0].get("x").is_none());
}

#[test]
fn every_byte_that_ends_the_plain_part_of_a_string_is_found_wherever_it_stands() {
    let is_special = |byte: u8| byte == b'"' || byte == b'\\' || byte < 0x20;
    for byte in 0..=u8::MAX {
        for at in 0..70 {
            let mut text = [b'!'; 70];
            text[at] = byte;
            assert_eq!(
                scan::plain_len(&text),
                if is_special(byte) { at } else { text.len() },
                "{byte} at {at}"
            );
        }
    }
}

proptest! {
    /// Keys are sorted by their content, whatever they begin with and however they are written.
    #[test]
    fn members_come_sorted_by_key(keys in prop::collection::vec("[a-b]{0,12}|é{0,5}|\"{0,2}", 0..30)) {
        let written: Vec<String> = keys.iter().map(|key| format!("{}:1", serde_json::Value::from(key.as_str()))).collect();
        let text = format!("{{{}}}", written.join(","));
        let mut tape = Tape::default();
        parse(text.as_bytes(), 0, LIMITS, &mut tape).unwrap();
        let expect: std::collections::BTreeSet<&str> = keys.iter().map(String::as_str).collect();
        prop_assert_eq!(tape.flaws().len(), keys.len() - expect.len());
        if tape.flaws().is_empty() {
            let sorted: Vec<_> = tape.root(&text).unwrap().sorted_members().map(|(key, _)| key.as_text().unwrap()).collect();
            prop_assert_eq!(sorted, expect.into_iter().collect::<Vec<_>>());
        }
    }

    /// Both readers accept the same texts; where they do not, it is a flaw that the reader names.
    #[test]
    fn agrees_with_serde_json(text in r#"([\[\]{},:"\\ntrue019.eE+-]|"a"|\\u00|\\ud8|true|null){0,24}"#) {
        let whole = |end: usize| text[end..].trim_matches([' ', '\n', '\r', '\t']).is_empty();
        let start = text.len() - text.trim_start_matches([' ', '\n', '\r', '\t']).len();
        let ours = parsed(&text[start..]);
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text);
        match ours {
            Ok((end, flaws)) if flaws.is_empty() => prop_assert_eq!(whole(start + end), theirs.is_ok(), "{}", text),
            Ok(_) => {}
            Err(_) => prop_assert!(theirs.is_err(), "{}", text),
        }
    }

    #[test]
    fn the_plain_part_of_a_string_ends_where_it_should(text in "([a-z~\\x7f é]{0,20}[\"\\\\\x1f]?){0,4}") {
        let is_special = |byte: u8| byte == b'"' || byte == b'\\' || byte < 0x20;
        let expect = text.bytes().position(is_special).unwrap_or(text.len());
        prop_assert_eq!(scan::plain_len(text.as_bytes()), expect);
    }

    #[test]
    fn strings_have_the_content_that_serde_json_reads(text in any::<String>()) {
        let json = serde_json::Value::from(text.as_str()).to_string();
        let mut tape = Tape::default();
        parse(json.as_bytes(), 0, LIMITS, &mut tape).unwrap();
        prop_assert_eq!(tape.root(&json).unwrap().as_text().unwrap(), text);
    }
}
