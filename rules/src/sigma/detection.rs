//! What the detection of a rule or a filter says, as a tree: before names of fields are mapped, lists are
//! looked up and modifiers are understood.

use watchbell_event::yaml::{Entry, Node, Value};

use super::binding::{self, Binding};
use crate::problems::Problems;

/// Selections by name, and conditions over them.
#[derive(Clone, Debug)]
pub(super) struct Detection {
    /// In the order written. One that could not be read has been reported; its name stays known, so that the
    /// condition does not report it once more.
    pub(super) selections: Vec<(String, Option<Selection>)>,
    /// With their lines; any of them must hold.
    pub(super) conditions: Vec<(usize, String)>,
}

/// Which events a selection selects.
#[derive(Clone, Debug)]
pub(super) enum Selection {
    /// Each of these.
    All(Vec<Selection>),
    /// At least one of these.
    Any(Vec<Selection>),
    /// One field with modifiers and values.
    Item(Item),
    /// Conditions on members of one array.
    Bound(Binding),
}

/// `field|modifier|modifier: values`.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The line of the key.
    pub(super) line: usize,
    /// The key as the rule writes it, for messages; empty for keywords without a key.
    pub(super) written: String,
    /// The name of the field; empty for keywords.
    pub(super) field: String,
    /// In the order written.
    pub(super) modifiers: Vec<String>,
    /// At least one.
    pub(super) values: Vec<Node>,
    /// It is about a member of an array, which `.` names.
    pub(super) in_member: bool,
    /// The steps of pipelines that have changed it.
    pub(super) applied: Vec<String>,
}

impl Detection {
    /// Reads a detection; entries named in `others` are not selections. None if there is nothing to decide
    /// with, which has been reported.
    pub(super) fn read(node: &Node, others: &[&str], problems: &mut Problems<'_>) -> Option<Self> {
        Self::read_at(node, others, 0, problems)
    }

    /// A detection of one selection.
    pub(super) fn of(line: usize, selection: Selection) -> Self {
        let name = "members".to_owned();
        Self { selections: vec![(name.clone(), Some(selection))], conditions: vec![(line, name)] }
    }

    /// Reads a detection within so many bound groups.
    pub(super) fn read_at(
        node: &Node,
        others: &[&str],
        depth: usize,
        problems: &mut Problems<'_>,
    ) -> Option<Self> {
        let Some(entries) = node.entries() else {
            problems.add(node.line, format!("detection must be a mapping, not {}", node.kind()));
            return None;
        };
        let mut selections = Vec::new();
        for entry in entries.iter().filter(|entry| !others.contains(&entry.key.as_str())) {
            match entry.key.as_str() {
                "condition" => {}
                "timeframe" => problems.add(
                    entry.line,
                    "timeframe belongs to the aggregations that Sigma removed; write a correlation rule with a \
                     timespan",
                ),
                name => {
                    let selection = Selection::read_at(&entry.value, entry.line, depth, problems);
                    selections.push((name.to_owned(), selection));
                }
            }
        }
        let Some(condition) = node.get("condition") else {
            problems.add(node.line, "detection has no condition");
            return None;
        };
        Some(Self { selections, conditions: conditions(condition, problems) })
    }
}

fn conditions(node: &Node, problems: &mut Problems<'_>) -> Vec<(usize, String)> {
    let listed = node.items().unwrap_or(std::slice::from_ref(node));
    if listed.is_empty() {
        problems.add(node.line, "the list of conditions is empty");
    }
    let mut conditions = Vec::new();
    for condition in listed {
        match condition.scalar_text() {
            Some(text) => conditions.push((condition.line, text)),
            None => {
                problems.add(condition.line, format!("a condition must be text, not {}", condition.kind()));
            }
        }
    }
    conditions
}

impl Selection {
    /// Reads one selection, whose name stands in `line`.
    pub(super) fn read(node: &Node, line: usize, problems: &mut Problems<'_>) -> Option<Self> {
        Self::read_at(node, line, 0, problems)
    }

