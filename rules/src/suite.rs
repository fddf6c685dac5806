//! The correlation suite: rules, events with times, and the alerts that must come of them. The format is
//! described in `correlation-suite/README.md`; any engine can read it.

mod read;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use watchbell_event::yaml::{self, Node};
use watchbell_event::{EventId, Position, Timestamp};

use crate::compile::RuleSet;
use crate::correlate::{Correlated, CorrelationConfig, Correlator, Observed};
use crate::evaluate::Evaluator;
use crate::lists::Lists;
use crate::load::load;
use crate::problems::LoadError;
use crate::rule::Rule;
use crate::samples::format_of;
use crate::text::float_text;

/// A file of the folder `correlation-suite`.
macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("../correlation-suite/", $name)))
    };
}

/// Name and text of every file of the suite.
pub const FILES: [(&str, &str); 8] = [
    file!("chains.yml"),
    file!("counts.yml"),
    file!("groups.yml"),
    file!("limits.yml"),
    file!("new-values.yml"),
    file!("numbers.yml"),
    file!("temporal.yml"),
    file!("time.yml"),
];

/// What came of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The case's title.
    pub title: String,
    /// The line it begins on.
    pub line: usize,
    /// What was expected and did not come (`-`), and what came unexpectedly (`+`); empty if the case passed.
    pub differences: Vec<String>,
}

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    title: String,
    line: usize,
    config: CorrelationConfig,
    /// None if the rules are in a file of their own.
    rules: Option<String>,
    steps: Vec<Step>,
    expect: Vec<String>,
    /// Numbers that must be reached, such as that of late events.
    counts: BTreeMap<String, u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Event(Box<Event>),
    /// The engine is stopped and goes on from its snapshot.
    Restart,
}

#[derive(Clone, Debug)]
struct Event {
    name: String,
    time: Timestamp,
    received_at: Timestamp,
    partition: u32,
    cluster: Arc<str>,
    json: String,
}

/// Whether a file holds cases of the suite and not rules.
#[must_use]
pub fn is_suite(text: &str) -> bool {
    // Most files are rules, and need not be read for this.
    let may_be = text.lines().any(|line| line.starts_with("events:"));
    let documents = if may_be { yaml::parse(text).unwrap_or_default() } else { Vec::new() };
    documents.iter().any(|document| document.get("events").is_some() && document.get("rules").is_some())
}

/// Runs all cases of one file, given as its name and text.
///
/// # Errors
/// The first place that is not YAML or not a case.
pub fn run(file: &str, text: &str) -> Result<Vec<Outcome>, LoadError> {
    let cases = read::read(file, text)?;
    cases.into_iter().map(|case| case.run(file)).collect()
}

impl Case {
    /// Reads a case from a document.
    pub(crate) fn read(document: &Node) -> Result<Self, (usize, String)> {
        read::case(document)
    }

    fn run(self, file: &str) -> Result<Outcome, LoadError> {
        let error = |reason| LoadError { file: file.to_owned(), line: self.line, reason };
        let Some(rules) = &self.rules else { return Err(error("the case has no rules".to_owned())) };
        let loaded = load(&[(file.to_owned(), rules.clone())], &Lists::shipped());
        if let Some(first) = loaded.errors.first() {
            let (title, line, reason) = (&self.title, first.line, &first.reason);
            let reason = format!("a rule of the case {title:?} does not load: line {line}: {reason}");
            return Err(error(reason));
        }
        Ok(self.run_rules(&Arc::new(RuleSet::compile(loaded.rules))))
    }

    /// Whether an alert must come of it.
    pub(crate) fn expects_alerts(&self) -> bool {
        !self.expect.is_empty()
    }

    /// What comes of these rules.
    pub(crate) fn run_rules(&self, set: &Arc<RuleSet>) -> Outcome {
        let mut run = Run::new(Arc::clone(set), self.config.clone());
        for step in &self.steps {
            match step {
                Step::Event(event) => run.take(event),
                Step::Restart => run.restart(),
            }
        }
        run.finish();
        let mut differences = difference(&self.expect, &run.alerts);
        for (name, expect) in &self.counts {
            let found = run.counts().get(name.as_str()).copied().unwrap_or(0);
            if found != *expect {
                differences.extend([format!("- {name}: {expect}"), format!("+ {name}: {found}")]);
            }
        }
        Outcome { title: self.title.clone(), line: self.line, differences }
    }
}

/// One engine and what came out of it.
struct Run {
    set: Arc<RuleSet>,
    config: CorrelationConfig,
    evaluator: Evaluator,
    correlator: Correlator,
    names: Vec<String>,
    seen: HashSet<String>,
    offsets: BTreeMap<u32, u64>,
    alerts: Vec<String>,
    duplicates: u64,
}

impl Run {
    fn new(set: Arc<RuleSet>, config: CorrelationConfig) -> Self {
        Self {
            evaluator: Evaluator::new(Arc::clone(&set)),
            correlator: Correlator::new(Arc::clone(&set), config.clone()),
            set,
            config,
            names: Vec::new(),
            seen: HashSet::new(),
            offsets: BTreeMap::new(),
            alerts: Vec::new(),
            duplicates: 0,
        }
    }

