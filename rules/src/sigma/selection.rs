//! Selections: maps, lists of maps, lists of values and keywords become formulas.

use watchbell_event::yaml::{Entry, Node, Value};

use super::expand::Placeholders;
use super::modifier::{Key, Operator};
use crate::expression::Expression;
use crate::formula::{Check, Field, Formula, Threshold, network, number};
use crate::pattern::{self, Pattern, Piece};
use crate::problems::Problems;
use crate::text::{float_text, number_text};

/// Longest value that a field is compared to, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 8 << 10;

/// Reads one selection, whose name stands in `line`.
pub(super) fn read(
    node: &Node,
    line: usize,
    placeholders: &mut Placeholders<'_>,
    problems: &mut Problems<'_>,
) -> Option<Formula> {
    let Value::Sequence(items) = &node.value else {
        return alternative(node, line, placeholders, problems);
    };
    if items.is_empty() {
        problems.add(line, "the selection is an empty list");
        return None;
    }
    let parts = items.iter().map(|item| alternative(item, item.line, placeholders, problems));
    let parts: Vec<_> = parts.collect();
    Some(Formula::Any(parts.into_iter().collect::<Option<_>>()?))
}

/// One member of a list of alternatives, or the only one: a map or a keyword.
fn alternative(
    node: &Node,
    line: usize,
    placeholders: &mut Placeholders<'_>,
    problems: &mut Problems<'_>,
) -> Option<Formula> {
    match &node.value {
        Value::Mapping(entries) if entries.is_empty() => {
            problems.add(line, "the selection is an empty mapping");
            None
        }
        Value::Mapping(entries) => {
            let parts: Vec<_> = entries.iter().map(|entry| item(entry, placeholders, problems)).collect();
            Some(Formula::All(parts.into_iter().collect::<Option<_>>()?))
        }
        Value::Sequence(_) => {
            problems.add(node.line, "a list within a list is neither a map nor a keyword");
            None
        }
        _ => {
            let key = problems.check(line, Key::read(""))?;
            problems.check(node.line, comparison(&key, node))
        }
    }
}

/// One field with its modifiers and values.
fn item(entry: &Entry, placeholders: &mut Placeholders<'_>, problems: &mut Problems<'_>) -> Option<Formula> {
    let key =
        problems.check(entry.line, Key::read(&entry.key).map_err(|reason| named(&entry.key, &reason)))?;
    let values = entry.value.items().unwrap_or(std::slice::from_ref(&entry.value));
    if values.is_empty() {
        problems.add(entry.line, named(&entry.key, "an empty list matches nothing"));
        return None;
    }
    if key.operator == Operator::Exists && values.len() > 1 {
        problems.add(entry.line, named(&entry.key, "modifier \"exists\" takes one value, true or false"));
        return None;
    }
    let mut parts = Vec::new();
    for value in values {
        let compared = comparisons(&key, value, placeholders).map_err(|reason| named(&entry.key, &reason));
        parts.push(problems.check(value.line, compared));
    }
    let parts = parts.into_iter().collect::<Option<Vec<_>>>()?.concat();
    let formula = if key.all { Formula::All(parts) } else { Formula::Any(parts) };
    Some(if key.negated { formula.negate() } else { formula })
}

fn named(key: &str, reason: &str) -> String {
    let shown: String = key.chars().take(100).collect();
    format!("{shown}: {reason}")
}

/// The tests that compare the field to one value, which may name lists.
fn comparisons(key: &Key, value: &Node, placeholders: &mut Placeholders<'_>) -> Result<Vec<Formula>, String> {
    let Value::String(text) = &value.value else { return comparison(key, value).map(|test| vec![test]) };
    if !key.expand {
        return comparison(key, value).map(|test| vec![test]);
    }
    let expanded = placeholders.expand(text)?;
    if expanded.is_empty() {
        // Of an empty list no value equals any, and not all of them either.
        return Ok(vec![Formula::Any(Vec::new())]);
    }
    let node = |text| Node { line: value.line, value: Value::String(text) };
    expanded.into_iter().map(|text| comparison(key, &node(text))).collect()
}

/// The test that compares the field to one value.
fn comparison(key: &Key, value: &Node) -> Result<Formula, String> {
    let field = key.field.clone();
    let operator = key.operator;
    let test = |check| Ok(Formula::test(field.clone(), check));
    if value.value == Value::Null {
        return match (operator, &key.field) {
            (Operator::Equals, Field::Path(_)) => Ok(null_or_missing(&field)),
            (Operator::Equals, Field::Anywhere) => Err("a keyword cannot be null".to_owned()),
            _ => Err(format!("modifier {:?} cannot compare to null", operator.name())),
        };
    }
    let Some(text) = canonical_text(value) else {
        return Err(format!("a value must be text, a number, true, false or null, not {}", value.kind()));
    };
    if text.len() > MAX_VALUE_BYTES {
        return Err(format!("a value is longer than {MAX_VALUE_BYTES} bytes"));
    }
    match operator {
        Operator::Equals | Operator::Contains | Operator::StartsWith | Operator::EndsWith => {
            test(text_check(key, pieces(value, text)))
        }
        Operator::Expression(flags) => test(Check::Expression(Expression::new(&text, flags)?)),
        Operator::Network => match network(&text) {
            Some(network) => test(Check::Network(network)),
            None => Err(format!("{text:?} is not a block of addresses such as 10.0.0.0/8")),
        },
        Operator::Compare(order) => match number(&text).and_then(Threshold::new) {
            Some(threshold) => test(Check::Compare(order, threshold)),
            None => Err(format!("modifier {:?} needs a number, not {text:?}", operator.name())),
        },
        Operator::Exists => {
            let exists = Formula::test(field.clone(), Check::Exists);
            match text.to_ascii_lowercase().as_str() {
                "true" | "yes" => Ok(exists),
                "false" | "no" => Ok(exists.negate()),
                _ => Err(format!("modifier \"exists\" takes true or false, not {text:?}")),
            }
        }
    }
}

fn null_or_missing(field: &Field) -> Formula {
    let null = Formula::test(field.clone(), Check::Null);
    let missing = Formula::test(field.clone(), Check::Exists).negate();
    Formula::Any(vec![null, missing])
}

/// The value's text, by which values of different types are compared.
fn canonical_text(value: &Node) -> Option<String> {
    match &value.value {
        Value::Float(number, _) => Some(float_text(*number)),
        Value::Integer(_) => value.scalar_text().map(|text| number_text(&text).into_owned()),
        _ => value.scalar_text(),
    }
}

/// Text may hold wildcards; numbers and true and false do not.
fn pieces(value: &Node, text: String) -> Vec<Piece> {
    match value.value {
        Value::String(_) => pattern::parse(&text),
        _ => vec![Piece::Literal(text)],
    }
}

/// Puts the wildcards of the operator around the pieces. A keyword is found anywhere within a value.
fn text_check(key: &Key, mut pieces: Vec<Piece>) -> Check {
    let keyword = key.operator == Operator::Equals && key.field == Field::Anywhere;
    if matches!(key.operator, Operator::Contains | Operator::EndsWith) || keyword {
        pieces.insert(0, Piece::AnyText);
    }
    if matches!(key.operator, Operator::Contains | Operator::StartsWith) || keyword {
        pieces.push(Piece::AnyText);
    }
    match Pattern::new(pieces, key.cased) {
        Pattern::Any => Check::Any,
        pattern if key.cased => Check::Cased(pattern),
        pattern => Check::Folded(pattern),
    }
}
