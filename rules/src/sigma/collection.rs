//! Collections: documents of one file that share what a document with `action` says.
//!
//! `global` is merged into all rules that follow, until the next `global` or `reset`; `repeat` is the rule
//! before it, once more. What a document says itself goes before what is merged in.

use watchbell_event::yaml::{Entry, Node, Value};

use crate::problems::Problems;

/// Most values in all documents of one file together, once they are merged.
pub(crate) const MAX_MERGED_VALUES: usize = 2_000_000;

/// Keys of documents that are no rules, and that nothing is merged into.
const OTHER_DOCUMENTS: [&str; 3] = ["correlation", "filter", "transformations"];

/// What has been seen of a file.
#[derive(Default)]
struct Collection {
    global: Option<Node>,
    previous: Option<Node>,
    values: usize,
    repeats: usize,
}

/// The documents that the documents of a file stand for.
pub(crate) fn resolve(documents: Vec<Node>, problems: &mut Problems<'_>) -> Vec<Node> {
    if !documents.iter().any(|document| document.get("action").is_some()) {
        return documents;
    }
    let mut collection = Collection::default();
    let mut resolved = Vec::new();
    for document in documents {
        let line = document.line;
        resolved.extend(collection.take(document, problems));
        if collection.values > MAX_MERGED_VALUES {
            problems.add(line, format!("the collection comes to more than {MAX_MERGED_VALUES} values"));
            break;
        }
    }
    resolved
}

impl Collection {
    /// Takes one document; yields the rule that it stands for.
    fn take(&mut self, document: Node, problems: &mut Problems<'_>) -> Option<Node> {
        let Some(action) = document.get("action") else {
            let is_rule = !OTHER_DOCUMENTS.iter().any(|key| document.get(key).is_some());
            return Some(if is_rule { self.rule(document) } else { document });
        };
        let (line, action) = (action.line, action.scalar_text().unwrap_or_default());
        let document = without_action(document);
        match action.as_str() {
            "global" => {
                self.global = Some(document.clone());
                self.previous = Some(document);
                None
            }
            "reset" => {
                self.global = None;
                None
            }
            "repeat" => match &self.previous {
                Some(previous) => {
                    let mut repeated = Node { line: document.line, value: previous.value.clone() };
                    let own_id = document.get("id").is_some();
                    merge(&mut repeated, &document);
                    self.previous = Some(repeated.clone());
                    self.values += count(&repeated);
                    self.repeats += 1;
                    Some(if own_id { repeated } else { with_own_id(repeated, self.repeats + 1) })
                }
                None => {
                    problems.add(line, "action: repeat has no document before it to repeat");
                    None
                }
            },
            other => {
                problems.add(line, format!("unknown action {other:?}; known: global, reset, repeat"));
                None
            }
        }
    }

    fn rule(&mut self, mut document: Node) -> Node {
        if let Some(global) = &self.global {
            let shared_id = document.get("id").is_none() && global.get("id").is_some();
            let mut merged = Node { line: document.line, value: global.value.clone() };
            merge(&mut merged, &document);
            document = merged;
            if shared_id {
                self.repeats += 1;
                self.previous = Some(document.clone());
                document = with_own_id(document, self.repeats);
            }
        }
        self.values += count(&document);
        self.previous = Some(document.clone());
        document
    }
}

/// Rules that share an id are told apart by their number, from the second on. Those without any are told apart once
/// they are rules.
fn with_own_id(mut document: Node, number: usize) -> Node {
    if number < 2 {
        return document;
    }
    let Value::Mapping(entries) = &mut document.value else { return document };
    if let Some(entry) = entries.iter_mut().find(|entry| entry.key == "id")
        && let Some(text) = entry.value.scalar_text()
    {
        entry.value.value = Value::String(format!("{text}#{number}"));
    }
    document
}

fn without_action(mut document: Node) -> Node {
    if let Value::Mapping(entries) = &mut document.value {
        entries.retain(|entry| entry.key != "action");
    }
    document
}

/// Merges mappings key by key; anything else in `source` takes the place of what stands in `target`.
fn merge(target: &mut Node, source: &Node) {
    let (Value::Mapping(entries), Value::Mapping(others)) = (&mut target.value, &source.value) else {
        *target = source.clone();
        return;
    };
    for other in others {
        match entries.iter_mut().find(|entry| entry.key == other.key) {
            Some(Entry { value, .. }) => merge(value, &other.value),
            None => entries.push(other.clone()),
        }
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Sequence(items) => items.iter().map(count).sum(),
        Value::Mapping(entries) => entries.iter().map(|entry| count(&entry.value)).sum(),
        _ => 0,
    }
}
