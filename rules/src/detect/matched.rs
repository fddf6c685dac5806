//! Which conditions of a rule an event met, and with which values: the rule's formula, walked along the parts that
//! make it true.

use std::collections::BTreeSet;

use serde_json::Value;
use watchbell_event::MetCondition;
use watchbell_event::secrets::redact;

use super::describe::{plain, without_parameters};
use crate::derived::{Derived, Shape, Step, scalar_text};
use crate::evaluate::naive::Event;
use crate::explain::predicate;
use crate::formula::{Body, Check, Field, Formula, ITSELF, Members, Test, Which};

/// Most conditions that are told.
const MAX_CONDITIONS: usize = 16;
/// Most values that are told of one condition.
const MAX_VALUES: usize = 3;
/// Most members of an array that are told of one condition.
const MAX_MEMBERS: usize = 2;
/// Longest value, test or name of a field, in characters.
const MAX_CHARACTERS: usize = 200;
/// How much is looked at for one explanation: values, and their text in parts of [`PART_BYTES`], each as often as a test
/// looks at it. What would be found beyond that is not.
const MAX_WORK: usize = 200_000;
const PART_BYTES: usize = 64;

/// Conditions that were met, those that ask for something before those that rule something out.
#[derive(Default)]
pub(super) struct Matched {
    pub(super) conditions: Vec<MetCondition>,
    pub(super) beyond: u64,
}

/// Finds what made a formula true.
pub(super) fn find(formula: &Formula, event: &Event<'_>) -> Matched {
    let mut search = Search { work_left: MAX_WORK, ..Search::default() };
    search.holds(formula, event, "");
    conditions(search)
}

/// Finds what made the first formula true that is.
pub(super) fn find_first<'f>(mut formulas: impl Iterator<Item = &'f Formula>, event: &Event<'_>) -> Matched {
    let mut search = Search { work_left: MAX_WORK, ..Search::default() };
    match formulas.find(|formula| search.decide(formula, event) == Some(true)) {
        Some(formula) => search.holds(formula, event, ""),
        None => search.unknown += u64::from(search.work_left == 0),
    }
    conditions(search)
}

/// What was found, each field with these values once.
fn conditions(search: Search) -> Matched {
    let mut matched = Matched { beyond: search.unknown, ..Matched::default() };
    let exceptions = search.exceptions.into_iter().map(Exceptions::into_condition);
    for condition in search.found.into_iter().chain(exceptions) {
        let same = |known: &&mut MetCondition| {
            known.field == condition.field && known.values == condition.values && !known.values.is_empty()
        };
        if let Some(known) = matched.conditions.iter_mut().find(same) {
            if known.test != condition.test {
                known.test = plain(&format!("{} and {}", known.test, condition.test), MAX_CHARACTERS);
            }
            continue;
        }
        if matched.conditions.len() < MAX_CONDITIONS {
            matched.conditions.push(condition);
        } else {
            matched.beyond += 1;
        }
    }
    matched
}

/// A condition on a field that no test decides, such as that its values are new.
pub(super) fn told(field: &Field, test: String, event: &Event<'_>) -> MetCondition {
    let name = name(field, "");
    let values = shown(field, &name, &event.values(field));
    MetCondition { field: name, test, values }
}

#[derive(Default)]
struct Search {
    found: Vec<MetCondition>,
    exceptions: Vec<Exceptions>,
    work_left: usize,
    /// Alternatives that were not looked at.
    unknown: u64,
}

/// What a field must not be, and is not.
struct Exceptions {
    field: String,
    /// The only test, in words; none if there are several.
    test: Option<String>,
    count: usize,
    values: Vec<String>,
}

impl Search {
    /// Notes what makes a formula true that is.
    fn holds(&mut self, formula: &Formula, event: &Event<'_>, prefix: &str) {
        match formula {
            Formula::All(parts) => parts.iter().for_each(|part| self.holds(part, event, prefix)),
            Formula::Any(parts) => {
                for part in self.deciding(parts, true, event) {
                    self.holds(part, event, prefix);
                }
            }
            Formula::Not(inner) => self.fails(inner, event, prefix),
            Formula::Test(test) => match &test.check {
                Check::Members(members) => self.members(&test.field, members, event, prefix),
                _ => self.note(test, event, prefix),
            },
        }
    }

