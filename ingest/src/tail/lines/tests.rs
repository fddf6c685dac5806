use proptest::prelude::*;

use super::*;

/// The records of a text that is read line by line, from `progress` on, and begun anew after every `split` lines.
fn records(text: &str, split: usize) -> Vec<(u64, String)> {
    let now = Timestamp::from_micros(1_800_000_000_000_000);
    let limits = LineLimits { record_bytes: 64, record_lines: 5, ..LineLimits::default() };
    let mut records: Vec<(u64, String)> = Vec::new();
    let mut out = |joined: Joined<'_>| {
        let text = format!("{} {}", joined.stream.unwrap_or("-"), String::from_utf8_lossy(joined.text));
        if !records.iter().any(|(offset, _)| *offset == joined.offset) {
            records.push((joined.offset, text));
        }
    };
    let mut lines = Lines::default();
    let (mut rest, mut offset, mut count) = (text, 0, 0);
    while let Some((line, after)) = rest.split_once('\n') {
        lines.take(FileLine { offset, bytes: line.as_bytes(), cut: false }, &limits, now, &mut out);
        (rest, offset, count) = (after, offset + line.len() as u64 + 1, count + 1);
        if count == split {
            // a crash: what is not done is read again
            let progress = lines.progress(offset);
            lines = Lines::resume(&progress);
            offset = progress.offset();
            rest = &text[usize::try_from(offset).unwrap()..];
        }
    }
    lines.finish(&mut out);
    records.sort();
    records
}

fn check(text: &str, expect: &[&str]) {
    let found: Vec<String> = records(text, 0).into_iter().map(|(_, text)| text).collect();
    assert_eq!(found, expect, "{text}");
}

#[test]
fn lines_that_belong_together_are_one_record() {
    check("a\nb\n", &["- a", "- b"]);
    check(
        "E: x\n  at y\n\tat z\nCaused by: q\n  at r\nnext\n",
        &["- E: x\n  at y\n\tat z\nCaused by: q\n  at r", "- next"],
    );
    check(
        "Traceback (most recent call last):\n  File x\nValueError: bad\nnext one\n",
        &["- Traceback (most recent call last):\n  File x\nValueError: bad", "- next one"],
    );
    check(
        "panic: oops\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:1\nnext one\n",
        &["- panic: oops\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:1", "- next one"],
    );
    check("{\n \"a\": 1\n}\n{\"b\":2}\n  c\n", &["- {\n \"a\": 1\n}", "- {\"b\":2}", "-   c"]);
    check("a\n 1\n 2\n 3\n 4\n 5\n", &["- a\n 1\n 2\n 3\n 4", "-  5"]);
    check(&format!("{}\nb\n", "x".repeat(100)), &[&format!("- {}", "x".repeat(64)), "- b"]);
}

#[test]
fn streams_share_a_file_but_not_their_lines() {
    check(
        "2026-01-31T08:15:00Z stdout P one \n2026-01-31T08:15:00Z stderr F err\n2026-01-31T08:15:00Z stdout F two\n",
        &["stdout one two", "stderr err"],
    );
    check(
        concat!(
            "{\"log\":\"a \",\"stream\":\"stdout\",\"time\":\"2026-01-31T08:15:00Z\"}\n",
            "{\"log\":\"b\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-31T08:15:00Z\"}\n",
            "{\"log\":\"c\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-31T08:15:00Z\"}\n",
        ),
        &["stdout a c", "stderr b"],
    );
    check(
        "{\"log\": \"a\\n\", \"stream\": \"stdout\", \"time\": \"2026-01-31T08:15:00Z\"}\n{\"log\": \"b\"}\n",
        &["stdout a", "- {\"log\": \"b\"}"],
    );
}

fn line() -> impl Strategy<Value = String> {
    let message = prop_oneof![
        Just("word"),
        Just("  indented"),
        Just(""),
        Just("Traceback (most recent call last):"),
        Just("ValueError: x"),
        Just("panic: y"),
        Just("goroutine 1 [running]:"),
        Just("{\"a\":1}"),
        Just("{"),
        Just("}"),
        Just("a line that is rather long and fills a good part of what a record may hold"),
    ];
    let head = prop_oneof![
        Just(""),
        Just("2026-01-31T08:15:00Z stdout F "),
        Just("2026-01-31T08:15:00Z stdout P "),
        Just("2026-01-31T08:15:00Z stderr F "),
        Just("2026-01-31T08:15:00Z stderr P "),
    ];
    (head, message).prop_map(|(head, message)| format!("{head}{message}\n"))
}

proptest! {
    #[test]
    fn wherever_reading_stops_it_goes_on_with_the_same_records(lines in prop::collection::vec(line(), 0..40), split in 1usize..40) {
        let text = lines.concat();
        prop_assert_eq!(records(&text, split), records(&text, 0));
    }
}
