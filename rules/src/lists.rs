//! Named lists, which rules read as `%NAME%` under the modifier `expand`.
//!
//! A file of lists is a YAML mapping, recognised by what is in it:
//!
//! ```yaml
//! system_namespaces:
//!   description: Namespaces of the control plane.
//!   values: [kube-system, kube-public]
//! ```

use std::collections::BTreeMap;

use watchbell_event::yaml::{self, Entry, Node, Value};

use crate::problems::Problems;
use crate::sigma::MAX_VALUE_BYTES;

/// Longest name of a list, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 64;
/// Most values of one list.
pub(crate) const MAX_VALUES: usize = 10_000;
/// Most lists in one set.
pub(crate) const MAX_LISTS: usize = 1_000;

/// The file of lists that ships.
const SHIPPED: &str = include_str!("../library/lists.yml");
const SHIPPED_NAME: &str = "lists.yml";

/// Keys of other documents, which a file of lists does not have.
const OTHER_DOCUMENTS: [&str; 6] =
    ["action", "correlation", "detection", "filter", "title", "transformations"];

/// Lists by name. What is set with [`Lists::override_with`] goes before what files say, and a later layer of
/// files before an earlier one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lists {
    from_files: BTreeMap<String, List>,
    overrides: BTreeMap<String, List>,
}

/// One list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// What it is for.
    pub description: String,
    /// Its values; `*` and `?` in them are wildcards. Without any, nothing equals a member of the list.
    pub values: Vec<String>,
}

impl Lists {
    /// The lists that ship.
    #[must_use]
    pub fn shipped() -> Self {
        let mut lists = Self::default();
        let mut problems = Problems::new(SHIPPED_NAME);
        for document in yaml::parse(SHIPPED).unwrap_or_default() {
            lists.read(&document, &mut BTreeMap::new(), &mut problems);
        }
        lists
    }

    /// Sets a list, whatever files say.
    ///
    /// # Errors
    /// Why the name or a value cannot be that of a list, or the limit that is exceeded.
    pub fn override_with(&mut self, name: &str, values: Vec<String>) -> Result<(), String> {
        check_name(name)?;
        check_values(&values)?;
        let description = self.from_files.get(name).map(|list| list.description.clone()).unwrap_or_default();
        insert(&mut self.overrides, name, List { description, values })
    }

    /// The list of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&List> {
        self.overrides.get(name).or_else(|| self.from_files.get(name))
    }

    /// The list of a name, and the name as the lists keep it.
    pub(crate) fn entry(&self, name: &str) -> Option<(&str, &List)> {
        let entry = self.overrides.get_key_value(name).or_else(|| self.from_files.get_key_value(name));
        entry.map(|(name, list)| (name.as_str(), list))
    }

    /// All lists in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &List)> {
        let mut all: BTreeMap<&str, &List> = BTreeMap::new();
        let layers = self.from_files.iter().chain(&self.overrides);
        all.extend(layers.map(|(name, list)| (name.as_str(), list)));
        all.into_iter()
    }

    /// Whether a document holds lists rather than anything else.
    pub(crate) fn are_in(document: &Node) -> bool {
        let Some(entries) = document.entries() else { return false };
        !entries.iter().any(|entry| OTHER_DOCUMENTS.contains(&entry.key.as_str()))
            && entries.iter().any(|entry| entry.value.get("values").is_some())
    }

    /// Reads a document of lists; `seen` has those of its layer, with file and line.
    pub(crate) fn read(
        &mut self,
        document: &Node,
        seen: &mut BTreeMap<String, (String, usize)>,
        problems: &mut Problems<'_>,
    ) {
        for entry in document.entries().unwrap_or_default() {
            let Some(list) = read_list(entry, problems) else { continue };
            if let Some((file, line)) = seen.get(&entry.key) {
                let reason = format!("list {:?} is already in {file}, line {line}", entry.key);
                problems.add(entry.line, reason);
                continue;
            }
            seen.insert(entry.key.clone(), (problems.file().to_owned(), entry.line));
            problems.check(entry.line, insert(&mut self.from_files, &entry.key, list));
        }
    }
}

