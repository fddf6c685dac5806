//! One item of a rule file: what it defines, or what it changes about an earlier one.

use watchbell_event::Level;
use watchbell_event::yaml::{Node, Value};

use super::condition::MAX_CONDITION_BYTES;
use super::exception::{self, Exception};

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 512;
/// Most tags of one rule.
const MAX_TAGS: usize = 100;

/// What is wrong, and in which line.
pub(super) type Problem = (usize, String);

/// A rule as the files so far define it.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) condition: Text,
    pub(super) output: Text,
    pub(super) description: Text,
    pub(super) level: Level,
    pub(super) source: String,
    pub(super) tags: Vec<String>,
    pub(super) enabled: bool,
    pub(super) exceptions: Vec<Exception>,
}

/// Text, with the file and line of what it was last set or appended to by.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) file: String,
    pub(super) line: usize,
}

/// What an item does to the one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Puts itself in its place.
    Define,
    Append,
    Replace,
}

/// Keys of a rule that `override` may append to, and those that it may only replace.
const APPENDABLE: [&str; 5] = ["condition", "output", "desc", "tags", "exceptions"];
const REPLACEABLE: [&str; 4] = ["priority", "enabled", "warn_evttypes", "skip-if-unknown-filter"];
/// Everything else that a rule may have.
const OTHER: [&str; 5] = ["rule", "source", "append", "override", "capture"];

impl Change {
    /// What a list or macro, which has one key, does.
    pub(super) fn of(item: &Node, key: &str) -> Result<Self, Problem> {
        let overrides = overrides(item)?;
        if let Some((other, line, _)) = overrides.iter().find(|(name, ..)| name != key) {
            return Err((*line, format!("override of {other:?}, which is not a key here; known: {key}")));
        }
        match (appends(item), overrides.first()) {
            (true, Some((_, line, _))) => Err((*line, "append and override exclude each other".to_owned())),
            (true, None) => Ok(Self::Append),
            (false, Some((.., change))) => Ok(*change),
            (false, None) => Ok(Self::Define),
        }
    }
}

/// Whether a rule changes an earlier one instead of defining one.
pub(super) fn changes(item: &Node) -> bool {
    let defines = ["condition", "output", "desc", "priority"].iter().any(|key| item.get(key).is_some());
    appends(item) || item.get("override").is_some() || !defines
}

fn appends(item: &Node) -> bool {
    item.get("append").is_some_and(|node| node.value == Value::Bool(true))
}

/// The keys under `override`, with their lines.
fn overrides(item: &Node) -> Result<Vec<(String, usize, Change)>, Problem> {
    let Some(node) = item.get("override") else { return Ok(Vec::new()) };
    let Some(entries) = node.entries() else {
        return Err((node.line, format!("override must be a mapping, not {}", node.kind())));
    };
    let read = entries.iter().map(|entry| {
        let change = match entry.value.as_str() {
            Some("append") => Change::Append,
            Some("replace") => Change::Replace,
            _ => {
                return Err((
                    entry.line,
                    format!("override of {}: only append and replace are known", entry.key),
                ));
            }
        };
        Ok((entry.key.clone(), entry.line, change))
    });
    read.collect()
}

impl Definition {
    /// Reads a rule that stands on its own.
    pub(super) fn read(name: &str, item: &Node, file: &str) -> Result<Self, Problem> {
        let required = |key: &str| match item.get(key) {
            Some(node) => text(key, node, file),
            None => Err((item.line, format!("{key} is missing"))),
        };
        let mut rule = Self {
            name: name.to_owned(),
            file: file.to_owned(),
            line: item.line,
            condition: required("condition")?,
            output: required("output")?,
            description: required("desc")?,
            level: Level::Medium,
            source: item.get("source").and_then(Node::scalar_text).unwrap_or_else(|| "syscall".to_owned()),
            tags: Vec::new(),
            enabled: true,
            exceptions: Vec::new(),
        };
        required("priority")?;
        for entry in item.entries().unwrap_or_default() {
            let key = entry.key.as_str();
            match key {
                "condition" | "output" | "desc" => {}
                _ if OTHER.contains(&key) => {}
                _ => rule.set(key, &entry.value, Change::Define, file)?,
            }
        }
        Ok(rule)
    }

