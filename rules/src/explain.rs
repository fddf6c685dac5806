//! Why a rule matches an event or does not: its condition as a tree, with what each part came to.

use serde_json::Value;

use crate::derived::scalar_text;
use crate::evaluate::naive::Event;
use crate::formula::{Check, Field, Formula, Members, Order, Place, Reference, Test, Which};
use crate::pattern::{Pattern, Piece};
use crate::rule::Rule;

/// Most values or members that are shown of one field.
const MAX_VALUES: usize = 10;

/// What a part of a condition came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// The event lacks the body that it reads.
    NotEvaluable,
}

/// A part of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `all of`, `any of`, `not`, or a comparison.
    pub label: String,
    /// What it came to.
    pub verdict: Verdict,
    /// What the event has in the field of a comparison.
    pub values: Vec<String>,
    /// What it is made of.
    pub parts: Vec<Part>,
}

/// Explains a rule on an event; none if the event is not a JSON object.
#[must_use]
pub fn explain(rule: &Rule, event: &[u8]) -> Option<Part> {
    let event = Event::read_as(rule.format, event)?;
    Some(part(&rule.formula, &event))
}

fn part(formula: &Formula, event: &Event<'_>) -> Part {
    let verdict = match event.decide(formula) {
        Some(true) => Verdict::Holds,
        Some(false) => Verdict::Fails,
        None => Verdict::NotEvaluable,
    };
    let compound = |label: &str, parts: &[Formula]| Part {
        label: label.to_owned(),
        verdict,
        values: Vec::new(),
        parts: parts.iter().map(|inner| part(inner, event)).collect(),
    };
    match formula {
        // What has one part is that part.
        Formula::All(parts) | Formula::Any(parts) if parts.len() == 1 => {
            parts.first().map_or_else(|| compound("all of", &[]), |only| part(only, event))
        }
        Formula::All(parts) => compound("all of", parts),
        Formula::Any(parts) => compound("any of", parts),
        Formula::Not(inner) => compound("not", std::slice::from_ref(inner)),
        Formula::Test(test) => Part {
            label: comparison(test),
            verdict,
            values: values(test, event),
            parts: match &test.check {
                Check::Members(members) => member_parts(&test.field, members, event),
                _ => Vec::new(),
            },
        },
    }
}

/// What conditions on members came to for each member that is looked at; those that satisfy them first.
fn member_parts(field: &Field, members: &Members, event: &Event<'_>) -> Vec<Part> {
    let mut parts = Vec::new();
    for array in event.arrays(field) {
        let wanted =
            |at: &usize| members.which == Which::Any || members.which.position(array.len()) == Some(*at);
        let (holding, others): (Vec<usize>, Vec<usize>) =
            (0..array.len()).filter(wanted).partition(|at| array[*at].decide(&members.body) == Some(true));
        for at in holding.into_iter().chain(others).take(MAX_VALUES.saturating_sub(parts.len())) {
            let inner = part(&members.body, &array[at]);
            let label = format!("member {at}");
            parts.push(Part { label, verdict: inner.verdict, values: Vec::new(), parts: vec![inner] });
        }
    }
    parts
}

fn values(test: &Test, event: &Event<'_>) -> Vec<String> {
    if test.field == Field::Anywhere || matches!(test.check, Check::Members(_)) {
        return Vec::new();
    }
    let found = event.values(&test.field);
    let mut values = found.iter().filter_map(|value| match value {
        Value::Array(_) => None,
        Value::Null => Some("null".to_owned()),
        Value::Object(_) => Some("{…}".to_owned()),
        value => scalar_text(value),
    });
    let mut shown: Vec<_> = values.by_ref().take(MAX_VALUES).collect();
    let more = values.count();
    if more > 0 {
        shown.push(format!("… {more} more"));
    }
    shown
}

/// A comparison in words.
pub(crate) fn comparison(test: &Test) -> String {
    let field = test.field.describe();
    match &test.check {
        Check::Folded(_) | Check::Reference(Reference { cased: false, .. }) => {
            format!("{field} {} (in any case)", predicate(test))
        }
        Check::Members(Members { which: Which::Any, .. }) => format!("a member of {field} satisfies"),
        Check::Members(Members { which: Which::At(number), .. }) => {
            format!("member {number} of {field} satisfies")
        }
        _ => format!("{field} {}", predicate(test)),
    }
}