fn read_list(entry: &Entry, problems: &mut Problems<'_>) -> Option<List> {
    let before = problems.count();
    problems.check(entry.line, check_name(&entry.key));
    let name = format!("list {:?}", entry.key.chars().take(MAX_NAME_BYTES).collect::<String>());
    let Some(attributes) = entry.value.entries() else {
        problems.add(entry.line, format!("{name} must be a mapping with values, not {}", entry.value.kind()));
        return None;
    };
    for attribute in attributes.iter().filter(|attribute| !is_known(&attribute.key)) {
        let reason = format!("unknown key {:?} of {name}; known: description, values", attribute.key);
        problems.add(attribute.line, reason);
    }
    let Some(values) = entry.value.get("values") else {
        problems.add(entry.line, format!("{name} has no values"));
        return None;
    };
    let items = match &values.value {
        Value::Null => &[],
        _ => values.items().unwrap_or(std::slice::from_ref(values)),
    };
    for item in items.iter().filter(|item| item.scalar_text().is_none()) {
        problems.add(item.line, format!("a value of {name} must be text or a number, not {}", item.kind()));
    }
    let values: Vec<String> = items.iter().filter_map(Node::scalar_text).collect();
    problems.check(entry.line, check_values(&values).map_err(|reason| format!("{name}: {reason}")));
    let description = entry.value.get("description").and_then(Node::scalar_text).unwrap_or_default();
    (problems.count() == before).then_some(List { description: description.trim().to_owned(), values })
}

fn is_known(attribute: &str) -> bool {
    matches!(attribute, "description" | "values")
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !plain {
        return Err(format!(
            "the name of a list has up to {MAX_NAME_BYTES} letters, digits and underscores, not {:?}",
            name.chars().take(MAX_NAME_BYTES).collect::<String>()
        ));
    }
    Ok(())
}

fn check_values(values: &[String]) -> Result<(), String> {
    if values.len() > MAX_VALUES {
        return Err(format!("more than {MAX_VALUES} values"));
    }
    match values.iter().any(|value| value.len() > MAX_VALUE_BYTES) {
        true => Err(format!("a value is longer than {MAX_VALUE_BYTES} bytes")),
        false => Ok(()),
    }
}

fn insert(lists: &mut BTreeMap<String, List>, name: &str, list: List) -> Result<(), String> {
    if lists.len() >= MAX_LISTS && !lists.contains_key(name) {
        return Err(format!("more than {MAX_LISTS} lists"));
    }
    lists.insert(name.to_owned(), list);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_lists_are_sound() {
        let documents = yaml::parse(SHIPPED).unwrap();
        let mut problems = Problems::new(SHIPPED_NAME);
        let mut seen = BTreeMap::new();
        for document in &documents {
            assert!(Lists::are_in(document));
            Lists::default().read(document, &mut seen, &mut problems);
        }
        assert_eq!(problems.into_errors(), []);
        let lists = Lists::shipped();
        assert_eq!(lists.get("system_namespaces").unwrap().values[0], "kube-system");
        assert!(lists.iter().count() == seen.len());
        assert!(lists.iter().all(|(_, list)| !list.description.is_empty()));
    }

    #[test]
    fn an_override_goes_before_files() {
        let mut lists = Lists::shipped();
        lists.override_with("system_namespaces", vec!["infra".to_owned()]).unwrap();
        let text = "system_namespaces: {values: [x]}\nmine: {values: 7}\nnone: {values: []}";
        let mut problems = Problems::new("lists.yml");
        lists.read(&yaml::parse(text).unwrap()[0], &mut BTreeMap::new(), &mut problems);
        assert_eq!(problems.into_errors(), []);
        assert_eq!(lists.get("system_namespaces").unwrap().values, ["infra"]);
        assert!(!lists.get("system_namespaces").unwrap().description.is_empty());
        assert_eq!(lists.get("mine").unwrap().values, ["7"]);
        assert!(lists.get("none").unwrap().values.is_empty());
        assert!(lists.override_with("a b", Vec::new()).is_err());
        assert!(lists.override_with("a", vec!["x".repeat(9000)]).is_err());
        assert!(lists.override_with("a", vec![String::new(); MAX_VALUES + 1]).is_err());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let text = "a: {values: [x]}\nb: [x]\nc:\n  value: x\n  values:\n  - [y]\nd: {description: x}\n'e-e': {values: x}";
        let document = &yaml::parse(text).unwrap()[0];
        assert!(Lists::are_in(document));
        let mut problems = Problems::new("lists.yml");
        let mut seen = BTreeMap::from([("a".to_owned(), ("other.yml".to_owned(), 3))]);
        Lists::default().read(document, &mut seen, &mut problems);
        let errors: Vec<String> = problems.into_errors().iter().map(ToString::to_string).collect();
        let expect = [
            "lists.yml:1: list \"a\" is already in other.yml, line 3",
            "lists.yml:2: list \"b\" must be a mapping",
            "lists.yml:4: unknown key \"value\"",
            "lists.yml:6: a value of list \"c\"",
            "lists.yml:7: list \"d\" has no values",
            "lists.yml:8: the name of a list",
        ];
        assert_eq!(errors.len(), expect.len(), "{errors:?}");
        for (error, expect) in errors.iter().zip(expect) {
            assert!(error.starts_with(expect), "{error}");
        }
    }
}