    /// Reads one selection within so many bound groups.
    pub(super) fn read_at(
        node: &Node,
        line: usize,
        depth: usize,
        problems: &mut Problems<'_>,
    ) -> Option<Self> {
        let Value::Sequence(items) = &node.value else {
            return Self::alternative(node, line, depth, problems);
        };
        if items.is_empty() {
            problems.add(line, "the selection is an empty list");
            return None;
        }
        let parts = items.iter().map(|item| Self::alternative(item, item.line, depth, problems));
        let parts: Vec<_> = parts.collect();
        Some(Self::Any(parts.into_iter().collect::<Option<_>>()?))
    }

    /// One member of a list of alternatives, or the only one: a map or a keyword.
    fn alternative(node: &Node, line: usize, depth: usize, problems: &mut Problems<'_>) -> Option<Self> {
        match &node.value {
            Value::Mapping(entries) if entries.is_empty() => {
                problems.add(line, "the selection is an empty mapping");
                None
            }
            Value::Mapping(entries) => {
                let parts = entries.iter().map(|entry| Self::entry_at(&entry.key, entry, depth, problems));
                let parts: Vec<_> = parts.collect();
                Some(Self::All(parts.into_iter().collect::<Option<_>>()?))
            }
            Value::Sequence(_) => {
                problems.add(node.line, "a list within a list is neither a map nor a keyword");
                None
            }
            _ => Some(Self::Item(Item::keyword(node))),
        }
    }

    /// One field with its modifiers and values, or a bound group; `key` is the entry's, or what is left of it
    /// behind a selector.
    pub(super) fn entry_at(
        key: &str,
        entry: &Entry,
        depth: usize,
        problems: &mut Problems<'_>,
    ) -> Option<Self> {
        let field = key.split('|').next().unwrap_or_default();
        if let Some(at) = binding::selector(field) {
            let entry = Entry { key: key.to_owned(), line: entry.line, value: entry.value.clone() };
            return Binding::read(&entry, at, depth, problems).map(Self::Bound);
        }
        let values = entry.value.items().unwrap_or(std::slice::from_ref(&entry.value));
        if values.is_empty() {
            problems.add(entry.line, named(&entry.key, "an empty list matches nothing"));
            return None;
        }
        let mut parts = key.split('|').map(str::to_owned);
        Some(Self::Item(Item {
            line: entry.line,
            written: entry.key.clone(),
            field: parts.next().unwrap_or_default(),
            modifiers: parts.collect(),
            values: values.to_vec(),
            in_member: depth > 0,
            applied: Vec::new(),
        }))
    }
}

impl Selection {
    /// Calls `visit` with each item.
    pub(super) fn visit_items(&mut self, visit: &mut impl FnMut(&mut Item)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().for_each(|part| part.visit_items(visit)),
            Self::Item(item) => visit(item),
            Self::Bound(_) => {}
        }
    }

    /// Whether one of the items is such.
    pub(super) fn has_item(&self, holds: &impl Fn(&Item) -> bool) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.has_item(holds)),
            Self::Item(item) => holds(item),
            Self::Bound(_) => false,
        }
    }

    /// How many values its items have.
    pub(super) fn count_values(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::count_values).sum(),
            Self::Item(item) => item.values.len(),
            Self::Bound(_) => 1,
        }
    }
}

impl Item {
    fn keyword(node: &Node) -> Self {
        Self {
            line: node.line,
            written: String::new(),
            field: String::new(),
            modifiers: Vec::new(),
            values: vec![node.clone()],
            in_member: false,
            applied: Vec::new(),
        }
    }
}

/// A reason with the key that it is about.
pub(super) fn named(key: &str, reason: &str) -> String {
    let shown: String = key.chars().take(100).collect();
    if shown.is_empty() { reason.to_owned() } else { format!("{shown}: {reason}") }
}
