//! When a step of a pipeline is made: conditions on the rule, on an item, on the name of a field.

use watchbell_event::yaml::{Node, Value};

use super::Draft;
use super::replace::Pattern;
use crate::formula::{Field, Formula};
use crate::pattern::{self, Piece};
use crate::rule::LogSource;
use crate::sigma::detection::Item;

/// Named conditions, and how they are joined.
#[derive(Debug)]
pub(super) struct Conditions<C> {
    pub(super) conditions: Vec<(String, C)>,
    /// Over tests of fields with the conditions' names.
    pub(super) joined: Formula,
}

impl<C> Conditions<C> {
    /// Whether they hold, as `holds` decides each; without any, they do.
    pub(super) fn hold(&self, holds: &impl Fn(&C) -> bool) -> bool {
        self.conditions.is_empty() || self.decide(&self.joined, holds)
    }

    fn decide(&self, formula: &Formula, holds: &impl Fn(&C) -> bool) -> bool {
        match formula {
            Formula::All(parts) => parts.iter().all(|part| self.decide(part, holds)),
            Formula::Any(parts) => parts.iter().any(|part| self.decide(part, holds)),
            Formula::Not(part) => !self.decide(part, holds),
            Formula::Test(test) => match &test.field {
                Field::Path(name) => {
                    let found = self.conditions.iter().find(|(known, _)| **known == **name);
                    found.is_some_and(|(_, condition)| holds(condition))
                }
                Field::Anywhere => false,
            },
        }
    }
}

/// A condition on a rule.
#[derive(Debug)]
pub(super) enum RuleCondition {
    LogSource(LogSource),
    HasField(String),
    HasItem(String, String),
    Tag(String),
    Attribute {
        name: String,
        value: String,
        holds: Relation,
    },
    StepApplied(String),
    /// Whether it is a rule rather than a correlation.
    IsRule(bool),
}

/// How an attribute compares to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    In,
    NotIn,
}

/// A condition on an item.
#[derive(Debug)]
pub(super) enum ItemCondition {
    /// Some value, or each, is text that begins so and, where negated, does not.
    MatchString {
        pattern: Pattern,
        negated: bool,
        all: bool,
    },
    MatchValue {
        value: String,
        all: bool,
    },
    HasWildcard {
        all: bool,
    },
    IsNull {
        all: bool,
    },
    StepApplied(String),
}

/// A condition on the name of a field.
#[derive(Debug)]
pub(super) enum FieldCondition {
    Include(Fields),
    Exclude(Fields),
    StepApplied(String),
}

/// Names of fields.
#[derive(Debug)]
pub(super) enum Fields {
    Plain(Vec<String>),
    Expressions(Vec<Pattern>),
}

impl RuleCondition {
    pub(super) fn holds(&self, draft: &Draft<'_>, applied: &[&str]) -> bool {
        match self {
            Self::LogSource(source) => source.matches(&draft.log_source),
            Self::HasField(field) => has_item(draft, &|item| item.field == *field),
            Self::HasItem(field, value) => has_item(draft, &|item| {
                let is_value = |node: &Node| node.scalar_text().is_some_and(|text| text == *value);
                item.field == *field && item.values.iter().any(is_value)
            }),
            Self::Tag(tag) => attribute(draft.document, "tags").iter().any(|known| known == tag),
            Self::Attribute { name, value, holds } => {
                let values = attribute(draft.document, name);
                let is_list = draft.document.get(name).is_some_and(|node| node.items().is_some());
                let has = values.iter().any(|known| known == value);
                match holds {
                    Relation::Equal => has && !is_list,
                    Relation::NotEqual => !values.is_empty() && (is_list || !has),
                    Relation::In => has,
                    Relation::NotIn => !has,
                }
            }
            Self::StepApplied(id) => applied.contains(&id.as_str()),
            Self::IsRule(rule) => *rule,
        }
    }
}

fn has_item(draft: &Draft<'_>, holds: &impl Fn(&Item) -> bool) -> bool {
    let selections = draft.detections.iter().flat_map(|detection| &detection.selections);
    selections.filter_map(|(_, selection)| selection.as_ref()).any(|selection| selection.has_item(holds))
}

fn attribute(document: &Node, name: &str) -> Vec<String> {
    let Some(node) = document.get(name) else { return Vec::new() };
    let items = node.items().unwrap_or(std::slice::from_ref(node));
    items.iter().filter_map(Node::scalar_text).collect()
}

impl ItemCondition {
    pub(super) fn holds(&self, item: &Item) -> bool {
        let values = |all: bool, holds: &dyn Fn(&Node) -> bool| match all {
            true => item.values.iter().all(holds),
            false => item.values.iter().any(holds),
        };
        match self {
            Self::MatchString { pattern, negated, all } => values(*all, &|value| {
                value.as_str().is_some_and(|text| pattern.matches_at_start(text)) != *negated
            }),
            Self::MatchValue { value: expected, all } => {
                values(*all, &|value| value.scalar_text().is_some_and(|text| text == *expected))
            }
            Self::HasWildcard { all } => values(*all, &|value| {
                let wildcard = |piece: &Piece| !matches!(piece, Piece::Literal(_));
                value.as_str().is_some_and(|text| pattern::parse(text).iter().any(wildcard))
            }),
            Self::IsNull { all } => values(*all, &|value| value.value == Value::Null),
            Self::StepApplied(id) => item.applied.contains(id),
        }
    }
}

impl FieldCondition {
    pub(super) fn holds(&self, field: &str, item: &Item) -> bool {
        match self {
            Self::Include(fields) => fields.have(field),
            Self::Exclude(fields) => !fields.have(field),
            Self::StepApplied(id) => item.applied.contains(id),
        }
    }
}

impl Fields {
    fn have(&self, field: &str) -> bool {
        match self {
            _ if field.is_empty() => false,
            Self::Plain(names) => names.iter().any(|name| name == field),
            Self::Expressions(patterns) => patterns.iter().any(|pattern| pattern.matches_at_start(field)),
        }
    }
}
