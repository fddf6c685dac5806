//! Reads the fields by which correlations group and count, from events that some rule matched.

use std::sync::Arc;

use watchbell_event::audit::AuditEvent;

use crate::detect::{facet, is_facet};
use crate::evaluate::MAX_DEPTH;
use crate::json::{Kind, Malformed, Reader};
use crate::text::number_text;

/// Longest value that is kept, in bytes; what is longer is known by its hash.
const MAX_VALUE_BYTES: usize = 1 << 10;

/// What a field holds: nothing, one value, or several as a JSON array. A missing field, null and empty text
/// are all nothing.
pub(crate) type Value = Option<Arc<str>>;

/// Reads fields of events.
pub(crate) struct Fields {
    names: Vec<Box<str>>,
    found: Vec<Vec<String>>,
    scratch: String,
}

impl Fields {
    /// Reads the fields of these names.
    pub(crate) fn new(names: Vec<Box<str>>) -> Self {
        let found = names.iter().map(|_| Vec::new()).collect();
        Self { names, found, scratch: String::new() }
    }

    /// The values of the fields whose numbers are `wanted`; the others are none.
    pub(crate) fn read(&mut self, event: &[u8], wanted: &[usize]) -> Vec<Value> {
        self.found.iter_mut().for_each(Vec::clear);
        let mut paths = Vec::new();
        let mut audit_event = None;
        for &number in wanted {
            let Some(name) = self.names.get(number) else { continue };
            if !is_facet(name) {
                paths.push((number, &**name));
                continue;
            }
            let audit_event = audit_event.get_or_insert_with(|| AuditEvent::parse(event));
            let value = facet(name, &audit_event.facets(), audit_event).flatten();
            if let (Some(values), Some(value)) = (self.found.get_mut(number), value) {
                values.extend(Some(value).filter(|value| !value.is_empty()));
            }
        }
        if let (Ok(text), false) = (std::str::from_utf8(event), paths.is_empty()) {
            let mut walk = Walk { reader: Reader::new(text), found: &mut self.found };
            // What is not JSON has no fields, and matched nothing.
            let _ = walk.value(&paths, &mut self.scratch, 0);
        }
        self.found.iter().map(|values| joined(values)).collect()
    }
}

fn joined(values: &[String]) -> Value {
    match values {
        [] => None,
        [value] => Some(bounded(value)),
        values => Some(bounded(&serde_json::Value::from(values).to_string())),
    }
}

fn bounded(text: &str) -> Arc<str> {
    if text.len() <= MAX_VALUE_BYTES {
        return text.into();
    }
    let start = &text[..text.floor_char_boundary(MAX_VALUE_BYTES / 2)];
    format!("{start}… (blake3 {})", blake3::hash(text.as_bytes()).to_hex()).into()
}

struct Walk<'a> {
    reader: Reader<'a>,
    found: &'a mut [Vec<String>],
}

impl Walk<'_> {
    /// Reads a value of which these fields want the rest of their paths.
    fn value(
        &mut self,
        paths: &[(usize, &str)],
        scratch: &mut String,
        depth: usize,
    ) -> Result<(), Malformed> {
        if paths.is_empty() || depth > MAX_DEPTH {
            return self.reader.skip();
        }
        match self.reader.kind()? {
            Kind::Object => {
                let mut more = self.reader.enter(b'{', b'}')?;
                while more {
                    let below = below(paths, self.reader.key(scratch)?);
                    self.value(&below, scratch, depth + 1)?;
                    more = self.reader.more(b'}')?;
                }
                Ok(())
            }
            Kind::Array => {
                let mut more = self.reader.enter(b'[', b']')?;
                while more {
                    self.value(paths, scratch, depth + 1)?;
                    more = self.reader.more(b']')?;
                }
                Ok(())
            }
            Kind::Text => {
                let text = self.reader.string(scratch)?;
                if !text.is_empty() {
                    add(self.found, paths, text);
                }
                Ok(())
            }
            Kind::Number => {
                let number = number_text(self.reader.number()?);
                add(self.found, paths, &number);
                Ok(())
            }
            Kind::True => {
                add(self.found, paths, "true");
                self.reader.word("true")
            }
            Kind::False => {
                add(self.found, paths, "false");
                self.reader.word("false")
            }
            Kind::Null => self.reader.word("null"),
        }
    }
}

/// What is left of the paths below a key; a key may itself hold dots.
fn below<'p>(paths: &[(usize, &'p str)], key: &str) -> Vec<(usize, &'p str)> {
    let rest = |path: &'p str| {
        let rest = path.strip_prefix(key)?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
    };
    paths.iter().filter_map(|(field, path)| Some((*field, rest(path)?))).collect()
}

fn add(found: &mut [Vec<String>], paths: &[(usize, &str)], value: &str) {
    for (field, rest) in paths {
        if let (true, Some(values)) = (rest.is_empty(), found.get_mut(*field)) {
            values.push(value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_through_arrays_and_dotted_keys() {
        let names =
            ["a.b", "list.n", "annotations.authorization.k8s.io/decision", "user.name", "gone", "empty"];
        let mut fields = Fields::new(names.into_iter().map(Box::from).collect());
        let event = br#"{"a":{"b":"x"},"a.b":1.0,"list":[{"n":"p"},{"n":[true,null]}],"empty":"",
            "annotations":{"authorization.k8s.io/decision":"forbid"},"user":{"username":"eve"}}"#;
        let found = fields.read(event, &[0, 1, 2, 3, 4, 5]);
        let texts: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
        let expect = [Some(r#"["x","1"]"#), Some(r#"["p","true"]"#), Some("forbid"), Some("eve"), None, None];
        assert_eq!(texts, expect);
        assert_eq!(fields.read(event, &[3])[0], None);
        assert!(fields.read(b"[1", &[0]).iter().all(Option::is_none));
    }

    #[test]
    fn long_values_stay_apart_by_their_hash() {
        let mut fields = Fields::new(vec!["a".into()]);
        let mut read =
            |end: &str| fields.read(format!(r#"{{"a":"{}{end}"}}"#, "é".repeat(9000)).as_bytes(), &[0]);
        let (one, other) = (read("1"), read("2"));
        assert_ne!(one, other);
        assert!(one[0].as_ref().is_some_and(|text| text.len() < 2 * MAX_VALUE_BYTES));
    }
}
