//! Detections become formulas: selections first, then conditions over them.

use watchbell_event::yaml::{Node, Value};

use super::condition::Selections;
use super::detection::{Detection, Item, Selection, named};
use super::encode;
use super::expand::Placeholders;
use super::modifier::{Key, Operator, field};
use crate::expression::Expression;
use crate::formula::{Check, Field, Formula, Place, Reference, exact_number, network};
use crate::moment::Unit;
use crate::pattern::{Pattern, Piece};
use crate::problems::Problems;
use crate::text::number_text;

/// Longest value that a field is compared to, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 8 << 10;

/// What must hold for the detection to match. What is wrong goes to `problems`.
pub(super) fn compile(
    detection: &Detection,
    placeholders: &mut Placeholders<'_>,
    problems: &mut Problems<'_>,
) -> Formula {
    let mut selections = Selections::default();
    for (name, selection) in &detection.selections {
        let formula = selection.as_ref().and_then(|selection| formula(selection, placeholders, problems));
        selections.add(name, formula);
    }
    let mut parts = Vec::new();
    for (line, condition) in &detection.conditions {
        parts.extend(problems.check(*line, selections.resolve(condition)));
    }
    Formula::Any(parts)
}

fn formula(
    selection: &Selection,
    placeholders: &mut Placeholders<'_>,
    problems: &mut Problems<'_>,
) -> Option<Formula> {
    let (parts, join): (_, fn(Vec<Formula>) -> Formula) = match selection {
        Selection::Item(written) => return item(written, placeholders, problems),
        Selection::Bound(binding) => {
            let before = problems.count();
            let body = compile(&binding.body, placeholders, problems);
            let formula = binding.formula(body).map_err(|reason| named(&binding.written, &reason));
            return problems.check(binding.line, formula).filter(|_| problems.count() == before);
        }
        Selection::All(parts) => (parts, Formula::All),
        Selection::Any(parts) => (parts, Formula::Any),
    };
    let parts: Vec<_> = parts.iter().map(|part| formula(part, placeholders, problems)).collect();
    Some(join(parts.into_iter().collect::<Option<_>>()?))
}

/// One field with its modifiers and values.
fn item(item: &Item, placeholders: &mut Placeholders<'_>, problems: &mut Problems<'_>) -> Option<Formula> {
    let told = |reason: String| named(&item.written, &reason);
    let key = field(&item.field, item.in_member).and_then(|field| Key::read(field, &item.modifiers));
    let key = problems.check(item.line, key.map_err(told))?;
    if key.operator == Operator::Exists && item.values.len() > 1 {
        problems.add(item.line, told("modifier \"exists\" takes one value, true or false".to_owned()));
        return None;
    }
    let mut parts = Vec::new();
    for value in &item.values {
        let compared = comparisons(&key, value, placeholders).map_err(told);
        parts.push(problems.check(value.line, compared));
    }
    let parts = parts.into_iter().collect::<Option<Vec<_>>>()?.concat();
    let formula = if key.all { Formula::All(parts) } else { Formula::Any(parts) };
    Some(if key.negated { formula.negate() } else { formula })
}

/// The tests that compare the field to one value, which may name lists.
fn comparisons(key: &Key, value: &Node, placeholders: &mut Placeholders<'_>) -> Result<Vec<Formula>, String> {
    let (Value::String(text), true) = (&value.value, key.expand) else {
        return comparison(key, value).map(|test| vec![test]);
    };
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
            _ if key.reference => Err("modifier \"fieldref\" needs the name of a field, not null".to_owned()),
            (Operator::Equals, Field::Path(_)) => Ok(null_or_missing(&field)),
            (Operator::Equals, Field::Anywhere) => Err("a keyword cannot be null".to_owned()),
            _ => Err(format!("modifier {:?} cannot compare to null", operator.name())),
        };
    }
    let (Some(text), Some(written)) = (canonical_text(value), value.scalar_text()) else {
        return Err(format!("a value must be text, a number, true, false or null, not {}", value.kind()));
    };
    if written.len() > MAX_VALUE_BYTES {
        return Err(format!("a value is longer than {MAX_VALUE_BYTES} bytes"));
    }
    match operator {
        Operator::Equals | Operator::Contains | Operator::StartsWith | Operator::EndsWith => {
            if key.reference {
                test(reference(key, &written)?)
            } else {
                text_tests(key, value, &text, &written)
            }
        }
        Operator::Expression(flags) => test(Check::Expression(Expression::new(&written, flags)?)),
        Operator::Network => match network(&text) {
            Some(network) => test(Check::Network(network)),
            None => Err(format!("{text:?} is not a block of addresses such as 10.0.0.0/8")),
        },
        Operator::Compare(order) => match exact_number(&text) {
            Some(threshold) => test(Check::Compare(order, threshold)),
            None => Err(format!("modifier {:?} needs a number, not {text:?}", operator.name())),
        },
        Operator::Time(unit) => test(Check::Time(unit, part_of_time(unit, &text)?)),
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

fn reference(key: &Key, name: &str) -> Result<Check, String> {
    let place = match key.operator {
        Operator::Contains => Place::Within,
        Operator::StartsWith => Place::Start,
        Operator::EndsWith => Place::End,
        _ => Place::Whole,
    };
    Ok(Check::Reference(Reference { other: Field::path(name)?, place, cased: key.cased }))
}

fn part_of_time(unit: Unit, text: &str) -> Result<i16, String> {
    let (low, high) = unit.range();
    text.parse().ok().filter(|number| (low..=high).contains(number)).ok_or_else(|| {
        format!("modifier {:?} needs a whole number from {low} to {high}, not {text:?}", unit.name())
    })
}

/// The value's text, by which values of different types are compared.
fn canonical_text(value: &Node) -> Option<String> {
    match &value.value {
        Value::Float(_, written) => Some(number_text(written).into_owned()),
        Value::Integer(number, _) => Some(number.to_string()),
        _ => value.scalar_text(),
    }
}

/// One test for each text that the encodings make of the value. What YAML takes for a number may be meant as text
/// (`010`, `1e5`), so both texts count.
fn text_tests(key: &Key, value: &Node, text: &str, written: &str) -> Result<Formula, String> {
    let is_number = matches!(value.value, Value::Integer(..) | Value::Float(..));
    let wildcards = matches!(value.value, Value::String(_));
    let mut texts = encode::texts(&key.encodings, text, wildcards)?;
    if is_number && written != text {
        texts.extend(encode::texts(&key.encodings, written, wildcards)?);
    }
    let tests = texts.into_iter().map(|pieces| Formula::test(key.field.clone(), text_check(key, pieces)));
    let mut tests: Vec<_> = tests.collect();
    Ok(if tests.len() == 1 { tests.remove(0) } else { Formula::Any(tests) })
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
