//! Parts of a condition that ask one value to be two things at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::formula::{Check, Field, Formula};
use crate::pattern::Pattern;
use crate::schema;
use crate::text::fold;

/// For each such part, the field and the texts that exclude each other.
pub(super) fn contradictions(formula: &Formula) -> Vec<String> {
    let mut found = Vec::new();
    search(formula, true, &mut found);
    found
}

fn search(formula: &Formula, sign: bool, found: &mut Vec<String>) {
    match (formula, sign) {
        (Formula::Not(part), _) => search(part, !sign, found),
        (Formula::All(parts), true) => {
            let mut conjunction = Vec::new();
            flatten(parts, &mut conjunction);
            compare(&conjunction, found);
            let others = conjunction.into_iter().filter(|part| !matches!(part, Formula::Test(_)));
            others.for_each(|part| search(part, true, found));
        }
        (Formula::All(parts) | Formula::Any(parts), _) => {
            parts.iter().for_each(|part| search(part, sign, found));
        }
        (Formula::Test(_), _) => {}
    }
}

/// What must all hold, also within parts that must all hold.
fn flatten<'a>(parts: &'a [Formula], conjunction: &mut Vec<&'a Formula>) {
    for part in parts {
        match part {
            Formula::All(inner) => flatten(inner, conjunction),
            part => conjunction.push(part),
        }
    }
}

fn compare(conjunction: &[&Formula], found: &mut Vec<String>) {
    let mut allowed: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for part in conjunction {
        let Some((path, texts)) = one_of(part) else { continue };
        let Some(before) = allowed.get_mut(path) else {
            allowed.insert(path, texts);
            continue;
        };
        let both: BTreeSet<_> = before.intersection(&texts).cloned().collect();
        if both.is_empty() {
            let shown = |texts: &BTreeSet<String>| texts.iter().cloned().collect::<Vec<_>>().join(" or ");
            found.push(format!("{path} cannot be {} and at once {}", shown(before), shown(&texts)));
            return;
        }
        *before = both;
    }
}

/// The texts one of which the only value of a field must be.
fn one_of(formula: &Formula) -> Option<(&str, BTreeSet<String>)> {
    match formula {
        Formula::Any(parts) => {
            let mut sets = parts.iter().map(one_of);
            let (path, mut texts) = sets.next()??;
            for set in sets {
                let (other, more) = set?;
                if other != path {
                    return None;
                }
                texts.extend(more);
            }
            Some((path, texts))
        }
        Formula::Test(test) => {
            let Field::Path(path) = &test.field else { return None };
            let (Check::Folded(Pattern::Exact(text)) | Check::Cased(Pattern::Exact(text))) = &test.check
            else {
                return None;
            };
            schema::has_one_value(path).then(|| (&**path, BTreeSet::from([fold(text)])))
        }
        Formula::All(_) | Formula::Not(_) => None,
    }
}
