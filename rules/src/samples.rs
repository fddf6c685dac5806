//! Samples of a rule: events it must and must not match, in `NAME.samples.yml` beside `NAME.yml`.
//!
//! ```yaml
//! event: {verb: get, objectRef: {resource: secrets, name: web}}
//! match:
//!   - {}
//!   - {verb: list, objectRef: {name: null}}
//! no-match:
//!   - {objectRef: {resource: pods}}
//! ```
//!
//! A sample says how it differs from the event above it: it is a JSON merge patch (RFC 7396), in which null
//! removes a key. Without `event` each sample is a whole event. A file may hold several such documents; in each,
//! `lists: {NAME: [VALUE, …]}` sets named lists for the whole file, so that samples do not depend on what an
//! operator keeps in them. An event that names its `event.dataset` is a log document, any other an audit event.
//! Documents with `events` are cases of correlations, in the format of
//! `correlation-suite/README.md`.

use std::sync::Arc;

use serde_json::Value as Json;
use watchbell_event::Format;
use watchbell_event::log::LogDocument;
use watchbell_event::yaml::{self, Entry, Node, Value};

use crate::problems::LoadError;
use crate::suite::{Case, Outcome};
use crate::{Evaluator, Lists, Rule, RuleSet, load};

/// Most text of all samples in one file, in bytes of JSON.
pub const MAX_SAMPLES_BYTES: usize = 64 << 20;

/// The samples of one rule file.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// In the order written.
    pub samples: Vec<Sample>,
    cases: Vec<Case>,
    lists: Vec<(String, Vec<String>)>,
}

/// What the rules do not do as their samples say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The line of the samples' file on which it is said.
    pub line: usize,
    /// The event as JSON, or the title of the case.
    pub what: String,
    /// What was expected and did not come (`-`), and what came unexpectedly (`+`).
    pub differences: Vec<String>,
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The line it begins on.
    pub line: usize,
    /// Whether the rule must match it.
    pub must_match: bool,
    /// The event as JSON.
    pub event: String,
}

/// The name of the file that holds the samples of the rules in `file`.
#[must_use]
pub fn file_of(file: &str) -> String {
    let stem = file.strip_suffix(".yml").or_else(|| file.strip_suffix(".yaml")).unwrap_or(file);
    format!("{stem}.samples.yml")
}

/// What an event of a sample is: one that names its `event.dataset` is a log document.
#[must_use]
pub fn format_of(event: &[u8]) -> Format {
    let is_log = LogDocument::parse(event).dataset.is_some();
    if is_log { Format::Log } else { Format::KubernetesAudit }
}

/// Whether a file of this name holds samples and not rules.
#[must_use]
pub fn is_sample_file(file: &str) -> bool {
    file.ends_with(".samples.yml")
}

/// Reads the samples of one rule file, given as their own file's name and text.
///
/// # Errors
/// The first place that is not YAML or not a sample, or the limit that they exceed.
pub fn read(file: &str, text: &str) -> Result<Samples, LoadError> {
    let error = |(line, reason)| LoadError { file: file.to_owned(), line, reason };
    let documents = yaml::parse(text).map_err(|failed| error((failed.line, failed.reason)))?;
    let mut samples = Samples::default();
    for document in documents.iter().filter(|document| document.value != Value::Null) {
        samples.add(document).map_err(error)?;
    }
    let mut bytes = 0;
    for sample in &samples.samples {
        bytes += sample.event.len();
        if bytes > MAX_SAMPLES_BYTES {
            let reason = format!("all samples together have more than {MAX_SAMPLES_BYTES} bytes");
            return Err(error((sample.line, reason)));
        }
    }
    Ok(samples)
}

