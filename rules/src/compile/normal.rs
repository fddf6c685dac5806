//! Negation normal form: `not` stands only before atoms.

use std::sync::Arc;

use super::atoms::{AtomId, Table};
use crate::formula::{Check, Field, Formula, ITSELF, Test};
use crate::pattern::Pattern;

/// When a rule matches, over atoms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    /// The atom is true, or (negated) false.
    Atom(AtomId, Sign),
    /// Each of these.
    All(Vec<Condition>),
    /// At least one of these.
    Any(Vec<Condition>),
}

/// Whether an atom must be true or false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sign {
    Positive,
    Negative,
}

impl Condition {
    /// Calls `visit` with each atom.
    pub(crate) fn visit_atoms(&self, visit: &mut impl FnMut(AtomId, Sign)) {
        match self {
            Self::Atom(atom, sign) => visit(*atom, *sign),
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.visit_atoms(visit));
            }
        }
    }
}

/// Brings a formula into negation normal form.
pub(super) fn normalize(formula: &Formula, table: &mut Table) -> Condition {
    normalize_signed(formula, Sign::Positive, table)
}

fn normalize_signed(formula: &Formula, sign: Sign, table: &mut Table) -> Condition {
    match (formula, sign) {
        (Formula::Not(inner), Sign::Positive) => normalize_signed(inner, Sign::Negative, table),
        (Formula::Not(inner), Sign::Negative) => normalize_signed(inner, Sign::Positive, table),
        (Formula::Test(test), Sign::Positive) => positive(test, table),
        (Formula::Test(test), Sign::Negative) => Condition::Atom(table.intern(test), Sign::Negative),
        (Formula::All(parts), Sign::Positive) | (Formula::Any(parts), Sign::Negative) => {
            let parts = parts.iter().map(|part| normalize_signed(part, sign, table)).collect();
            flatten(parts, Condition::All)
        }
        (Formula::Any(parts), Sign::Positive) | (Formula::All(parts), Sign::Negative) => {
            let parts = parts.iter().map(|part| normalize_signed(part, sign, table)).collect();
            flatten(parts, Condition::Any)
        }
    }
}

/// A test that is dear to decide is preceded by a cheap one that it implies, by which rules are found.
fn positive(test: &Arc<Test>, table: &mut Table) -> Condition {
    let atom = Condition::Atom(table.intern(test), Sign::Positive);
    if let (Check::Members(members), Field::Path(path)) = (&test.check, &test.field) {
        let there = Formula::test(test.field.clone(), Check::Exists);
        let necessary = flattened(&members.body, path).unwrap_or(there);
        return flatten(vec![normalize_signed(&necessary, Sign::Positive, table), atom], Condition::All);
    }
    let Some(check) = cheap_precondition(&test.check) else { return atom };
    let cheap = Arc::new(Test { field: test.field.clone(), check });
    Condition::All(vec![Condition::Atom(table.intern(&cheap), Sign::Positive), atom])
}

fn cheap_precondition(check: &Check) -> Option<Check> {
    match check {
        Check::Folded(pattern) => {
            pattern.required_literal().map(|text| Check::Folded(Pattern::Contains(text.to_owned())))
        }
        Check::Cased(pattern) => {
            pattern.required_literal().map(|text| Check::Cased(Pattern::Contains(text.to_owned())))
        }
        Check::Expression(expression) => {
            expression.required().map(|text| Check::Folded(Pattern::Contains(text.to_owned())))
        }
        Check::Reference(_) => Some(Check::Any),
        _ => None,
    }
}

/// What holds for the array as a whole, any of whose members may satisfy each part, if a member satisfies
/// `body`. Such tests are cheap and shared with other rules, so bound groups are looked at only where they
/// hold. None if nothing follows.
fn flattened(body: &Formula, array: &str) -> Option<Formula> {
    match body {
        Formula::Not(_) => None,
        Formula::All(parts) => {
            let parts: Vec<_> = parts.iter().filter_map(|part| flattened(part, array)).collect();
            (!parts.is_empty()).then_some(Formula::All(parts))
        }
        Formula::Any(parts) => {
            let parts: Option<Vec<_>> = parts.iter().map(|part| flattened(part, array)).collect();
            parts.map(Formula::Any)
        }
        Formula::Test(test) => {
            let Field::Path(path) = &test.field else { return None };
            let path = match &**path {
                ITSELF => array.to_owned(),
                path => format!("{array}.{path}"),
            };
            match &test.check {
                Check::Members(members) => flattened(&members.body, &path),
                // An array is its own member only if it is none.
                Check::Exists | Check::Null | Check::Any if path == array => None,
                Check::Exists | Check::Null | Check::Any => {
                    Some(Formula::test(Field::Path(path.into()), test.check.clone()))
                }
                check => {
                    let dear = matches!(
                        check,
                        Check::Expression(_)
                            | Check::Reference(_)
                            | Check::Folded(Pattern::Glob(_))
                            | Check::Cased(Pattern::Glob(_))
                    );
                    let check = if dear { cheap_precondition(check)? } else { check.clone() };
                    Some(Formula::test(Field::Path(path.into()), check))
                }
            }
        }
    }
}

/// Pulls up parts of the same kind and drops repeated atoms.
fn flatten(parts: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    let kind = std::mem::discriminant(&join(Vec::new()));
    let mut flat = Vec::with_capacity(parts.len());
    let mut seen = std::collections::HashSet::new();
    let mut keep = |part: Condition| {
        let repeated = matches!(&part, Condition::Atom(atom, sign) if !seen.insert((*atom, *sign as u8)));
        if !repeated {
            flat.push(part);
        }
    };
    for part in parts {
        let same = std::mem::discriminant(&part) == kind;
        match part {
            Condition::All(inner) | Condition::Any(inner) if same => inner.into_iter().for_each(&mut keep),
            part => keep(part),
        }
    }
    if flat.len() == 1 { flat.remove(0) } else { join(flat) }
}
