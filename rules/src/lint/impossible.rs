//! Parts of a condition that ask one value to be two things at once.

mod range;

use std::collections::{BTreeMap, BTreeSet};

use crate::correlate::{Condition, Correlation, Kind};
use crate::explain::comparison;
use crate::formula::{Check, Field, Formula, ITSELF, Test};
use crate::pattern::Pattern;
use crate::schema;
use crate::text::fold;
use range::Range;

/// For each such part, the field and what excludes each other.
pub(super) fn contradictions(formula: &Formula) -> Vec<String> {
    let mut found = Vec::new();
    search(formula, true, schema::has_one_value, &mut found);
    found
}

/// Why no window satisfies the condition of a correlation, if none does.
pub(super) fn unreachable_count(correlation: &Correlation) -> Option<String> {
    let Condition::Number(bounds) = &correlation.condition else { return None };
    let range = bounds.iter().map(|bound| Range::beside(*bound)).fold(Range::EVERYTHING, Range::and);
    let rules = correlation.references.len();
    let is_empty = match correlation.kind {
        // A window holds the event at which it ends.
        Kind::EventCount | Kind::ValueCount => range.and(Range::between(1, None)).has_no_whole_number(),
        Kind::Temporal => range.and(Range::between(1, Some(rules))).has_no_whole_number(),
        // That event may be of a rule whose predecessors did not match, so that not even the first one is counted.
        Kind::TemporalOrdered => range.and(Range::between(0, Some(rules))).has_no_whole_number(),
        Kind::Sum | Kind::Average | Kind::Percentile(_) | Kind::Median => range.is_empty(),
        Kind::NewValue => false,
    };
    is_empty.then(|| format!("in no window is what it counts {range}"))
}

/// Whether a field has one value at most.
type HasOneValue = fn(&str) -> bool;

fn search(formula: &Formula, sign: bool, has_one_value: HasOneValue, found: &mut Vec<String>) {
    match (formula, sign) {
        (Formula::Not(part), _) => search(part, !sign, has_one_value, found),
        (Formula::All(parts), true) | (Formula::Any(parts), false) => {
            let mut conjunction = Vec::new();
            flatten(parts, sign, &mut conjunction);
            found.extend(contradiction(&conjunction, has_one_value));
            conjunction.into_iter().for_each(|(part, sign)| search(part, sign, has_one_value, found));
        }
        (Formula::All(parts), false) | (Formula::Any(parts), true) => {
            parts.iter().for_each(|part| search(part, sign, has_one_value, found));
        }
        (Formula::Test(test), _) => {
            if let Check::Members(members) = &test.check {
                // What the member has below it may hold arrays; itself, it is one value.
                search(&members.body, true, |name| name == ITSELF, found);
            }
        }
    }
}

/// What must all hold, or with the sign false must not, also within parts of which the same is true.
fn flatten<'a>(parts: &'a [Formula], sign: bool, conjunction: &mut Vec<(&'a Formula, bool)>) {
    for part in parts {
        match (part, sign) {
            (Formula::All(inner), true) | (Formula::Any(inner), false) => flatten(inner, sign, conjunction),
            // What has one part is that part.
            (Formula::All(inner) | Formula::Any(inner), _) if inner.len() == 1 => {
                flatten(inner, sign, conjunction);
            }
            (Formula::Not(inner), _) => flatten(std::slice::from_ref(inner), !sign, conjunction),
            _ => conjunction.push((part, sign)),
        }
    }
}

/// What is demanded of the only value of a field.
#[derive(Default)]
struct Demanded<'a> {
    /// Folded texts one of which it must be.
    texts: Option<BTreeSet<String>>,
    /// Where it must lie as a number.
    range: Option<Range>,
    /// Where it must not lie, if it is a number.
    excluded: Vec<Range>,
    /// Tests that regard no case, which it must satisfy or must not.
    tests: Vec<(&'a Test, bool)>,
}

/// The first field of which too much is demanded.
fn contradiction(conjunction: &[(&Formula, bool)], has_one_value: HasOneValue) -> Option<String> {
    let mut fields: BTreeMap<&str, Demanded<'_>> = BTreeMap::new();
    for (part, sign) in conjunction {
        if let (true, Some((path, texts))) = (*sign, one_of(part)) {
            if !has_one_value(path) {
                continue;
            }
            let demanded = fields.entry(path).or_default();
            if let Some(reason) = demanded.be_one_of(path, texts) {
                return Some(reason);
            }
        } else if let Some((path, range)) = Range::of(part).filter(|(path, _)| has_one_value(path)) {
            fields.entry(path).or_default().lie(range, *sign);
        }
        if let Formula::Test(test) = part
            && let (Field::Path(path), true) = (&test.field, regards_no_case(&test.check))
            && has_one_value(path)
        {
            fields.entry(path).or_default().tests.push((test.as_ref(), *sign));
        }
    }
    fields.iter().find_map(|(path, demanded)| demanded.contradiction(path))
}

impl Demanded<'_> {
    /// Says why it cannot be one of these texts, too.
    fn be_one_of(&mut self, path: &str, texts: BTreeSet<String>) -> Option<String> {
        let Some(before) = &mut self.texts else {
            self.texts = Some(texts);
            return None;
        };
        let both: BTreeSet<_> = before.intersection(&texts).cloned().collect();
        if both.is_empty() {
            return Some(format!("{path} cannot be {} and at once {}", shown(before), shown(&texts)));
        }
        *before = both;
        None
    }

    fn lie(&mut self, range: Range, within: bool) {
        match (&mut self.range, within) {
            (_, false) => self.excluded.push(range),
            (Some(before), true) => *before = before.and(range),
            (none, true) => *none = Some(range),
        }
    }

    fn contradiction(&self, path: &str) -> Option<String> {
        if let Some(range) = self.range {
            // That something lies in the range makes it a number, so what is excluded counts.
            let range = self.excluded.iter().fold(range, |range, excluded| range.without(*excluded));
            if range.is_empty() {
                return Some(format!("{path} cannot be {range}"));
            }
        }
        let texts = self.texts.as_ref()?;
        let mut rest = texts.clone();
        for (test, sign) in &self.tests {
            rest.retain(|text| test.check.holds_for(text, &mut String::new()) == *sign);
            if rest.is_empty() {
                let not = if *sign { "" } else { "not: " };
                let demand = comparison(test);
                return Some(format!("{path} cannot be {} where it must hold {not}{demand}", shown(texts)));
            }
        }
        None
    }
}

fn shown(texts: &BTreeSet<String>) -> String {
    texts.iter().cloned().collect::<Vec<_>>().join(" or ")
}

/// Whether a check comes to the same for text in any case.
fn regards_no_case(check: &Check) -> bool {
    matches!(check, Check::Folded(_) | Check::Compare(..) | Check::Network(_))
}

/// The texts one of which a value of a field must be.
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
            Some((&**path, BTreeSet::from([fold(text)])))
        }
        Formula::All(_) | Formula::Not(_) => None,
    }
}