    /// Notes what makes a formula false that is.
    fn fails(&mut self, formula: &Formula, event: &Event<'_>, prefix: &str) {
        match formula {
            // One part that is false is reason enough.
            Formula::All(parts) => {
                if let Some(part) = self.deciding(parts, false, event).first() {
                    self.fails(part, event, prefix);
                }
            }
            Formula::Any(parts) => parts.iter().for_each(|part| self.fails(part, event, prefix)),
            Formula::Not(inner) => self.holds(inner, event, prefix),
            Formula::Test(test) => self.note_exception(test, event, prefix),
        }
    }

    /// The parts that came to this, as far as they may be decided.
    fn deciding<'f>(&mut self, parts: &'f [Formula], verdict: bool, event: &Event<'_>) -> Vec<&'f Formula> {
        if let [only] = parts {
            return vec![only];
        }
        let mut deciding = Vec::new();
        for part in parts {
            if self.decide(part, event) == Some(verdict) {
                deciding.push(part);
            }
            if self.work_left == 0 {
                break;
            }
        }
        if deciding.is_empty() && self.work_left == 0 {
            self.unknown += 1;
        }
        deciding
    }

    /// Whether a formula holds; none if that depends on a missing body, or is too much to look at.
    fn decide(&mut self, formula: &Formula, event: &Event<'_>) -> Option<bool> {
        if self.work_left == 0 {
            return None;
        }
        match formula {
            Formula::Not(part) => self.decide(part, event).map(|holds| !holds),
            Formula::All(parts) => self.decide_all(parts, false, event),
            Formula::Any(parts) => self.decide_all(parts, true, event),
            Formula::Test(test) => {
                let values = weight(&event.values(&test.field));
                let times = match &test.check {
                    Check::Members(members) => members.body.size(),
                    Check::Reference(reference) => weight(&event.values(&reference.other)),
                    _ => 1,
                };
                self.spend(values.saturating_mul(times)).then(|| event.decide(formula)).flatten()
            }
        }
    }

    /// Decides parts one of which is enough if it comes to `decisive`.
    fn decide_all(&mut self, parts: &[Formula], decisive: bool, event: &Event<'_>) -> Option<bool> {
        let mut verdict = Some(!decisive);
        for part in parts {
            match self.decide(part, event) {
                Some(holds) if holds == decisive => return Some(decisive),
                Some(_) => {}
                None => verdict = None,
            }
        }
        verdict
    }

    /// Whether so much may still be looked at; if not, nothing more is.
    fn spend(&mut self, work: usize) -> bool {
        let left = self.work_left.checked_sub(work.saturating_add(1));
        self.work_left = left.unwrap_or(0);
        left.is_some()
    }

    fn note(&mut self, test: &Test, event: &Event<'_>, prefix: &str) {
        if self.found.len() > MAX_CONDITIONS {
            self.unknown += 1;
            return;
        }
        let field = name(&test.field, prefix);
        let values = shown(&test.field, &field, &event.values_that_meet(test));
        self.found.push(MetCondition { test: plain(&predicate(test), MAX_CHARACTERS), field, values });
    }

    fn note_exception(&mut self, test: &Test, event: &Event<'_>, prefix: &str) {
        let field = name(&test.field, prefix);
        if let Some(known) = self.exceptions.iter_mut().find(|known| known.field == field) {
            known.count += 1;
            known.test = None;
            return;
        }
        if self.exceptions.len() > MAX_CONDITIONS {
            self.unknown += 1;
            return;
        }
        let values = match test.check {
            Check::Members(_) => Vec::new(),
            _ => shown(&test.field, &field, &event.values(&test.field)),
        };
        let test = Some(plain(&predicate(test), MAX_CHARACTERS));
        self.exceptions.push(Exceptions { field, test, count: 1, values });
    }

    /// Notes what the members satisfy that satisfy the conditions.
    fn members(&mut self, field: &Field, members: &Members, event: &Event<'_>, prefix: &str) {
        if !self.spend(weight(&event.values(field))) {
            self.unknown += 1;
            return;
        }
        let mut left = MAX_MEMBERS;
        for array in event.arrays(field) {
            for (at, member) in array.iter().enumerate() {
                let wanted = members.which == Which::Any || members.which.position(array.len()) == Some(at);
                if wanted && left > 0 && self.decide(&members.body, member) == Some(true) {
                    left -= 1;
                    self.holds(&members.body, member, &format!("{}[{at}]", name(field, prefix)));
                }
            }
        }
    }
}