/// What a test asks of its field, in words.
pub(crate) fn predicate(test: &Test) -> String {
    match &test.check {
        Check::Exists => "is there".to_owned(),
        Check::Null => "is null".to_owned(),
        Check::Any => "has a value".to_owned(),
        Check::Folded(pattern) | Check::Cased(pattern) => pattern_words(pattern),
        Check::Expression(expression) => format!("matches /{}/", expression.written()),
        Check::Compare(order, threshold) => {
            let sign = match order {
                Order::Less => "<",
                Order::LessOrEqual => "<=",
                Order::Greater => ">",
                Order::GreaterOrEqual => ">=",
            };
            format!("{sign} {threshold}")
        }
        Check::Network(network) => format!("is in {network}"),
        Check::Time(unit, number) => format!("is a time whose {} is {number}", unit.name()),
        Check::Reference(reference) => {
            let place = match reference.place {
                Place::Whole => "is a value of",
                Place::Start => "starts with a value of",
                Place::End => "ends with a value of",
                Place::Within => "contains a value of",
            };
            format!("{place} {}", reference.other.describe())
        }
        Check::Members(_) => "has a member that satisfies the conditions".to_owned(),
        Check::Outside(texts) => {
            format!("has a value besides {}", texts.iter().map(|text| &**text).collect::<Vec<_>>().join(", "))
        }
    }
}

fn pattern_words(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Any => "has any text".to_owned(),
        Pattern::Exact(text) => format!("is {text:?}"),
        Pattern::Prefix(text) => format!("starts with {text:?}"),
        Pattern::Suffix(text) => format!("ends with {text:?}"),
        Pattern::Contains(text) => format!("contains {text:?}"),
        Pattern::Glob(pieces) => {
            let pieces = pieces.iter().map(|piece| match piece {
                Piece::Literal(text) => text.as_str(),
                Piece::AnyText => "*",
                Piece::OneCharacter => "?",
            });
            format!("is like {:?}", pieces.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lists, load};

    #[test]
    fn each_part_tells_what_it_came_to() {
        let text = "title: t\ndetection:\n  s: {verb: [get, list], a|startswith: x}\n  \
            f: {requestObject.b: 1}\n  condition: s and not f";
        let loaded = load(&[("r.yml".to_owned(), text.to_owned())], &Lists::shipped());
        let verdicts = |event: &str| {
            let whole = explain(&loaded.rules[0], event.as_bytes()).unwrap();
            let inner: Vec<_> = whole.parts.iter().map(|part| part.verdict).collect();
            (whole.verdict, inner)
        };
        use Verdict::{Fails, Holds, NotEvaluable};
        for (event, whole, parts) in [
            (r#"{"verb":"get","a":"xy"}"#, Holds, [Holds, Holds]),
            (r#"{"verb":"get","a":"y"}"#, Fails, [Fails, Holds]),
            (r#"{"verb":"get","a":"x","requestObject":{"b":1}}"#, Fails, [Holds, Fails]),
            (r#"{"verb":"get","a":"x","level":"Metadata"}"#, NotEvaluable, [Holds, NotEvaluable]),
        ] {
            assert_eq!(verdicts(event), (whole, parts.to_vec()), "{event}");
        }
        let whole = explain(&loaded.rules[0], br#"{"verb":"watch","a":["x",2]}"#).unwrap();
        let tests = &whole.parts[0].parts;
        assert_eq!(tests[0].parts[0].label, "verb is \"get\" (in any case)");
        assert_eq!(tests[0].parts[0].values, ["watch"]);
        assert_eq!(tests[1].label, "a starts with \"x\" (in any case)");
        assert_eq!(tests[1].values, ["x", "2"]);
        assert_eq!(explain(&loaded.rules[0], b"[]"), None);
    }

    /// The rule's tree, one part a word.
    fn words(part: &Part) -> String {
        let inner = part.parts.iter().map(words).collect::<Vec<_>>().join(", ");
        let mark = if part.verdict == Verdict::Holds { '+' } else { '-' };
        if inner.is_empty() {
            format!("{mark} {}", part.label)
        } else {
            format!("{mark} {} ({inner})", part.label)
        }
    }

    #[test]
    fn conditions_on_members_tell_what_each_member_came_to() {
        for (item, expect) in [
            (
                "'a[any]': {b: x, c|gt: 1}",
                "+ a member of a satisfies (+ member 1 (+ all of (+ b is \"x\" (in any case), + c > 1)), \
                 - member 0 (- all of (+ b is \"x\" (in any case), - c > 1)))",
            ),
            ("'a[-1].b': y", "- member -1 of a satisfies (- member 1 (- b is \"y\" (in any case)))"),
            ("'d[any]': {b: x}", "- a member of d satisfies"),
            ("t|hour: 8", "+ t is a time whose hour is 8"),
            ("e|endswith|fieldref|cased: a.b", "+ e ends with a value of a.b"),
            ("e|fieldref: a.b", "- e is a value of a.b (in any case)"),
        ] {
            let text = format!("title: t\ndetection:\n  s: {{{item}}}\n  condition: s");
            let loaded = load(&[("r.yml".to_owned(), text)], &Lists::shipped());
            assert_eq!(loaded.errors, [], "{item}");
            let event = br#"{"a":[{"b":"x","c":1},{"b":"x","c":2}],"t":"2026-01-31T08:15:00Z","e":"ax"}"#;
            assert_eq!(words(&explain(&loaded.rules[0], event).unwrap()), expect, "{item}");
        }
    }
}
