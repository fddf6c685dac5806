//! Checks of one field become formulas. Comparison is case-sensitive, and a field that is missing or null makes every
//! check false, `!=` included.

use super::condition::Operator;
use super::fields::Source;
use crate::expression::{Expression, Flags};
use crate::formula::{Check, Field, Formula, Order, exact_number};
use crate::pattern::{Pattern, Piece};

/// Longest value, in bytes.
const MAX_VALUE_BYTES: usize = 8 << 10;

/// The formula of a check.
///
/// # Errors
/// Why the operator cannot be used so.
pub(super) fn formula(source: &Source, operator: Operator, values: &[String]) -> Result<Formula, String> {
    if values.iter().any(|value| value.len() > MAX_VALUE_BYTES) {
        return Err(format!("a value is longer than {MAX_VALUE_BYTES} bytes"));
    }
    match operator {
        Operator::Exists if source.always => Ok(Formula::All(Vec::new())),
        Operator::Exists => Ok(present(&source.field)),
        Operator::In if source.list => Ok(all_within(&source.field, values)),
        Operator::In | Operator::Intersects => {
            let test = |value: &String| Formula::test(source.field.clone(), exact(value));
            Ok(Formula::Any(values.iter().map(test).collect()))
        }
        _ if source.list => {
            Err(format!("a list is compared with in, intersects or exists, not with {}", operator.name()))
        }
        Operator::NotEquals => {
            let [value] = one(values)?;
            let equal = Formula::test(source.field.clone(), exact(value));
            Ok(Formula::All(vec![Formula::test(source.field.clone(), Check::Any), equal.negate()]))
        }
        Operator::PathPrefix => {
            let parts: Result<Vec<_>, _> =
                values.iter().map(|value| path_prefix(&source.field, value)).collect();
            Ok(Formula::Any(parts?))
        }
        _ => {
            let [value] = one(values)?;
            Ok(Formula::test(source.field.clone(), check(operator, value)?))
        }
    }
}

fn one(values: &[String]) -> Result<[&String; 1], String> {
    match values {
        [value] => Ok([value]),
        _ => Err(format!("the operator compares to one value, not to {}", values.len())),
    }
}

/// There, and not null; an empty array is there.
fn present(field: &Field) -> Formula {
    let test = |check| Formula::test(field.clone(), check);
    match field {
        Field::Derived(_) => test(Check::Exists),
        _ => Formula::Any(vec![
            test(Check::Any),
            Formula::All(vec![test(Check::Exists), test(Check::Null).negate()]),
        ]),
    }
}

/// The list has members, and each is one of these.
fn all_within(field: &Field, values: &[String]) -> Formula {
    let set = values.iter().map(|value| value.as_str().into()).collect();
    let outside = Formula::test(field.clone(), Check::Outside(set));
    Formula::All(vec![Formula::test(field.clone(), Check::Any), outside.negate()])
}

fn exact(value: &str) -> Check {
    Check::Cased(Pattern::Exact(value.to_owned()))
}

fn check(operator: Operator, value: &str) -> Result<Check, String> {
    let text = || Piece::Literal(value.to_owned());
    let cased = |pieces| Ok(text_check(pieces, true));
    match operator {
        Operator::Contains => cased(vec![Piece::AnyText, text(), Piece::AnyText]),
        Operator::ContainsIgnoringCase => Ok(text_check(vec![Piece::AnyText, text(), Piece::AnyText], false)),
        Operator::StartsWith => cased(vec![text(), Piece::AnyText]),
        Operator::EndsWith => cased(vec![Piece::AnyText, text()]),
        Operator::Glob => glob(value, true),
        Operator::GlobIgnoringCase => glob(value, false),
        Operator::Regex => regex(value, false),
        Operator::Less => compare(Order::Less, value),
        Operator::LessOrEqual => compare(Order::LessOrEqual, value),
        Operator::Greater => compare(Order::Greater, value),
        Operator::GreaterOrEqual => compare(Order::GreaterOrEqual, value),
        _ => Ok(exact(value)),
    }
}

fn text_check(mut pieces: Vec<Piece>, cased: bool) -> Check {
    pieces.retain(|piece| *piece != Piece::Literal(String::new()));
    match Pattern::new(pieces, cased) {
        Pattern::Any => Check::Any,
        pattern if cased => Check::Cased(pattern),
        pattern => Check::Folded(pattern),
    }
}

fn compare(order: Order, value: &str) -> Result<Check, String> {
    match exact_number(value) {
        Some(threshold) => Ok(Check::Compare(order, threshold)),
        None => Err(format!("{value:?} is not a number")),
    }
}

/// The whole value must match.
fn regex(value: &str, ignore_case: bool) -> Result<Check, String> {
    let flags = Flags { ignore_case, ..Flags::default() };
    Ok(Check::Expression(Expression::new(&format!("^(?:{value})$"), flags)?))
}

/// A pattern of the shell: `*`, `?`, `[a-z]`, and a backslash before what is meant literally.
fn glob(value: &str, cased: bool) -> Result<Check, String> {
    if ["?(", "*(", "+(", "@(", "!("].iter().any(|extension| value.contains(extension)) {
        return Err(format!("{value:?}: extended patterns such as @(a|b) are not supported"));
    }
    if value.contains('[') {
        return regex(&glob_expression(value, ".")?, !cased).map_err(|reason| format!("{value:?}: {reason}"));
    }
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        let piece = match character {
            '*' => Piece::AnyText,
            '?' => Piece::OneCharacter,
            '\\' => {
                literal.extend(characters.next());
                continue;
            }
            _ => {
                literal.push(character);
                continue;
            }
        };
        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        pieces.push(piece);
    }
    pieces.push(Piece::Literal(literal));
    Ok(text_check(pieces, cased))
}

/// A glob as a regular expression; `*` and `?` stand for characters of the class `any`.
fn glob_expression(glob: &str, any: &str) -> Result<String, String> {
    let mut expression = "(?s)".to_owned();
    let mut characters = glob.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' => expression.extend([any, "*"]),
            '?' => expression.push_str(any),
            '[' => expression.push_str(&class(&mut characters)?),
            '\\' => expression.extend(characters.next().map(escaped)),
            _ => expression.push_str(&escaped(character)),
        }
    }
    Ok(expression)
}

/// The rest of `[a-z]` or `[!a-z]`. A `]` that comes first is a member.
fn class(characters: &mut std::str::Chars<'_>) -> Result<String, String> {
    let mut class = "[".to_owned();
    let mut first = true;
    for character in characters {
        match character {
            ']' if !first => return Ok(class + "]"),
            '!' | '^' if class == "[" => {
                class.push('^');
                continue;
            }
            '-' => class.push('-'),
            _ => class.push_str(&escaped(character)),
        }
        first = false;
    }
    Err("a bracket is not closed".to_owned())
}

fn escaped(character: char) -> String {
    if character.is_ascii_punctuation() { format!("\\{character}") } else { character.to_string() }
}

/// The value is this path, or lies below it. Wildcards do not cross a slash.
fn path_prefix(field: &Field, value: &str) -> Result<Formula, String> {
    let test = |check| Formula::test(field.clone(), check);
    let path = value.trim_end_matches('/');
    if path.contains(['*', '?', '[']) {
        let expression = glob_expression(path, "[^/]").map_err(|reason| format!("{value:?}: {reason}"))?;
        return Ok(test(regex(&format!("{expression}(?:/.*)?"), false)?));
    }
    let below = vec![Piece::Literal(format!("{path}/")), Piece::AnyText];
    Ok(Formula::Any(vec![test(exact(path)), test(text_check(below, true))]))
}
