//! Falco rule files: a YAML list of rules, macros and lists, which later items and later files may change.
//!
//! ```text
//! items ──Collector──► definitions by name ──parse──► Expression ──Expansion──► Formula ──► Rule
//! ```
//!
//! Only rules of the source `k8s_audit` become rules; every other one is refused by name.

mod comparison;
mod condition;
mod definition;
mod exception;
mod expand;
mod fields;
mod output;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use watchbell_event::Format;
use watchbell_event::yaml::{self, Node};

use crate::formula::Formula;
use crate::load::MAX_FORMULA_NODES;
use crate::problems::{LoadError, Problems};
use crate::rule::{Language, LogSource, Rule};
use condition::Expression;
use definition::{Change, Definition, Text};
use expand::{Expansion, Names};

pub(crate) use output::Template;

/// The source of the rules that are supported.
const SOURCE: &str = "k8s_audit";
/// What an item may be.
const KINDS: [&str; 5] = ["required_engine_version", "required_plugin_versions", "list", "macro", "rule"];

/// Reads a rule file that is not quite YAML, though Falco's parser takes it: lists whose closing bracket stands below
/// the key that they belong to, and not further in. None if this is not what is wrong with it.
pub(crate) fn parse_leniently(text: &str) -> Option<Vec<Node>> {
    let is_item = |line: &str| KINDS.iter().any(|kind| line.trim_start().starts_with(&format!("- {kind}:")));
    if !text.lines().any(is_item) {
        return None;
    }
    let mut indented = String::with_capacity(text.len() + 1024);
    for line in text.lines() {
        if line.trim_start().starts_with([']', '}']) {
            indented.push_str("    ");
        }
        indented.push_str(line);
        indented.push('\n');
    }
    yaml::parse(&indented).ok()
}

/// What the files read so far define.
#[derive(Default)]
pub(crate) struct Collector {
    lists: HashMap<String, Vec<String>>,
    macros: HashMap<String, String>,
    rules: Vec<Definition>,
    /// Where each rule stands among them.
    by_name: HashMap<String, usize>,
}

impl Collector {
    /// Reads the items of one document.
    pub(crate) fn read(&mut self, items: &[Node], problems: &mut Problems<'_>) {
        for item in items {
            let kind =
                item.entries().and_then(|_| KINDS.iter().find_map(|kind| Some((*kind, item.get(kind)?))));
            let read = match kind {
                None => {
                    let known = KINDS.join(", ");
                    Err((
                        item.line,
                        format!("an item of a Falco rule file is a mapping with one of: {known}"),
                    ))
                }
                // What a file requires shows in what it uses; that is checked.
                Some(("required_engine_version" | "required_plugin_versions", _)) => Ok(()),
                Some(("list", name)) => self.list(name, item),
                Some(("macro", name)) => self.named_macro(name, item),
                Some((_, name)) => self.rule(name, item, problems.file()),
            };
            if let Err((line, reason)) = read {
                problems.add(line, reason);
            }
        }
    }

    /// Makes rules of what was defined, and says what is wrong with the others.
    pub(crate) fn finish(self) -> (Vec<Rule>, Vec<LoadError>) {
        let macros = self.macros.iter().map(|(name, text)| (name.as_str(), condition::parse(text))).collect();
        let lists = self.lists.iter().map(|(name, items)| (name.as_str(), items.as_slice())).collect();
        let names = Names { macros, lists };
        let mut rules = Vec::new();
        let mut nodes = 0;
        let mut problems: BTreeMap<&str, Problems<'_>> = BTreeMap::new();
        for definition in self.rules.iter().filter(|definition| definition.enabled) {
            match compile(definition, &names, &mut nodes) {
                Ok(rule) => rules.push(rule),
                Err((file, line, reason)) => {
                    let reason = format!("rule {:?}: {reason}", definition.name);
                    problems.entry(file).or_insert_with(|| Problems::new(file)).add(line, reason);
                }
            }
        }
        (rules, problems.into_values().flat_map(Problems::into_errors).collect())
    }

    fn list(&mut self, name: &Node, item: &Node) -> Result<(), (usize, String)> {
        let name = definition::name(name)?;
        let items = item.get("items").ok_or((item.line, format!("list {name:?} has no items")))?;
        let items = definition::texts(items)?;
        match Change::of(item, "items")? {
            Change::Append => match self.lists.get_mut(&name) {
                Some(list) => list.extend(items),
                None => {
                    return Err((item.line, format!("there is no list {name:?} before this to append to")));
                }
            },
            Change::Define | Change::Replace => {
                self.lists.insert(name, items);
            }
        }
        Ok(())
    }

