//! Which conditions of a rule an event met, and with which values: the rule's formula, walked along the parts that
//! make it true.

use serde_json::Value;
use watchbell_event::MetCondition;
use watchbell_event::secrets::redact;

use super::describe::plain;
use crate::derived::{Step, scalar_text};
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
/// How many tests are decided for one explanation; of lists beyond that, what matched is not found.
const MAX_TESTS: usize = 1_000;

/// Conditions that were met, those that ask for something before those that rule something out.
#[derive(Default)]
pub(super) struct Matched {
    pub(super) conditions: Vec<MetCondition>,
    pub(super) beyond: u64,
}

/// Finds what made a formula true.
pub(super) fn find(formula: &Formula, event: &Event<'_>) -> Matched {
    let mut search = Search { tests_left: MAX_TESTS, ..Search::default() };
    search.holds(formula, event, "");
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
    tests_left: usize,
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
            let size = part.size();
            if size > self.tests_left {
                self.unknown += u64::from(deciding.is_empty());
                break;
            }
            self.tests_left -= size;
            if event.decide(part) == Some(verdict) {
                deciding.push(part);
            }
        }
        deciding
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
        let mut left = MAX_MEMBERS;
        for array in event.arrays(field) {
            for (at, member) in array.iter().enumerate() {
                let wanted = members.which == Which::Any || members.which.position(array.len()) == Some(at);
                let size = members.body.size();
                if !wanted || left == 0 || size > self.tests_left {
                    continue;
                }
                self.tests_left -= size;
                if member.decide(&members.body) == Some(true) {
                    left -= 1;
                    self.holds(&members.body, member, &format!("{}[{at}]", name(field, prefix)));
                }
            }
        }
    }
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
    let count = values.len();
    let whole = matches!(field, Field::Derived(_));
    let mut shown: Vec<String> =
        values.iter().filter_map(|value| text(value, whole)).take(MAX_VALUES).collect();
    shown.dedup();
    if count > MAX_VALUES {
        shown.push(format!("… {} more", count - MAX_VALUES));
    }
    shown
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
    match field {
        Field::Derived(derived) => {
            derived.from.iter().any(|step| matches!(step, Step::Name(name) if holds(name)))
        }
        _ => {
            let mut segments = name.split(['.', '[']);
            let body = segments.next().and_then(Body::named);
            body.is_some() && (segments.any(holds) || name.contains("last-applied-configuration"))
        }
    }
}
