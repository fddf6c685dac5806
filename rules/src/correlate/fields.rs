//! The values by which correlations group and count, of one event at a time. The evaluator keeps them when it reads
//! the event; here they become one text each.

use std::ops::Range;
use std::sync::Arc;

use crate::evaluate::Evaluator;

/// Longest value that is kept, in bytes; what is longer is known by its hash.
const MAX_VALUE_BYTES: usize = 1 << 10;
/// Memory that is kept from one event to the next, in bytes.
const KEPT_BYTES: usize = 64 << 10;

/// What a field holds: nothing, one value, or several as a JSON array. A missing field, null and empty text
/// are all nothing.
pub(crate) type Value = Option<Arc<str>>;

/// The values of one event.
#[derive(Default)]
pub(crate) struct Fields {
    known: Vec<Known>,
    text: String,
}

/// What is known of a field.
#[derive(Clone, Default)]
enum Known {
    #[default]
    Unread,
    Nothing,
    At(Range<usize>),
}

impl Fields {
    /// Forgets the event before, to read one that has this many fields.
    pub(crate) fn begin(&mut self, count: usize) {
        self.known.clear();
        self.known.resize(count, Known::Unread);
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
    }

    /// Reads a field of the event that `evaluator` read last, unless that is done.
    pub(crate) fn read(&mut self, field: usize, evaluator: &Evaluator) {
        let Some(known @ Known::Unread) = self.known.get_mut(field) else { return };
        let start = self.text.len();
        let mut values = evaluator.counted(field);
        *known = match (values.next(), values.next()) {
            (None, _) => Known::Nothing,
            (Some(value), None) => {
                add_bounded(&mut self.text, value);
                Known::At(start..self.text.len())
            }
            (Some(last), Some(before)) => {
                let mut all: Vec<&str> = [last, before].into_iter().chain(values).collect();
                all.reverse();
                add_bounded(&mut self.text, &serde_json::Value::from(all).to_string());
                Known::At(start..self.text.len())
            }
        };
    }

    /// The value of a field that was read.
    pub(crate) fn get(&self, field: usize) -> Option<&str> {
        match self.known.get(field)? {
            Known::At(range) => self.text.get(range.clone()),
            Known::Unread | Known::Nothing => None,
        }
    }
}

fn add_bounded(text: &mut String, value: &str) {
    if value.len() <= MAX_VALUE_BYTES {
        text.push_str(value);
        return;
    }
    text.push_str(&value[..value.floor_char_boundary(MAX_VALUE_BYTES / 2)]);
    text.push_str("… (blake3 ");
    text.push_str(&blake3::hash(value.as_bytes()).to_hex());
    text.push(')');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::RuleSet;
    use crate::{Lists, load};

    const NAMES: [&str; 8] = [
        "a.b",
        "list.n",
        "annotations.authorization.k8s.io/decision",
        "user.name",
        "source.ip",
        "event.action",
        "gone",
        "empty",
    ];

    /// Reads the fields that a correlation groups by.
    fn read(event: &str) -> Vec<Option<String>> {
        let rules = format!(
            "title: A\nname: a\ndetection: {{s: {{verb|exists: true}}, condition: s}}\n---\ntitle: B\ncorrelation: \
             {{type: event_count, rules: [a], group-by: {NAMES:?}, timespan: 1m, condition: {{gte: 1}}}}\n"
        );
        let loaded = load(&[("rules.yml".to_owned(), rules)], &Lists::default());
        assert_eq!(loaded.errors, []);
        let set = Arc::new(RuleSet::compile(loaded.rules));
        let numbers: Vec<_> = NAMES
            .iter()
            .map(|name| set.correlations.fields.iter().position(|field| **field == **name).unwrap())
            .collect();
        let mut evaluator = Evaluator::new(set);
        evaluator.matches(event.as_bytes(), &mut Vec::new());
        let mut fields = Fields::default();
        fields.begin(NAMES.len());
        assert!((0..NAMES.len()).all(|field| fields.get(field).is_none()));
        (0..NAMES.len()).for_each(|field| fields.read(field, &evaluator));
        numbers.into_iter().map(|field| fields.get(field).map(str::to_owned)).collect()
    }

    #[test]
    fn fields_are_found_through_arrays_and_dotted_keys_and_facets_are_computed() {
        let event = r#"{"a":{"b":"x"},"a.b":1.0,"list":[{"n":"p"},{"n":[true,null]}],"empty":"","verb":"get",
            "annotations":{"authorization.k8s.io/decision":"forbid"},"user":{"username":"eve"},
            "sourceIPs":["203.0.113.9","10.0.0.7"]}"#;
        let expect = [
            Some(r#"["x","1"]"#),
            Some(r#"["p","true"]"#),
            Some("forbid"),
            Some("eve"),
            Some("10.0.0.7"),
            Some("get"),
            None,
            None,
        ];
        assert_eq!(read(event).iter().map(Option::as_deref).collect::<Vec<_>>(), expect);
        assert!(read("[1").iter().all(Option::is_none));
    }

    #[test]
    fn long_values_stay_apart_by_their_hash() {
        let read = |end: &str| read(&format!(r#"{{"a":{{"b":"{}{end}"}}}}"#, "é".repeat(9000))).remove(0);
        let (one, other) = (read("1"), read("2"));
        assert_ne!(one, other);
        assert!(one.is_some_and(|text| text.len() < 2 * MAX_VALUE_BYTES));
    }
}
