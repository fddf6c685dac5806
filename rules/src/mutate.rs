//! Do a rule's samples hold every condition of it? Removes one condition after the other: each value of a
//! list, each item of a selection, each alternative, each selection of the condition; of a correlation, each
//! field it groups by and each rule it counts. Some sample must fail then; a removal that none notices
//! *survives*, and the condition is wrong, useless or not tested.

use watchbell_event::yaml::{self, Entry, Node, Value};

use crate::formula::Formula;
use crate::lists::Lists;
use crate::problems::Problems;
use crate::rule::Rule;
use crate::samples::Samples;
use crate::sigma::{self, Pipeline};

/// The field of the selection that stands for one that is to be removed.
const MARK: &str = "removed";

/// A condition that can be removed without any sample noticing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// The line of the rule file it stands on.
    pub line: usize,
    /// What it is, such as `read: verb: watch`.
    pub condition: String,
}

/// The conditions of all rules in a file that its samples do not hold. What does not load is left out; see
/// [`load`](crate::load). A named list counts as one condition.
#[must_use]
pub fn survivors(file: &str, text: &str, lists: &Lists, samples: &Samples) -> Vec<Survivor> {
    let reader = Reader { file, lists: &samples.lists_over(lists), pipelines: Pipeline::built_in() };
    let documents = yaml::parse(text).unwrap_or_default();
    let rules: Vec<Option<Rule>> = documents.iter().map(|document| reader.rule(document)).collect();
    let mut survivors = Vec::new();
    for (at, document) in documents.iter().enumerate().filter(|(at, _)| rules[*at].is_some()) {
        for mutant in mutants(&reader, document) {
            let others = rules.iter().enumerate().filter(|(other, _)| *other != at);
            let mut rules: Vec<Rule> = others.filter_map(|(_, rule)| rule.clone()).collect();
            rules.push(mutant.rule);
            if samples.failures_of(rules).next().is_none() {
                survivors.push(mutant.removed);
            }
        }
    }
    survivors
}

/// A rule without one of its conditions.
struct Mutant {
    removed: Survivor,
    rule: Rule,
}

fn mutants(reader: &Reader<'_>, document: &Node) -> Vec<Mutant> {
    if let Some(correlation) = document.get("correlation").and_then(Node::entries) {
        return mutants_of_correlation(reader, document, correlation);
    }
    let Some(detection) = document.get("detection").and_then(Node::entries) else { return Vec::new() };
    let mut mutants = Vec::new();
    for (at, entry) in detection.iter().enumerate() {
        let changed = |value: Node| {
            let mut entries = detection.to_vec();
            entries.splice(at..=at, [Entry { value, ..entry.clone() }]);
            reader.rule(&with(document, "detection", &entries))
        };
        if entry.key != "condition" {
            let marked = changed(mark(entry.line)).and_then(|rule| without_marked(&rule));
            let removed = Survivor { line: entry.line, condition: entry.key.clone() };
            mutants.extend(marked.map(|rule| Mutant { removed, rule }));
        }
        for (removed, value) in without_one(&entry.value, &entry.key) {
            mutants.extend(changed(value).map(|rule| Mutant { removed, rule }));
        }
    }
    mutants
}

/// How the documents of one file are read.
struct Reader<'a> {
    file: &'a str,
    lists: &'a Lists,
    pipelines: Vec<Pipeline>,
}

impl Reader<'_> {
    fn rule(&self, document: &Node) -> Option<Rule> {
        sigma::read(document, self.lists, &self.pipelines, &mut [], &mut Problems::new(self.file))
    }
}

/// A correlation without one of the fields it groups by, or of the rules it counts.
fn mutants_of_correlation(reader: &Reader<'_>, document: &Node, correlation: &[Entry]) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for (at, entry) in correlation.iter().enumerate() {
        if !matches!(entry.key.as_str(), "group-by" | "rules") {
            continue;
        }
        let mut changed = |removed, value: Option<Node>| {
            let mut entries = correlation.to_vec();
            entries.splice(at..=at, value.map(|value| Entry { value, ..entry.clone() }));
            let rule = reader.rule(&with(document, "correlation", &entries));
            mutants.extend(rule.map(|rule| Mutant { removed, rule }));
        };
        if entry.key == "group-by" {
            changed(Survivor { line: entry.line, condition: entry.key.clone() }, None);
        }
        for (removed, value) in without_one(&entry.value, &entry.key) {
            changed(removed, Some(value));
        }
    }
    mutants
}

/// The document with other entries under one of its keys.
fn with(document: &Node, key: &str, changed: &[Entry]) -> Node {
    let mut document = document.clone();
    if let Value::Mapping(entries) = &mut document.value {
        for entry in entries.iter_mut().filter(|entry| entry.key == key) {
            entry.value.value = Value::Mapping(changed.to_vec());
        }
    }
    document
}

