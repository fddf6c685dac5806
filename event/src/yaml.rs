//! YAML that people write (rules, configuration), read with line numbers and under limits.
//!
//! Plain scalars follow the YAML 1.2 core schema. Aliases are expanded by copying, and every copied node
//! counts against [`MAX_NODES`], so that a small text cannot grow without bound. Merge keys (`<<`) and
//! duplicate keys are refused.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Longest text that is read, in bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// Most nodes in one text, with aliases expanded.
pub const MAX_NODES: usize = 400_000;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 64;

/// A value and the line it begins on.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// One-based.
    pub line: usize,
    /// What stands there.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number, with the text it was written as.
    Integer(i64, String),
    /// Any other number, with the text it was written as.
    Float(f64, String),
    /// Text.
    String(String),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in the order written.
    Mapping(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// The line the key stands on.
    pub line: usize,
    /// What it maps to.
    pub value: Node,
}

/// Why a text could not be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct YamlError {
    /// One-based.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

impl Node {
    /// The value under `key`, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The entries, if this is a mapping.
    #[must_use]
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// The members, if this is a list.
    #[must_use]
    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The text, if this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The text of any scalar but null, as it was written.
    #[must_use]
    pub fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Integer(_, text) | Value::Float(_, text) | Value::String(text) => Some(text.clone()),
            Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// What this is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Integer(..) | Value::Float(..) => "a number",
            Value::String(_) => "text",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Sequence(items) => items.iter().map(Node::count).sum(),
            Value::Mapping(entries) => entries.iter().map(|entry| 1 + entry.value.count()).sum(),
            _ => 0,
        }
    }
}

/// Reads all documents of a text.
///
/// # Errors
/// The first place that is not YAML or goes beyond a limit.
pub fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    if text.len() > MAX_BYTES {
        let reason = format!("the text has {} bytes; at most {MAX_BYTES} are read", text.len());
        return Err(YamlError { line: 1, reason });
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| YamlError {
            line: error.marker().line(),
            reason: format!("not YAML: {}", error.info()),
        })?;
        builder.take(event, span)?;
    }
    Ok(builder.documents)
}

/// An unfinished list or mapping.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<(String, usize)>,
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = if plain { resolve(&text) } else { Value::String(text.into_owned()) };
                self.close(Node { line, value }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.open(line, Value::Sequence(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.open(line, Value::Mapping(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { node, anchor, .. }) => self.close(node, anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return error(line, "an alias refers to an anchor that is not complete");
                };
                self.nodes += node.count();
                self.check_size(line)?;
                let node = Node { line, ..node.clone() };
                self.close(node, 0)
            }
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, line: usize, value: Value, anchor: usize) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return error(line, &format!("nested deeper than {MAX_DEPTH}"));
        }
        self.open.push(Open { node: Node { line, value }, anchor, key: None });
        Ok(())
    }

    /// Puts a finished node where it belongs: into the open list or mapping, or at the top.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        self.nodes += 1;
        self.check_size(node.line)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match (&mut parent.node.value, parent.key.take()) {
            (Value::Sequence(items), _) => items.push(node),
            (Value::Mapping(entries), Some((key, line))) => entries.push(Entry { key, line, value: node }),
            (Value::Mapping(entries), None) => parent.key = Some((mapping_key(entries, &node)?, node.line)),
            _ => {}
        }
        Ok(())
    }

    fn check_size(&self, line: usize) -> Result<(), YamlError> {
        if self.nodes > MAX_NODES {
            return error(
                line,
                &format!("more than {MAX_NODES} values (aliases count as what they stand for)"),
            );
        }
        Ok(())
    }
}

fn mapping_key(entries: &[Entry], key: &Node) -> Result<String, YamlError> {
    let text = match &key.value {
        Value::Null => "null".to_owned(),
        _ => match key.scalar_text() {
            Some(text) => text,
            None => return error(key.line, "a key must be text, not a list or a mapping"),
        },
    };
    if text == "<<" {
        return error(key.line, "merge keys (<<) are not supported; write the fields out");
    }
    if let Some(first) = entries.iter().find(|entry| entry.key == text) {
        return error(key.line, &format!("key {text:?} is already given in line {}", first.line));
    }
    Ok(text)
}

/// A plain scalar's value by the YAML 1.2 core schema.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let radix = |prefix, radix| i64::from_str_radix(text.strip_prefix(prefix)?, radix).ok();
    if let Some(number) = text.parse().ok().or_else(|| radix("0x", 16)).or_else(|| radix("0o", 8)) {
        return Value::Integer(number, text.to_owned());
    }
    let numeric = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    match text.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => Value::Float(number, text.to_owned()),
        _ => Value::String(text.to_owned()),
    }
}

fn error<T>(line: usize, reason: &str) -> Result<T, YamlError> {
    Err(YamlError { line, reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_follow_the_core_schema_and_quotes_make_text() {
        let documents =
            parse("[1, -2, 0x1f, 1.50, .5, '1', \"true\", yes, null, ~, 1.2.3, on, inf]").unwrap();
        let values: Vec<Value> =
            documents[0].items().unwrap().iter().map(|node| node.value.clone()).collect();
        let text = |text: &str| Value::String(text.to_owned());
        let expect = vec![
            Value::Integer(1, "1".to_owned()),
            Value::Integer(-2, "-2".to_owned()),
            Value::Integer(31, "0x1f".to_owned()),
            Value::Float(1.5, "1.50".to_owned()),
            Value::Float(0.5, ".5".to_owned()),
            text("1"),
            text("true"),
            text("yes"),
            Value::Null,
            Value::Null,
            text("1.2.3"),
            text("on"),
            text("inf"),
        ];
        assert_eq!(values, expect);
    }

    #[test]
    fn lines_are_kept_across_documents() {
        let documents = parse("a: 1\nb:\n  - x\n  - y: z\n---\nc: &n {d: 1}\ne: *n\n").unwrap();
        assert_eq!(documents.len(), 2);
        let list = documents[0].get("b").unwrap().items().unwrap();
        assert_eq!((list[0].line, list[1].line), (3, 4));
        assert_eq!(documents[1].get("e").unwrap().line, 7);
        assert_eq!(documents[1].get("e").unwrap().get("d").unwrap().value, Value::Integer(1, "1".to_owned()));
    }

    #[test]
    fn what_goes_beyond_the_limits_is_refused_with_its_line() {
        let bomb = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
            let alias = format!("*a{}", n - 1);
            format!("{text}a{n}: &a{n} [{}]\n", vec![alias; 10].join(","))
        });
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        for (text, line, reason) in [
            (bomb.as_str(), 6, "more than 400000 values"),
            (deep.as_str(), 1, "nested deeper than 64"),
            ("a: 1\nb: 2\na: 3", 3, "already given in line 1"),
            ("a: &x {b: 1}\nc:\n  <<: *x", 3, "merge keys"),
            ("? [1]\n: 2", 1, "a key must be text"),
            ("a: [1\nb: 2", 2, "not YAML"),
            ("a: &x [*x]", 1, ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.reason.contains(reason), "{text:.40}: {error}");
            assert_eq!(error.line, line, "{text:.40}: {error}");
        }
        assert!(parse(&" ".repeat(MAX_BYTES + 1)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[-a-c0-9:,\\[\\]{}&*'\"#|>!%@~<\\n ]{0,80}") {
            let _ = parse(&text);
        }
    }
}