/// How much there is to look at in values.
fn weight(values: &[Value]) -> usize {
    values.iter().map(weight_of).sum()
}

fn weight_of(value: &Value) -> usize {
    let below = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() / PART_BYTES,
        Value::Array(members) => weight(members),
        Value::Object(members) => members.values().map(weight_of).sum(),
    };
    below + 1
}

impl Exceptions {
    fn into_condition(self) -> MetCondition {
        let test = match self.test {
            Some(test) => match test.strip_prefix("is ") {
                Some(rest) => format!("is not {rest}"),
                None => format!("not: {test}"),
            },
            None => format!("is none of {} exceptions", self.count),
        };
        MetCondition { field: self.field, test, values: self.values }
    }
}

/// The name of a field, below the member of an array in which it stands.
fn name(field: &Field, prefix: &str) -> String {
    let name = match (prefix, field) {
        ("", field) => field.describe(),
        (prefix, field) if field.is(ITSELF) => prefix.to_owned(),
        (prefix, field) => format!("{prefix}.{}", field.describe()),
    };
    plain(&name, MAX_CHARACTERS)
}

/// The values, for people. What Secrets, configuration maps and environments hold is not for messages, and text that
/// was found anywhere in the event may be such.
fn shown(field: &Field, name: &str, values: &[Value]) -> Vec<String> {
    if *field == Field::Anywhere || holds_content(field, name) {
        return Vec::new();
    }
    let whole = matches!(field, Field::Derived(_));
    let texts = values.iter().filter_map(|value| match value {
        Value::String(uri) if is_uri(field) => Some(plain(&without_parameters(uri), MAX_CHARACTERS)),
        value => text(value, whole),
    });
    let (mut shown, mut known) = (Vec::new(), BTreeSet::new());
    for text in texts {
        if known.insert(text.clone()) && shown.len() < MAX_VALUES {
            shown.push(text);
        }
    }
    if known.len() > MAX_VALUES {
        shown.push(format!("… {} more", known.len() - MAX_VALUES));
    }
    shown
}

/// Whether the values are the whole address that was requested.
fn is_uri(field: &Field) -> bool {
    match field {
        Field::Derived(derived) => comes_from_uri(derived),
        field => field.is("requestURI"),
    }
}

fn comes_from_uri(derived: &Derived) -> bool {
    matches!(derived.from.first(), Some(Step::Name(name)) if **name == *"requestURI")
}

/// One value; what is computed may be the text of a `whole` object.
fn text(value: &Value, whole: bool) -> Option<String> {
    match value {
        Value::Array(_) => None,
        Value::Null => Some("null".to_owned()),
        Value::Object(_) => Some("{…}".to_owned()),
        Value::String(text) if whole && text.starts_with(['{', '[']) => Some("{…}".to_owned()),
        value => scalar_text(value).map(|text| plain(&redact(&text), MAX_CHARACTERS)),
    }
}

fn holds_content(field: &Field, name: &str) -> bool {
    let holds = |segment: &str| matches!(segment, "data" | "stringData" | "binaryData" | "env" | "token");
    let segments: Vec<&str> = match field {
        // What is given to a command may be a password.
        Field::Derived(derived) if matches!(derived.shape, Shape::QueryParameter(_)) => return true,
        Field::Derived(derived) => derived.from.iter().filter_map(Step::name).collect(),
        _ => name.split(['.', '[']).collect(),
    };
    let Some((first, below)) = segments.split_first() else { return false };
    if Body::named(first).is_none() && !matches!(field, Field::Derived(_)) {
        return false;
    }
    // A patch is a list of changes, each with the `value` that it sets.
    let is_number =
        |segment: &str| segment.ends_with(']') || segment.bytes().all(|byte| byte.is_ascii_digit());
    let sets_value = below.iter().find(|segment| !is_number(segment)) == Some(&"value");
    sets_value || below.iter().any(|segment| holds(segment)) || name.contains("last-applied-configuration")
}
