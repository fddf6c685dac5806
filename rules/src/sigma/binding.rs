//! Array matching: a key such as `rules[any]` binds conditions to one member of an array.
//!
//! `[any]`, `[all]`, `[all_or_empty]` and `[none]` say how many members must satisfy the conditions, `[N]` which one
//! (negative numbers count from the end). The conditions are a mapping, a list of mappings, a detection of its
//! own with a `condition`, or values for the members themselves; `.` names the member itself.

use watchbell_event::yaml::{Entry, Node, Value};

use super::detection::{Detection, Selection, named};
use super::modifier::field;
use crate::formula::{Check, Field, Formula, Members, Which};
use crate::problems::Problems;

/// Deepest nesting of bound groups.
pub(crate) const MAX_BINDING_DEPTH: usize = 8;

/// Conditions on members of one array.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) line: usize,
    /// The key as the rule writes it, for messages.
    pub(super) written: String,
    path: String,
    quantifier: Quantifier,
    /// The array is a member of another one.
    in_member: bool,
    pub(super) body: Detection,
}

/// Which members must satisfy the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    Any,
    /// Each, and there is one.
    All,
    AllOrEmpty,
    None,
    At(i32),
}

/// Where a key's name of a field has its first selector, if it has one; `\[` is a bracket like any other.
pub(super) fn selector(field: &str) -> Option<usize> {
    let brackets = field.match_indices('[').map(|(at, _)| at);
    brackets.into_iter().find(|at| !field[..*at].ends_with('\\'))
}

impl Binding {
    /// Reads an entry whose key has a selector at `at`.
    pub(super) fn read(entry: &Entry, at: usize, depth: usize, problems: &mut Problems<'_>) -> Option<Self> {
        let told = |reason: &str| named(&entry.key, reason);
        if depth >= MAX_BINDING_DEPTH {
            problems.add(entry.line, told(&format!("arrays are bound more than {MAX_BINDING_DEPTH} deep")));
            return None;
        }
        let (path, selector) = entry.key.split_at(at);
        let Some((selector, rest)) = selector.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
            problems.add(entry.line, told("a bracket is not closed"));
            return None;
        };
        let quantifier = problems.check(entry.line, quantifier(selector).map_err(|reason| told(&reason)))?;
        let body = match rest.strip_prefix('.') {
            Some(rest) => {
                Some(Detection::of(entry.line, Selection::entry_at(rest, entry, depth + 1, problems)?))
            }
            None if rest.starts_with('[') => {
                problems
                    .add(entry.line, told("two selectors stand in a row; members of members are members"));
                None
            }
            None if is_group(&entry.value) && rest.is_empty() => {
                group(&entry.value, entry.line, depth + 1, problems)
            }
            None => {
                let key = format!(".{rest}");
                Some(Detection::of(entry.line, Selection::entry_at(&key, entry, depth + 1, problems)?))
            }
        };
        let (line, written, path) = (entry.line, entry.key.clone(), path.to_owned());
        Some(Self { line, written, path, quantifier, in_member: depth > 0, body: body? })
    }

    /// What must hold of the array, where `body` is what must hold of a member.
    ///
    /// # Errors
    /// Why no array can stand at this path.
    pub(super) fn formula(&self, body: Formula) -> Result<Formula, String> {
        let field = field(&self.path, self.in_member)?;
        if field == Field::Anywhere {
            return Err("a selector needs the name of an array before it".to_owned());
        }
        let members = |which, body| {
            Formula::test(field.clone(), Check::Members(Members { which, body: std::sync::Arc::new(body) }))
        };
        let any = |body| members(Which::Any, body);
        Ok(match self.quantifier {
            Quantifier::Any => any(body),
            Quantifier::None => any(body).negate(),
            Quantifier::At(number) => members(Which::At(number), body),
            Quantifier::AllOrEmpty => any(body.negate()).negate(),
            Quantifier::All => Formula::All(vec![any(body.clone()), any(body.negate()).negate()]),
        })
    }
}

fn quantifier(selector: &str) -> Result<Quantifier, String> {
    Ok(match selector {
        "any" => Quantifier::Any,
        "all" => Quantifier::All,
        "all_or_empty" => Quantifier::AllOrEmpty,
        "none" => Quantifier::None,
        number => Quantifier::At(number.parse().map_err(|_| {
            let shown: String = number.chars().take(40).collect();
            format!("unknown selector [{shown}]; known: any, all, all_or_empty, none, and numbers")
        })?),
    })
}

/// Mappings, and lists of them, are conditions; anything else is what members are compared to.
fn is_group(value: &Node) -> bool {
    match &value.value {
        Value::Mapping(_) => true,
        Value::Sequence(items) => items.iter().any(|item| matches!(item.value, Value::Mapping(_))),
        _ => false,
    }
}

fn group(node: &Node, line: usize, depth: usize, problems: &mut Problems<'_>) -> Option<Detection> {
    if node.get("condition").is_some() {
        return Detection::read_at(node, &[], depth, problems);
    }
    Some(Detection::of(line, Selection::read_at(node, line, depth, problems)?))
}
