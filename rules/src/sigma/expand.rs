//! The modifier `expand`: `%NAME%` in a value stands for the values of a list.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::lists::Lists;

/// Most values that one value with placeholders may become.
pub(crate) const MAX_EXPANDED_VALUES: usize = 10_000;

/// The lists that a rule may read, and those that it has read.
pub(super) struct Placeholders<'a> {
    lists: &'a Lists,
    used: BTreeSet<&'a str>,
}

/// A piece of a value.
enum Part<'a> {
    Text(String),
    Values(&'a [String]),
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
        let mut expanded = vec![String::new()];
        for part in self.parts(text)? {
            match part {
                Part::Text(text) => expanded.iter_mut().for_each(|value| value.push_str(&text)),
                Part::Values(values) => {
                    if expanded.len().saturating_mul(values.len()) > MAX_EXPANDED_VALUES {
                        return Err(format!("{text:?} comes to more than {MAX_EXPANDED_VALUES} values"));
                    }
                    let longer = expanded
                        .iter()
                        .flat_map(|start| values.iter().map(move |end| format!("{start}{end}")));
                    expanded = longer.collect();
                }
            }
        }
        Ok(expanded)
    }

    fn parts(&mut self, text: &str) -> Result<Vec<Part<'a>>, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("\\%") {
                literal.push('%');
                rest = after;
            } else if let Some((name, after)) = placeholder(rest) {
                let lists = self.lists;
                let Some((name, list)) = lists.entry(name) else {
                    return Err(format!("there is no list of the name {name:?}"));
                };
                self.used.insert(name);
                parts.push(Part::Text(std::mem::take(&mut literal)));
                parts.push(Part::Values(&list.values));
                rest = after;
            } else {
                literal.push(character);
                rest = &rest[character.len_utf8()..];
            }
        }
        parts.push(Part::Text(literal));
        Ok(parts)
    }
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
        assert!(placeholders.expand("%many%%many%").unwrap_err().contains("more than 10000 values"));
        assert_eq!(placeholders.used(), ["ab", "cd", "many", "none"].map(Arc::from));
    }
}
