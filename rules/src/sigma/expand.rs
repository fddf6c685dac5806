//! The modifier `expand`: `%NAME%` in a value stands for the values of a list.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::MAX_VALUE_BYTES;
use crate::lists::Lists;

/// Most values that one value with placeholders may become.
pub(crate) const MAX_EXPANDED_VALUES: usize = 10_000;

/// Most text that one value with placeholders may become, in bytes.
pub(crate) const MAX_EXPANDED_BYTES: usize = 16 << 20;

/// The lists that a rule may read, and those that it has read.
pub(super) struct Placeholders<'a> {
    lists: &'a Lists,
    used: BTreeSet<&'a str>,
}

/// A piece of a value.
enum Part {
    Text(String),
    Values(Vec<String>),
}

impl<'a> Placeholders<'a> {
    /// Starts with none read.
    pub(super) fn new(lists: &'a Lists) -> Self {
        Self { lists, used: BTreeSet::new() }
    }

    /// The names of the lists that were read.
    pub(super) fn used(&self) -> Vec<Arc<str>> {
        self.used.iter().map(|name| Arc::from(*name)).collect()
    }

    /// One text for each choice of values for the placeholders. `\%` is a percent sign, and so is one that
    /// does not stand around a name.
    ///
    /// # Errors
    /// The list that is unknown, or the limit that is exceeded.
    pub(super) fn expand(&mut self, text: &str) -> Result<Vec<String>, String> {
        let (lists, used) = (self.lists, &mut self.used);
        let mut values = |name: &str| {
            let Some((name, list)) = lists.entry(name) else {
                return Err(format!("there is no list of the name {name:?}"));
            };
            used.insert(name);
            Ok(Some(list.values.clone()))
        };
        substitute(text, &mut values, false)
    }
}

/// The values of the placeholder of a name; none if it is left as it is.
type Lookup<'a> = dyn FnMut(&str) -> Result<Option<Vec<String>>, String> + 'a;

/// One text for each choice of values for the placeholders that `lookup` knows.
///
/// # Errors
/// Those of `lookup`, and the limit that is exceeded.
pub(super) fn substitute(
    text: &str,
    lookup: &mut Lookup<'_>,
    keep_escapes: bool,
) -> Result<Vec<String>, String> {
    if text.len() > MAX_VALUE_BYTES {
        return Err(format!("a value is longer than {MAX_VALUE_BYTES} bytes"));
    }
    let mut expanded = vec![String::new()];
    for part in parts(text, lookup, keep_escapes)? {
        match part {
            Part::Text(text) => expanded.iter_mut().for_each(|value| value.push_str(&text)),
            Part::Values(values) => {
                if expanded.len().saturating_mul(values.len()) > MAX_EXPANDED_VALUES {
                    return Err(format!("{text:?} comes to more than {MAX_EXPANDED_VALUES} values"));
                }
                let bytes = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
                let longer = bytes(&expanded).saturating_mul(values.len());
                if longer.saturating_add(bytes(&values).saturating_mul(expanded.len())) > MAX_EXPANDED_BYTES {
                    return Err(format!("a value comes to more than {MAX_EXPANDED_BYTES} bytes of text"));
                }
                let longer = |start: &String| -> Vec<String> {
                    values.iter().map(|end| format!("{start}{end}")).collect()
                };
                expanded = expanded.iter().flat_map(longer).collect();
            }
        }
    }
    Ok(expanded)
}

fn parts(text: &str, lookup: &mut Lookup<'_>, keep_escapes: bool) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("\\%") {
            literal.push_str(if keep_escapes { "\\%" } else { "%" });
            rest = after;
            continue;
        }
        if let Some((name, after)) = placeholder(rest) {
            match lookup(name)? {
                Some(values) => {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                    parts.push(Part::Values(values));
                }
                None => literal.push_str(&rest[..rest.len() - after.len()]),
            }
            rest = after;
            continue;
        }
        literal.push(character);
        rest = &rest[character.len_utf8()..];
    }
    parts.push(Part::Text(literal));
    Ok(parts)
}

/// The name of the placeholder that `text` begins with, and what follows it.
fn placeholder(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix('%')?.split_once('%')?;
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some((name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists_too_long() {
        let mut lists = Lists::default();
        lists.override_with("long", vec!["x".repeat(8000); 2000]).unwrap();
        let mut placeholders = Placeholders::new(&lists);
        assert!(placeholders.expand("%long%xxx").is_ok());
        assert!(placeholders.expand(&"y".repeat(1000)).is_ok());
        let long = format!("{}%long%", "y".repeat(1000));
        assert!(placeholders.expand(&long).unwrap_err().contains("bytes of text"));
        assert!(placeholders.expand(&"y".repeat(9000)).unwrap_err().contains("longer than"));
    }

    #[test]
    fn placeholders_become_the_values_of_their_lists() {
        let mut lists = Lists::default();
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        lists.override_with("ab", values(&["a", "b*"])).unwrap();
        lists.override_with("cd", values(&["c", "d"])).unwrap();
        lists.override_with("none", Vec::new()).unwrap();
        lists.override_with("many", vec![String::new(); 200]).unwrap();
        let mut placeholders = Placeholders::new(&lists);
        for (text, expect) in [
            ("%ab%", &["a", "b*"][..]),
            ("x%ab%-%cd%.", &["xa-c.", "xa-d.", "xb*-c.", "xb*-d."]),
            ("%none%", &[]),
            ("100%", &["100%"]),
            ("%% %a b% %", &["%% %a b% %"]),
            (r"\%ab%", &["%ab%"]),
            (r"c:\x\%ab\%", &[r"c:\x%ab%"]),
        ] {
            assert_eq!(placeholders.expand(text), Ok(values(expect)), "{text}");
        }
        assert!(placeholders.expand("%ef%").unwrap_err().contains("no list of the name \"ef\""));
        lists_too_long();
        assert!(placeholders.expand("%many%%many%").unwrap_err().contains("more than 10000 values"));
        assert_eq!(placeholders.used(), ["ab", "cd", "many", "none"].map(Arc::from));
    }
}