    fn named_macro(&mut self, name: &Node, item: &Node) -> Result<(), (usize, String)> {
        let name = definition::name(name)?;
        let condition = item.get("condition").and_then(Node::scalar_text);
        let condition = condition.ok_or((item.line, format!("macro {name:?} has no condition")))?;
        let whole = match Change::of(item, "condition")? {
            Change::Append => match self.macros.get(&name) {
                Some(before) => format!("{before} {condition}"),
                None => {
                    return Err((item.line, format!("there is no macro {name:?} before this to append to")));
                }
            },
            Change::Define | Change::Replace => condition,
        };
        if let Err(reason) = condition::parse(&whole) {
            return Err((item.line, format!("macro {name:?}: {reason}")));
        }
        self.macros.insert(name, whole);
        Ok(())
    }

    fn rule(&mut self, name: &Node, item: &Node, file: &str) -> Result<(), (usize, String)> {
        let name = definition::name(name)?;
        let known = self.by_name.get(&name).and_then(|at| self.rules.get_mut(*at));
        if definition::changes(item) {
            let Some(rule) = known else {
                return Err((item.line, format!("there is no rule {name:?} before this to change")));
            };
            return rule
                .change(item, file)
                .map_err(|(line, reason)| (line, format!("rule {name:?}: {reason}")));
        }
        let rule = Definition::read(&name, item, file)
            .map_err(|(line, reason)| (line, format!("rule {name:?}: {reason}")))?;
        match known {
            Some(known) => *known = rule,
            None => {
                self.by_name.insert(name, self.rules.len());
                self.rules.push(rule);
            }
        }
        Ok(())
    }
}

/// Makes a rule. What it comes to is added to `nodes`, which is bounded over all rules. An error names its file and
/// line.
fn compile<'a>(
    definition: &'a Definition,
    names: &Names<'_>,
    nodes: &mut usize,
) -> Result<Rule, (&'a str, usize, String)> {
    if definition.source != SOURCE {
        let reason = format!("source {} is not supported; only {SOURCE} is", definition.source);
        return Err((&definition.file, definition.line, reason));
    }
    let at = |text: &'a Text| move |reason| (text.file.as_str(), text.line, reason);
    let (formula, lists) = formula(definition, names, nodes).map_err(at(&definition.condition))?;
    let output = Template::parse(&definition.output.text).map_err(at(&definition.output))?;
    Ok(Rule {
        key: format!("{}: {}", definition.file, definition.name).into(),
        id: None,
        name: Some(definition.name.clone()),
        title: definition.name.as_str().into(),
        level: definition.level,
        status: None,
        description: definition.description.text.trim().to_owned(),
        author: None,
        references: Vec::new(),
        tags: definition.tags.iter().flat_map(|tag| tags(tag)).collect(),
        false_positives: Vec::new(),
        format: Format::KubernetesAudit,
        log_source: LogSource {
            product: Some("kubernetes".into()),
            service: Some("audit".into()),
            category: None,
        },
        group_by: Vec::new(),
        next_steps: Vec::new(),
        file: definition.file.as_str().into(),
        line: definition.line,
        lists,
        language: Language::Falco,
        output: Some(Arc::new(output)),
        formula,
        correlation: None,
    })
}

/// What must hold, and the lists that were put in.
fn formula(
    definition: &Definition,
    names: &Names<'_>,
    nodes: &mut usize,
) -> Result<(Formula, Vec<Arc<str>>), String> {
    if *nodes > MAX_FORMULA_NODES {
        return Err(format!("more than {MAX_FORMULA_NODES} comparisons in all rules together"));
    }
    let mut parts = vec![condition::parse(&definition.condition.text)?];
    for exception in &definition.exceptions {
        parts.extend(exception.expression()?.map(|exception| Expression::Not(Box::new(exception))));
    }
    let whole = Expression::All(parts);
    let mut expansion = Expansion::new(names);
    let formula = expansion.formula(&whole);
    *nodes += expansion.nodes();
    Ok((formula?, expansion.used_lists()))
}

/// A tag, and as Sigma writes it if it is one of ATT&CK (`T1552.007`, `mitre_credential_access`).
fn tags(tag: &str) -> Vec<Arc<str>> {
    let technique = tag.strip_prefix(['T', 't']).is_some_and(|number| {
        number.len() >= 4 && number.chars().all(|character| character.is_ascii_digit() || character == '.')
    });
    let attack = if technique {
        Some(format!("attack.{}", tag.to_lowercase()))
    } else {
        tag.strip_prefix("mitre_").map(|tactic| format!("attack.{}", tactic.replace('_', "-")))
    };
    std::iter::once(tag.into()).chain(attack.map(Arc::from)).collect()
}

#[cfg(test)]
mod tests;
