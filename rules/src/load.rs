//! Reads rule files: all rules that are sound, and all that is wrong with the others.

use std::collections::HashMap;
use std::sync::Arc;

use watchbell_event::yaml::{self, Value};

use crate::falco;
use crate::problems::{LoadError, Problems};
use crate::rule::Rule;
use crate::sigma;

/// Most rules in one set.
pub(crate) const MAX_RULES: usize = 50_000;
/// Most comparisons in one set, over all rules.
pub(crate) const MAX_FORMULA_NODES: usize = 2_000_000;
/// Memory that the regular expressions of one set may take, in bytes.
pub(crate) const MAX_EXPRESSION_BYTES: usize = 256 << 20;

/// What came of reading rule files.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The rules that are sound.
    pub rules: Vec<Rule>,
    /// What is wrong with the others.
    pub errors: Vec<LoadError>,
}

/// Reads files, given as name and text. Each rule loads or is refused on its own; a file that is not YAML is
/// refused as a whole. Of two rules with one id, the second is refused.
#[must_use]
pub fn load(files: &[(String, String)]) -> Loaded {
    let mut loaded = Loaded::default();
    let mut totals = Totals::default();
    // Lists and macros of Falco files serve the files after them, so their rules are made at the end.
    let mut falco = falco::Collector::default();
    for (name, text) in files {
        let mut problems = Problems::new(name);
        for rule in read_file(text, &mut falco, &mut problems) {
            match totals.admit(&rule) {
                Ok(()) => loaded.rules.push(rule),
                Err(reason) => problems.add(rule.line, reason),
            }
        }
        loaded.errors.extend(problems.into_errors());
    }
    let (rules, errors) = falco.finish();
    loaded.errors.extend(errors);
    for rule in rules {
        match totals.admit(&rule) {
            Ok(()) => loaded.rules.push(rule),
            Err(reason) => {
                loaded.errors.push(LoadError { file: rule.file.to_string(), line: rule.line, reason });
            }
        }
    }
    loaded
}

/// Puts rules over others: where both have a rule of one key, the one of `over` is kept.
#[must_use]
pub fn override_rules(base: Vec<Rule>, over: Vec<Rule>) -> Vec<Rule> {
    let mut rules = over;
    let keys: std::collections::HashSet<_> = rules.iter().map(|rule| rule.key.clone()).collect();
    rules.extend(base.into_iter().filter(|rule| !keys.contains(&rule.key)));
    rules
}

fn read_file(text: &str, falco: &mut falco::Collector, problems: &mut Problems<'_>) -> Vec<Rule> {
    let documents = match yaml::parse(text).or_else(|error| falco::parse_leniently(text).ok_or(error)) {
        Ok(documents) => documents,
        Err(error) => {
            problems.add(error.line, error.reason);
            return Vec::new();
        }
    };
    let mut documents = documents.iter().filter(|document| document.value != Value::Null).peekable();
    if documents.peek().is_none() {
        problems.add(0, "the file holds no rule");
    }
    let mut rules = Vec::new();
    for document in documents {
        match document.items() {
            Some(items) => falco.read(items, problems),
            None => rules.extend(sigma::read(document, problems)),
        }
    }
    rules
}

/// What a set has used of its limits.
#[derive(Default)]
struct Totals {
    keys: HashMap<Arc<str>, (Arc<str>, usize)>,
    nodes: usize,
    expression_bytes: usize,
}

impl Totals {
    fn admit(&mut self, rule: &Rule) -> Result<(), String> {
        if let Some((file, line)) = self.keys.get(&rule.key) {
            return Err(format!("a rule with the id {:?} is already in {file}, line {line}", rule.key));
        }
        if self.keys.len() >= MAX_RULES {
            return Err(format!("more than {MAX_RULES} rules"));
        }
        let nodes = self.nodes + rule.formula.size();
        if nodes > MAX_FORMULA_NODES {
            return Err(format!("more than {MAX_FORMULA_NODES} comparisons in all rules together"));
        }
        let expression_bytes = self.expression_bytes + rule.formula.expression_bytes();
        if expression_bytes > MAX_EXPRESSION_BYTES {
            return Err(format!(
                "the regular expressions of all rules together take more than {MAX_EXPRESSION_BYTES} bytes"
            ));
        }
        (self.nodes, self.expression_bytes) = (nodes, expression_bytes);
        self.keys.insert(rule.key.clone(), (rule.file.clone(), rule.line));
        Ok(())
    }
}
