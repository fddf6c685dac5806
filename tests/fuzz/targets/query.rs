//! The query language: any text is read or refused at a place within it; what is read can be written and
//! read again, and means the same for an event then.
//!
//! An input is a query, a byte 0xFF, and an event.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watchbell_event::predicate::{EventView, Predicate};
use watchbell_fuzz::events::envelope;
use watchbell_query::{ParseError, parse};

/// For inputs that bring no event.
const EVENT: &[u8] = include_bytes!("../seeds/query/event.json");

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0xFF);
    let Ok(text) = str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let envelope = envelope(parts.next().unwrap_or(EVENT));
    let event = EventView::new(&envelope);
    assert!(Predicate::All.matches(&event));
    match parse(text) {
        Ok(predicate) => written_and_read(text, &predicate, &event),
        Err(ParseError { position, reason }) => {
            assert!((1..=text.chars().count() + 1).contains(&position), "{position} of {text:?}");
            assert!(!reason.is_empty());
        }
    }
});

fn written_and_read(text: &str, predicate: &Predicate, event: &EventView<'_>) {
    let verdict = predicate.matches(event);
    assert_ne!(Predicate::Not(Box::new(predicate.clone())).matches(event), verdict);
    let written = predicate.to_string();
    let again = match parse(&written) {
        Ok(again) => again,
        // writing adds parentheses, which may be one level or byte too many
        Err(error) if error.reason.contains("at most") => return,
        Err(error) => panic!("{text:?} is written {written:?}: {error}"),
    };
    assert_eq!(again, *predicate, "{text:?} is written {written:?}");
    assert_eq!(again.to_string(), written);
    assert_eq!(again.matches(event), verdict);
    let denied = parse(&format!("NOT ({text})")).ok();
    assert!(denied.is_none_or(|denied| denied.matches(event) != verdict));
}
