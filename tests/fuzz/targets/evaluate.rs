//! Detection over arbitrary bytes with a fixed set of rules: the ones that ship, and some that use every
//! modifier.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use watchbell_event::{Detection, Position, Record};
use watchbell_fuzz::events::{envelope, spellings};
use watchbell_fuzz::verdicts;
use watchbell_rules::{
    CorrelationConfig, Detector, Evaluator, Lists, RuleSet, Verdict, explain, library, load,
};

const EVERY_MODIFIER: &str = include_str!("../seeds/rules/modifiers.yml");
/// Longest value of a label, in characters.
const MAX_LABEL_CHARACTERS: usize = 256;

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::new());
}

fuzz_target!(|data: &[u8]| STATE.with_borrow_mut(|state| state.check(data)));

/// The rules, compiled once; the used evaluator has seen all inputs before.
struct State {
    set: Arc<RuleSet>,
    used: Evaluator,
    detector: Detector,
}

impl State {
    fn new() -> Self {
        let mut files = library::files();
        files.push(("modifiers.yml".to_owned(), EVERY_MODIFIER.to_owned()));
        let loaded = load(&files, &Lists::shipped());
        assert_eq!(loaded.errors, []);
        let set = Arc::new(RuleSet::compile(loaded.rules));
        let detector = Detector::new(set.clone(), CorrelationConfig::default());
        Self { used: Evaluator::new(set.clone()), detector, set }
    }

    fn check(&mut self, data: &[u8]) {
        for event in data.split(|byte| *byte == b'\n').take(8) {
            let verdict = verdicts(&mut self.used, event);
            assert_eq!(
                verdict,
                verdicts(&mut Evaluator::new(self.set.clone()), event),
                "an earlier event shows"
            );
            let compact = spellings(event).into_iter().next();
            compact.iter().for_each(|event| self.agrees(event.as_bytes()));
            let mut spelt =
                spellings(event).into_iter().map(|event| verdicts(&mut self.used, event.as_bytes()));
            if let Some(first) = spelt.next() {
                assert!(verdict.is_some(), "an object was not read");
                assert!(spelt.all(|verdict| verdict == first), "the spelling of an event changes a verdict");
            }
            self.detects(event);
        }
    }

    /// The plain evaluator behind `rules explain` comes to the same verdicts; asked about some of the rules, as it
    /// is slow.
    fn agrees(&mut self, event: &[u8]) {
        let mut matches = Vec::new();
        if !self.used.matches(event, &mut matches) {
            return;
        }
        let some = (0..).zip(self.set.rules()).filter(|(index, _)| index % 16 == event.len() % 16);
        for (index, rule) in some.filter(|(_, rule)| !rule.is_correlation()) {
            let explained = explain(rule, event).map(|part| part.verdict == Verdict::Holds);
            assert_eq!(explained, Some(matches.contains(&index)), "{}", rule.title);
        }
    }

    /// One sound detection per match of a rule that makes alerts, and those of correlations.
    fn detects(&mut self, event: &[u8]) {
        let mut matches = Vec::new();
        self.used.matches(event, &mut matches);
        let loud = matches.iter().filter(|rule| !self.set.is_silent(**rule)).count();
        let mut detections: Vec<Detection> = Vec::new();
        self.detector.detect(&record(event), &mut detections);
        assert_eq!(detections.iter().filter(|detection| detection.correlation.is_none()).count(), loud);
        for detection in &detections {
            assert!(!detection.summary.chars().any(char::is_control), "{}", detection.summary);
            assert!(detection.labels.iter().all(|(_, value)| value.chars().count() <= MAX_LABEL_CHARACTERS));
        }
    }
}

fn record(event: &[u8]) -> Record {
    Record { position: Position { partition: 0, offset: 0 }, envelope: envelope(event) }
}