    /// Duplicates are dropped before the log, so correlations never see them.
    fn take(&mut self, event: &Event) {
        if !self.seen.insert(event.name.clone()) {
            self.duplicates += 1;
            return;
        }
        self.names.push(event.name.clone());
        let offset = self.offsets.entry(event.partition).or_insert(0);
        let position = Position { partition: event.partition, offset: *offset };
        *offset += 1;
        let mut matches = Vec::new();
        let format = format_of(event.json.as_bytes());
        self.evaluator.matches_of(format, event.json.as_bytes(), &mut matches);
        for rule in matches.iter().filter(|rule| !self.set.is_silent(**rule)) {
            let time = Timestamp::event_time(Some(event.time), event.received_at);
            let (rule, name) = (self.name(*rule), event.name.as_str());
            self.alerts.push(alert(&rule, time, &[], None, &[name.to_owned()], 0, name));
        }
        let observed = Observed {
            cluster: &event.cluster,
            id: id(self.names.len() - 1),
            position,
            event_time: Timestamp::event_time(Some(event.time), event.received_at),
            received_at: event.received_at,
            history: false,
        };
        let mut found = Vec::new();
        self.correlator.take(&observed, &self.evaluator, &matches, &mut found);
        self.report(&found, &event.name);
    }

    fn finish(&mut self) {
        let mut found = Vec::new();
        self.correlator.finish(&mut found);
        self.report(&found, "end");
    }

    fn restart(&mut self) {
        let snapshot = self.correlator.snapshot();
        self.correlator = Correlator::new(Arc::clone(&self.set), self.config.clone());
        if let Err(error) = self.correlator.restore(&snapshot) {
            self.alerts.push(format!("the snapshot was not restored: {error}"));
        }
    }

    fn report(&mut self, found: &[Correlated], on: &str) {
        for correlated in found {
            let group: Vec<(&str, Option<&str>)> =
                correlated.group.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let events: Vec<String> =
                correlated.events.iter().map(|event| self.event_name(event.id)).collect();
            let (rule, value) = (self.name(correlated.rule), Some(correlated.value));
            let text =
                alert(&rule, correlated.window_end, &group, value, &events, correlated.events_beyond, on);
            self.alerts.push(text);
        }
    }

    fn counts(&self) -> BTreeMap<&'static str, u64> {
        let stats = self.correlator.stats();
        BTreeMap::from([
            ("duplicates", self.duplicates),
            ("late", self.correlator.late_events()),
            ("evicted-groups", stats.iter().map(|stats| stats.evicted_groups).sum()),
            ("evicted-entries", stats.iter().map(|stats| stats.evicted_entries).sum()),
        ])
    }

    fn name(&self, rule: usize) -> String {
        self.set.rules().get(rule).map(rule_name).unwrap_or_default()
    }

    fn event_name(&self, id: EventId) -> String {
        let number = usize::try_from(id.prefix()).unwrap_or(usize::MAX);
        self.names.get(number).cloned().unwrap_or_default()
    }
}

/// How alerts call a rule: its name, or else its id, or else its title.
fn rule_name(rule: &Rule) -> String {
    rule.name.as_ref().or(rule.id.as_ref()).cloned().unwrap_or_else(|| rule.title.to_string())
}

fn id(number: usize) -> EventId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    EventId(id)
}

/// An alert in one line, by which alerts are compared.
fn alert(
    rule: &str,
    at: Timestamp,
    group: &[(&str, Option<&str>)],
    value: Option<f64>,
    events: &[String],
    beyond: u64,
    on: &str,
) -> String {
    let mut text = format!("{rule} at {at} on {on}");
    for (name, value) in group {
        text += &format!(", {name}: {}", value.unwrap_or("null"));
    }
    if let Some(value) = value {
        text += &format!(", value {}", float_text(value));
    }
    text += &format!(", events {}", events.join(" "));
    if beyond > 0 {
        text += &format!(" and {beyond} more");
    }
    text
}

/// Lines that only one side has; and if all are the same, but in another order, all of them.
fn difference(expect: &[String], found: &[String]) -> Vec<String> {
    if expect == found {
        return Vec::new();
    }
    let mut missing = expect.to_vec();
    let mut surplus = found.to_vec();
    missing.retain(|line| match surplus.iter().position(|found| found == line) {
        Some(at) => {
            surplus.remove(at);
            false
        }
        None => true,
    });
    if missing.is_empty() && surplus.is_empty() {
        (missing, surplus) = (expect.to_vec(), found.to_vec());
    }
    let missing = missing.into_iter().map(|line| format!("- {line}"));
    missing.chain(surplus.into_iter().map(|line| format!("+ {line}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_the_suite_passes() {
        let mut failures = Vec::new();
        let mut cases = 0;
        for (name, text) in FILES {
            for outcome in run(name, text).unwrap() {
                cases += 1;
                if !outcome.differences.is_empty() {
                    let lines = outcome.differences.join("\n  ");
                    failures.push(format!("{name}:{}: {}\n  {lines}", outcome.line, outcome.title));
                }
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(cases >= 40, "only {cases} cases");
    }

    #[test]
    fn files_of_cases_are_told_from_rules() {
        for (name, text) in FILES {
            assert!(is_suite(text), "{name}");
        }
        for (name, text) in crate::library::files() {
            assert!(!is_suite(&text), "{name}");
        }
        for text in ["", "events:\n  - [", "title: x\nevents: [{}]\n", "rules: x\n"] {
            assert!(!is_suite(text), "{text}");
        }
    }

    #[test]
    fn a_wrong_expectation_is_shown_as_a_difference() {
        let (name, text) = FILES[1];
        let wrong = text.replacen("value: 3", "value: 4", 1);
        let outcomes = run(name, &wrong).unwrap();
        let differences: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.differences).collect();
        assert_eq!(differences.len(), 2, "{differences:?}");
        assert!(differences[0].starts_with("- ") && differences[0].contains("value 4"), "{differences:?}");
        assert!(differences[1].starts_with("+ ") && differences[1].contains("value 3"), "{differences:?}");
    }
}
