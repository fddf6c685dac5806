//! Sigma and Falco rules: any text is read or refused with reasons; what is read means the same alone as in a set,
//! and for an event however it is written.
//!
//! An input is the text of a rule file, a byte 0xFF, and events, one a line.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use watchbell_fuzz::events::spellings;
use watchbell_fuzz::verdicts;
use watchbell_rules::{Evaluator, Lists, Loaded, RuleSet, Verdict, explain, load};

/// Events for inputs that bring none.
const EVENTS: &[u8] = include_bytes!("../seeds/evaluate/events.json");

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0xFF);
    let Ok(text) = str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let events = parts.next().unwrap_or(EVENTS);
    let loaded = read(text);
    if loaded.rules.is_empty() {
        return;
    }
    let set = Arc::new(RuleSet::compile(loaded.rules));
    let mut together = Evaluator::new(set.clone());
    let mut alone: Vec<_> =
        set.rules().iter().map(|rule| RuleSet::compile(vec![rule.clone()])).map(Arc::new).collect();
    let mut alone: Vec<Evaluator> = alone.drain(..).map(Evaluator::new).collect();
    for event in events.split(|byte| *byte == b'\n').take(8) {
        let Some(expect) = verdicts(&mut together, event) else { continue };
        let found =
            |evaluator: &mut Evaluator| verdicts(evaluator, event).is_some_and(|rules| !rules.is_empty());
        let singly: Vec<usize> = (0..alone.len()).filter(|rule| found(&mut alone[*rule])).collect();
        assert_eq!(expect, singly, "a rule's neighbours change its verdict");
        agree(&mut together, event);
        let mut spelt = spellings(event).into_iter().map(|event| verdicts(&mut together, event.as_bytes()));
        let first = spelt.next();
        assert!(spelt.all(|verdicts| Some(verdicts) == first), "the spelling of an event changes a verdict");
    }
    assert_eq!(together.not_evaluable().len(), set.rules().len());
});

/// The plain evaluator behind `rules explain` comes to the same verdicts. Of a key given twice each takes what it finds
/// first, so the event is written anew.
fn agree(together: &mut Evaluator, event: &[u8]) {
    let Some(event) = spellings(event).into_iter().next() else { return };
    let Some(expect) = verdicts(together, event.as_bytes()) else { return };
    let rules = Arc::clone(together.rules());
    for (index, rule) in rules.rules().iter().enumerate().filter(|(_, rule)| !rule.is_correlation()) {
        let explained = explain(rule, event.as_bytes()).map(|part| part.verdict == Verdict::Holds);
        assert_eq!(explained, Some(expect.contains(&index)), "{}", rule.title);
    }
}

/// Loads a file; every error names a line of it and fits in one.
fn read(text: &str) -> Loaded {
    let loaded = load(&[("fuzzed.yml".to_owned(), text.to_owned())], &Lists::shipped());
    // what is missing at the end can be missed on the line after it
    let lines = text.matches(['\n', '\r']).count() + 2;
    // a list may be a Falco file that only defines lists and macros
    let may_be_list = text.contains(['-', '[']);
    assert!(!loaded.rules.is_empty() || !loaded.errors.is_empty() || may_be_list, "refused without a reason");
    for error in &loaded.errors {
        assert!(error.line <= lines, "{error}");
        assert!(!error.reason.is_empty());
    }
    for rule in &loaded.rules {
        assert!((1..=lines).contains(&rule.line) && !rule.title.is_empty() && !rule.key.is_empty());
    }
    let again = load(&[("fuzzed.yml".to_owned(), text.to_owned())], &Lists::shipped());
    assert_eq!(format!("{:?}", again.rules), format!("{:?}", loaded.rules));
    loaded
}