/// The node without one of its members, for each member at any depth that has others beside it.
fn without_one(node: &Node, place: &str) -> Vec<(Survivor, Node)> {
    let mut variants = Vec::new();
    let mut vary =
        |line, place: &str, member: &Node, alone: bool, rebuild: &dyn Fn(Option<Node>) -> Value| {
            let node = |member| Node { line: node.line, value: rebuild(member) };
            if !alone {
                variants.push((Survivor { line, condition: place.to_owned() }, node(None)));
            }
            let deeper = without_one(member, place);
            variants.extend(deeper.into_iter().map(|(removed, member)| (removed, node(Some(member)))));
        };
    match &node.value {
        Value::Sequence(items) => {
            for (at, item) in items.iter().enumerate() {
                let place = format!("{place}: {}", item.scalar_text().unwrap_or_else(|| format!("[{at}]")));
                vary(item.line, &place, item, items.len() == 1, &|item| {
                    let mut items = items.clone();
                    items.splice(at..=at, item);
                    Value::Sequence(items)
                });
            }
        }
        Value::Mapping(entries) => {
            for (at, entry) in entries.iter().enumerate() {
                let place = format!("{place}: {}", entry.key);
                vary(entry.line, &place, &entry.value, entries.len() == 1, &|value| {
                    let mut entries = entries.clone();
                    entries.splice(at..=at, value.map(|value| Entry { value, ..entry.clone() }));
                    Value::Mapping(entries)
                });
            }
        }
        _ => {}
    }
    variants
}

/// A selection that stands for one that is to be removed from the condition.
fn mark(line: usize) -> Node {
    let value = Node { line, value: Value::String("*".to_owned()) };
    let entry = Entry { key: MARK.to_owned(), line, value };
    Node { line, value: Value::Mapping(vec![entry]) }
}

/// The rule without what is marked; none if nothing is, or if nothing else is left.
fn without_marked(rule: &Rule) -> Option<Rule> {
    let formula = cut(&rule.formula)?;
    (formula != rule.formula).then(|| Rule { formula, ..rule.clone() })
}

/// A formula whose parts have all been cut is cut itself.
fn cut(formula: &Formula) -> Option<Formula> {
    let kept = |parts: &[Formula]| {
        let kept: Vec<_> = parts.iter().filter_map(cut).collect();
        (parts.is_empty() || !kept.is_empty()).then_some(kept)
    };
    match formula {
        Formula::All(parts) => Some(Formula::All(kept(parts)?)),
        Formula::Any(parts) => Some(Formula::Any(kept(parts)?)),
        Formula::Not(part) => Some(cut(part)?.negate()),
        Formula::Test(test) => (!test.field.is(MARK)).then(|| formula.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "\
title: x
detection:
  read:
    verb: [get, list]
    objectRef.resource: secrets
  alternatives:
    - a: 1
    - b: 2
  filter_machines: {user|startswith: 'system:'}
  filter_self: {user: me}
  condition: read and 1 of alternatives and not 1 of filter_*
";

    fn check(samples: &str, expect: &[&str]) {
        let samples = crate::samples::read("x.samples.yml", samples).unwrap();
        assert!(samples.failures("x.yml", RULE, &Lists::default()).is_empty());
        let found = survivors("x.yml", RULE, &Lists::default(), &samples);
        let found: Vec<_> =
            found.iter().map(|survivor| format!("{}: {}", survivor.line, survivor.condition)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn every_condition_that_no_sample_holds_survives() {
        let event = "event: {verb: get, objectRef: {resource: secrets}, a: 1, user: alice}\n";
        check(
            &format!("{event}match: [{{}}]\n"),
            &[
                "3: read",
                "4: read: verb",
                "4: read: verb: list",
                "5: read: objectRef.resource",
                "6: alternatives",
                "8: alternatives: [1]",
                "9: filter_machines",
                "10: filter_self",
            ],
        );
        check(
            &format!(
                "{event}match: [{{}}, {{verb: list}}, {{a: 2, b: 2}}]\nno-match: [{{verb: create}}, \
                 {{objectRef: {{resource: pods}}}}, {{a: 2}}, {{user: me}}, {{user: 'system:x'}}]\n"
            ),
            &[],
        );
    }

    #[test]
    fn a_rule_of_one_condition_has_nothing_to_remove() {
        let rule = "title: x\ndetection: {a: {b: c}, condition: a}\n";
        assert_eq!(survivors("x.yml", rule, &Lists::default(), &Samples::default()), []);
        assert_eq!(survivors("x.yml", "[", &Lists::default(), &Samples::default()), []);
    }
}
