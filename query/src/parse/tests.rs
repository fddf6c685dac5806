use proptest::prelude::*;

use super::*;

/// The query as it was understood, written out again.
fn check(text: &str, expect: &str) {
    let parsed = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(parsed.to_string(), expect, "{text}");
}

#[test]
fn operators_bind_as_in_lucene() {
    for (text, expect) in [
        ("", "*"),
        ("*", "*"),
        ("*:*", "*"),
        ("a:1 b:2", "a:1 AND b:2"),
        ("a:1 AND b:2 OR c:3", "(a:1 AND b:2) OR c:3"),
        ("a:1 OR b:2 AND c:3", "a:1 OR (b:2 AND c:3)"),
        ("a:1 && b:2 || !c:3", "(a:1 AND b:2) OR NOT c:3"),
        ("+a:1 -b:2", "a:1 AND NOT b:2"),
        ("NOT (a:1 OR b:2)", "NOT (a:1 OR b:2)"),
        ("a:(x OR y)", "a:x OR a:y"),
        ("alice", "alice"),
    ] {
        check(text, expect);
    }
}

#[test]
fn values_keep_what_they_say() {
    for (text, expect) in [
        (
            "user.username:system\\:*",
            Test::Like({
                let mut wildcard = Wildcard::new();
                "system:".chars().for_each(|character| wildcard.push(character));
                wildcard.push_any();
                wildcard
            }),
        ),
        ("a:\"x y\"", Test::Is("x y".to_owned())),
        ("a:\"say \\\"no\\\"\"", Test::Is("say \"no\"".to_owned())),
        ("a:\\*", Test::Is("*".to_owned())),
        ("a:*", Test::Exists),
        ("_exists_:a", Test::Exists),
        ("a:10.0.0.0/8", Test::Is("10.0.0.0/8".to_owned())),
    ] {
        match parse(text).unwrap() {
            Predicate::Field(_, test) => assert_eq!(test, expect, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let deep = "(".repeat(100);
    let long = "a ".repeat(MAX_QUERY_BYTES);
    let many = "a ".repeat(MAX_CLAUSES + 1);
    for (text, position, reason) in [
        ("verb:", 6, "a value after \"verb:\""),
        ("verb:get AND", 13, ""),
        ("(verb:get", 10, ""),
        ("verb:get)", 9, ""),
        ("a:[1 TO", 8, ""),
        ("a:\"open", 3, ""),
        ("a:/[/", 3, ""),
        ("a*:b", 1, "a field name without wildcards"),
        ("a*:(b)", 1, "a field name without wildcards"),
        (&deep, 0, ""),
        (&long, 0, "at most 16384 bytes"),
        (&many, 0, ""),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.reason.contains(reason), "{text:.30}: {error}");
        assert!(error.reason.starts_with("expected") || !error.reason.is_empty(), "{text:.30}: {error}");
        if position > 0 {
            assert_eq!(error.position, position, "{text:.30}: {error}");
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-c:*?()\\[\\]{}\"/\\\\<>=! .0-9+-]{0,60}|(AND|OR|NOT|TO|a:|_exists_:|\\(|\\)| |\"|b\\*|\\[1 TO 2\\]){0,20}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.position <= text.chars().count() + 1, "{}", error);
        }
    }

    #[test]
    fn what_was_understood_can_be_written_and_read_again(text in "(a:b|c\\.d:\"x y\"|e:f\\*|NOT g:h|i:\\[1 TO 9\\]|_exists_:j|k:/l+/|m:>=3)( (AND|OR) (n:o|NOT p:q\\?|\\(r:s t:u\\)|v)){0,6}") {
        let parsed = parse(&text).unwrap();
        prop_assert_eq!(parse(&parsed.to_string()).unwrap(), parsed);
    }
}