impl Samples {
    /// How many there are, cases included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.samples.len() + self.cases.len()
    }

    /// How many demand a match, or an alert; or how many demand none.
    #[must_use]
    pub fn count_of(&self, must_match: bool) -> usize {
        let samples = self.samples.iter().filter(|sample| sample.must_match == must_match);
        let cases = self.cases.iter().filter(|case| case.expects_alerts() == must_match);
        samples.count() + cases.count()
    }

    /// What the rules of a file do wrong: of a sample's event one has to match, or none.
    #[must_use]
    pub fn failures(&self, rule_file: &str, text: &str, lists: &Lists) -> Vec<Failure> {
        let loaded = load(&[(rule_file.to_owned(), text.to_owned())], &self.lists_over(lists));
        self.failures_of(loaded.rules).collect()
    }

    /// What these rules do wrong.
    pub(crate) fn failures_of(&self, rules: Vec<Rule>) -> impl Iterator<Item = Failure> {
        let set = Arc::new(RuleSet::compile(rules));
        let mut evaluator = Evaluator::new(Arc::clone(&set));
        let mut matches = Vec::new();
        let samples = self.samples.iter().filter_map(move |sample| {
            let event = sample.event.as_bytes();
            evaluator.matches_of(format_of(event), event, &mut matches);
            (matches.is_empty() == sample.must_match).then(|| sample.failure())
        });
        let cases = self.cases.iter().filter_map(move |case| {
            let Outcome { line, title: what, differences } = case.run_rules(&set);
            (!differences.is_empty()).then_some(Failure { line, what, differences })
        });
        samples.chain(cases)
    }

    /// These lists, with those that the samples set.
    pub(crate) fn lists_over(&self, lists: &Lists) -> Lists {
        let mut lists = lists.clone();
        for (name, values) in &self.lists {
            // Names and values were checked when they were read.
            let _ = lists.override_with(name, values.clone());
        }
        lists
    }

    fn add(&mut self, document: &Node) -> Result<(), (usize, String)> {
        let Some(entries) = document.entries() else {
            let reason = "samples are a mapping with lists, event, match and no-match";
            return Err((document.line, reason.to_owned()));
        };
        if document.get("events").is_some() {
            self.cases.push(Case::read(document)?);
            return Ok(());
        }
        let event = document.get("event").map(json);
        for entry in entries {
            match entry.key.as_str() {
                "event" => {}
                "lists" => self.add_lists(entry)?,
                "match" => self.add_events(entry, true, event.as_ref())?,
                "no-match" => self.add_events(entry, false, event.as_ref())?,
                key => {
                    let reason = format!("unknown key {key:?}; known: lists, event, match, no-match");
                    return Err((entry.line, reason));
                }
            }
        }
        Ok(())
    }

    fn add_lists(&mut self, entry: &Entry) -> Result<(), (usize, String)> {
        for list in entry.value.entries().unwrap_or_default() {
            let values = list.value.items().unwrap_or(std::slice::from_ref(&list.value));
            let values: Vec<String> = values.iter().filter_map(Node::scalar_text).collect();
            let checked = Lists::default().override_with(&list.key, values.clone());
            checked.map_err(|reason| (list.line, reason))?;
            self.lists.push((list.key.clone(), values));
        }
        Ok(())
    }

    fn add_events(
        &mut self,
        entry: &Entry,
        must_match: bool,
        event: Option<&Json>,
    ) -> Result<(), (usize, String)> {
        let Some(items) = entry.value.items() else {
            return Err((entry.line, format!("{} takes a list of events", entry.key)));
        };
        for item in items {
            if item.entries().is_none() {
                return Err((item.line, format!("a sample is a mapping, not {}", item.kind())));
            }
            let sample = match event {
                None => json(item),
                Some(event) => merge(event.clone(), json(item)),
            };
            self.samples.push(Sample { line: item.line, must_match, event: sample.to_string() });
        }
        Ok(())
    }
}

impl Sample {
    fn failure(&self) -> Failure {
        let name = |matches| if matches { "match" } else { "no-match" };
        let differences =
            vec![format!("- {}", name(self.must_match)), format!("+ {}", name(!self.must_match))];
        Failure { line: self.line, what: self.event.clone(), differences }
    }
}