    /// Applies an item that changes this rule.
    pub(super) fn change(&mut self, item: &Node, file: &str) -> Result<(), Problem> {
        let overrides = overrides(item)?;
        if appends(item) && !overrides.is_empty() {
            return Err((item.line, "append and override exclude each other".to_owned()));
        }
        for (key, line, change) in &overrides {
            let known = APPENDABLE.contains(&key.as_str())
                || (REPLACEABLE.contains(&key.as_str()) && *change == Change::Replace);
            if !known {
                return Err((*line, format!("{key} cannot be overridden so")));
            }
            if item.get(key).is_none() {
                return Err((*line, format!("{key} is overridden, but not given")));
            }
        }
        let mut changed = self.clone();
        for entry in item.entries().unwrap_or_default() {
            let key = entry.key.as_str();
            let overridden = overrides.iter().find(|(name, ..)| name == key).map(|(.., change)| *change);
            match (key, overridden) {
                (_, Some(change)) => changed.set(key, &entry.value, change, file)?,
                ("condition" | "exceptions", None) if appends(item) => {
                    changed.set(key, &entry.value, Change::Append, file)?;
                }
                ("enabled", None) if overrides.is_empty() => {
                    changed.set(key, &entry.value, Change::Replace, file)?
                }
                _ if OTHER.contains(&key) || appends(item) => {}
                _ => {
                    return Err((
                        entry.line,
                        format!("{key} is given, but override does not say what to do"),
                    ));
                }
            }
        }
        *self = changed;
        Ok(())
    }

    fn set(&mut self, key: &str, node: &Node, change: Change, file: &str) -> Result<(), Problem> {
        match key {
            "condition" => self.condition.set(text(key, node, file)?, change),
            "output" => self.output.set(text(key, node, file)?, change),
            "desc" => self.description.set(text(key, node, file)?, change),
            "priority" => level(node).map(|level| self.level = level),
            "enabled" => flag(key, node).map(|enabled| self.enabled = enabled),
            "tags" => {
                if change != Change::Append {
                    self.tags.clear();
                }
                self.tags.extend(texts(node)?);
                if self.tags.len() > MAX_TAGS {
                    return Err((node.line, format!("more than {MAX_TAGS} tags")));
                }
                Ok(())
            }
            "exceptions" if change == Change::Append => exception::append(&mut self.exceptions, node),
            "exceptions" => {
                self.exceptions.clear();
                exception::append(&mut self.exceptions, node)
            }
            // Warnings about event types concern system calls; what is unknown is always told.
            "warn_evttypes" | "skip-if-unknown-filter" => flag(key, node).map(|_| ()),
            _ => Err((node.line, format!("unknown key {key:?}"))),
        }
    }
}

impl Text {
    fn set(&mut self, text: Self, change: Change) -> Result<(), Problem> {
        if change == Change::Append {
            self.text.push(' ');
            self.text.push_str(&text.text);
        } else {
            self.text = text.text;
        }
        (self.file, self.line) = (text.file, text.line);
        if self.text.len() > MAX_CONDITION_BYTES {
            return Err((self.line, format!("the text is longer than {MAX_CONDITION_BYTES} bytes")));
        }
        Ok(())
    }
}

/// The name of an item.
pub(super) fn name(node: &Node) -> Result<String, Problem> {
    let name = node.scalar_text().unwrap_or_default();
    let plain = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
    if plain { Ok(name) } else { Err((node.line, "a name must be text of one line".to_owned())) }
}

/// The texts of a list.
pub(super) fn texts(node: &Node) -> Result<Vec<String>, Problem> {
    let Some(items) = node.items() else {
        return Err((node.line, format!("expected a list, not {}", node.kind())));
    };
    let read = items.iter().map(|item| {
        item.scalar_text().ok_or_else(|| (item.line, format!("a member must be text, not {}", item.kind())))
    });
    read.collect()
}

fn text(key: &str, node: &Node, file: &str) -> Result<Text, Problem> {
    match node.scalar_text() {
        Some(text) if text.trim().is_empty() => Err((node.line, format!("{key} is empty"))),
        Some(text) => Ok(Text { text, file: file.to_owned(), line: node.line }),
        None => Err((node.line, format!("{key} must be text, not {}", node.kind()))),
    }
}

fn flag(key: &str, node: &Node) -> Result<bool, Problem> {
    match node.value {
        Value::Bool(flag) => Ok(flag),
        _ => Err((node.line, format!("{key} must be true or false"))),
    }
}

/// Falco's priorities, which are those of syslog.
fn level(node: &Node) -> Result<Level, Problem> {
    let name = node.scalar_text().unwrap_or_default().to_lowercase();
    Ok(match name.as_str() {
        "emergency" | "alert" | "critical" => Level::Critical,
        "error" => Level::High,
        "warning" => Level::Medium,
        "notice" => Level::Low,
        "informational" | "info" | "debug" => Level::Informational,
        _ => return Err((node.line, format!("unknown priority {name:?}"))),
    })
}
