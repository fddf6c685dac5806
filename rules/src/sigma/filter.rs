//! Sigma filters: documents that narrow rules down from outside.
//!
//! ```yaml
//! title: Our deployment pipeline
//! logsource: {product: kubernetes, service: audit}
//! filter:
//!   rules: [6f3e2987-db24-4c78-a860-b4f4095a7095]   # ids or names; or `any`
//!   selection: {user.username: deployer}
//!   condition: not selection
//! ```

use std::sync::Arc;

use watchbell_event::yaml::Node;

use super::detection::Detection;
use super::expand::Placeholders;
use super::{log_source, selection, title};
use crate::lists::Lists;
use crate::problems::Problems;
use crate::rule::LogSource;

/// Most filters in one set.
pub(crate) const MAX_FILTERS: usize = 10_000;

/// A filter.
pub(crate) struct Filter {
    title: String,
    file: Arc<str>,
    log_source: LogSource,
    targets: Targets,
    pub(super) detection: Detection,
}

/// The rules that a filter is for.
enum Targets {
    /// All with a matching log source.
    Any,
    These(Vec<Target>),
}

/// A rule that a filter names.
struct Target {
    /// Its id or name.
    reference: String,
    line: usize,
    found: Found,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nowhere,
    WithAnotherLogSource,
    Applied,
}

impl Filter {
    /// Reads a document with `filter`. What is wrong goes to `problems`, and then there is none.
    pub(crate) fn read(document: &Node, lists: &Lists, problems: &mut Problems<'_>) -> Option<Self> {
        let before = problems.count();
        super::check_version(document, problems);
        let title = title(document, problems);
        let log_source = log_source(document, problems);
        if log_source == LogSource::default() {
            problems.add(document.line, "a filter needs a logsource, which that of its rules must match");
        }
        let node = document.get("filter")?;
        let targets = targets(node, problems);
        let detection = Detection::read(node, &["rules"], problems)?;
        if detection.conditions.len() != 1 {
            problems.add(node.line, "a filter has exactly one condition");
        }
        if problems.count() == before {
            // Whatever is wrong with it is the filter's mistake, not that of each rule it is for.
            selection::compile(&detection, &mut Placeholders::new(lists), problems);
        }
        if problems.count() > before {
            return None;
        }
        Some(Self { title: title?, file: problems.file().into(), log_source, targets: targets?, detection })
    }

    /// Whether it is for this rule; remembers that the rule was found.
    pub(super) fn is_for(&mut self, id: Option<&str>, name: Option<&str>, source: &LogSource) -> bool {
        let matches = self.log_source.matches(source);
        let Targets::These(targets) = &mut self.targets else { return matches };
        let mut is_named = false;
        for target in targets {
            if [id, name].contains(&Some(&*target.reference)) {
                is_named = true;
                target.found = match (matches, target.found) {
                    (true, _) | (false, Found::Applied) => Found::Applied,
                    (false, _) => Found::WithAnotherLogSource,
                };
            }
        }
        matches && is_named
    }

    /// What to call it in a message about a rule.
    pub(super) fn name(&self) -> String {
        format!("filter {:?} of {}", self.title, self.file)
    }

    /// The file it was read from.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// Reports the rules that it names and that it could not be applied to.
    pub(crate) fn report_unused(&self, problems: &mut Problems<'_>) {
        let Targets::These(targets) = &self.targets else { return };
        for Target { reference, line, found } in targets {
            let reason = match found {
                Found::Applied => continue,
                Found::Nowhere => "no rule that was loaded has this id or name",
                Found::WithAnotherLogSource => "the rule's logsource is not that of the filter",
            };
            problems.add(*line, format!("the filter names rule {reference:?}, but {reason}"));
        }
    }
}

impl LogSource {
    /// Whether another log source has all that this one asks for.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        let asks = |mine: &Option<String>, other: &Option<String>| mine.is_none() || mine == other;
        asks(&self.category, &other.category)
            && asks(&self.product, &other.product)
            && asks(&self.service, &other.service)
    }
}

fn targets(filter: &Node, problems: &mut Problems<'_>) -> Option<Targets> {
    let Some(rules) = filter.get("rules") else {
        problems.add(filter.line, "the filter has no rules; write their ids or names, or any");
        return None;
    };
    if rules.as_str().is_some_and(|text| text.eq_ignore_ascii_case("any")) {
        return Some(Targets::Any);
    }
    let items = rules.items().unwrap_or(std::slice::from_ref(rules));
    if items.is_empty() {
        problems.add(rules.line, "the filter names no rules; write any if it is for all");
    }
    let mut targets = Vec::new();
    for item in items {
        match item.scalar_text() {
            Some(reference) => targets.push(Target { reference, line: item.line, found: Found::Nowhere }),
            None => problems.add(item.line, format!("the id or name of a rule is text, not {}", item.kind())),
        }
    }
    Some(Targets::These(targets))
}