/// Applies a JSON merge patch.
pub(crate) fn merge(target: Json, patch: Json) -> Json {
    let Json::Object(changes) = patch else { return patch };
    let Json::Object(mut members) = target else {
        return merge(Json::Object(serde_json::Map::new()), Json::Object(changes));
    };
    for (key, change) in changes {
        let member = members.remove(&key).unwrap_or(Json::Null);
        if !change.is_null() {
            members.insert(key, merge(member, change));
        }
    }
    Json::Object(members)
}

/// A YAML value as JSON.
pub(crate) fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Integer(number, _) => (*number).into(),
        Value::Float(number, written) => written.parse::<u64>().map_or_else(|_| (*number).into(), Json::from),
        Value::String(text) => text.as_str().into(),
        Value::Sequence(items) => items.iter().map(json).collect(),
        Value::Mapping(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_says_how_it_differs_from_the_event_above_it() {
        let text = "event: {a: {b: 1, c: 2}, d: [1, 2]}\nmatch:\n  - {}\n  - {a: {b: null}, d: [3]}\n\
                    no-match:\n  - {a: 7}\n---\nmatch:\n  - {e: null, f: {g: null}}\n";
        let samples = read("x.samples.yml", text).unwrap().samples;
        let read: Vec<_> = samples.iter().map(|sample| (sample.line, sample.event.as_str())).collect();
        let expect = [
            (3, r#"{"a":{"b":1,"c":2},"d":[1,2]}"#),
            (4, r#"{"a":{"c":2},"d":[3]}"#),
            (6, r#"{"a":7,"d":[1,2]}"#),
            (9, r#"{"e":null,"f":{"g":null}}"#),
        ];
        assert_eq!(read, expect);
        assert_eq!(
            samples.iter().map(|sample| sample.must_match).collect::<Vec<_>>(),
            [true, true, false, true]
        );
    }

    #[test]
    fn what_is_not_a_sample_is_named_with_its_line() {
        let many = format!(
            "event: {{a: {}}}\nmatch:\n{}",
            "x".repeat(1 << 20),
            "  - {}\n".repeat(MAX_SAMPLES_BYTES >> 20)
        );
        for (text, line, reason) in [
            ("match: [{}]\nmach: []\n", 2, "unknown key \"mach\""),
            ("match: {}\n", 1, "takes a list"),
            ("match:\n  - x\n", 2, "a mapping, not text"),
            ("- match\n", 1, "with lists, event, match and no-match"),
            ("match: [\n", 2, "not YAML"),
            ("lists:\n  a b: [x]\n", 2, "the name of a list"),
            (&many, 66, "more than 67108864 bytes"),
        ] {
            let error = read("x.samples.yml", text).unwrap_err();
            assert!(error.reason.contains(reason), "{text:.40}: {error}");
            assert_eq!(error.line, line, "{text:.40}: {error}");
        }
    }

    #[test]
    fn samples_may_set_named_lists() {
        let rule = "title: x\ndetection:\n  a: {'user|expand': '%known_users%'}\n  condition: not a\n";
        let text = "match: [{user: bob}]\nno-match: [{user: alice}]\n";
        let count = |text: &str| {
            read("x.samples.yml", text).unwrap().failures("x.yml", rule, &Lists::shipped()).len()
        };
        assert_eq!(count(&format!("lists: {{known_users: [alice]}}\n{text}")), 0);
        assert_eq!(count(&format!("lists: {{known_users: [bob]}}\n{text}")), 2);
    }

    #[test]
    fn samples_stand_beside_their_rules() {
        assert_eq!(file_of("exec/exec.yml"), "exec/exec.samples.yml");
        assert_eq!(file_of("exec.yaml"), "exec.samples.yml");
        assert!(is_sample_file("exec.samples.yml") && !is_sample_file("samples.yml"));
    }
}
