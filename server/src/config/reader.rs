//! Reads settings out of a YAML mapping one by one, noting every mistake with its line instead of stopping
//! at the first, and noting which keys nobody asked for.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use watchbell_event::yaml::{Entry, Node, Value};

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    pub(crate) line: usize,
    pub(crate) reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// All mistakes found so far.
#[derive(Debug, Default)]
pub(crate) struct Errors(RefCell<Vec<ConfigError>>);

impl Errors {
    pub(crate) fn add(&self, line: usize, reason: impl Into<String>) {
        self.0.borrow_mut().push(ConfigError { line, reason: reason.into() });
    }

    pub(crate) fn into_sorted(self) -> Vec<ConfigError> {
        let mut errors = self.0.into_inner();
        errors.sort_by_key(|error| error.line);
        errors
    }
}

/// A setting cannot be used, which was reported; nothing more is to be said about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reported;

/// One mapping of the configuration; absent mappings read as empty.
pub(crate) struct Section<'a> {
    path: String,
    node: Option<&'a Node>,
    asked: RefCell<Vec<&'static str>>,
    errors: &'a Errors,
}

impl<'a> Section<'a> {
    pub(crate) fn new(path: impl Into<String>, node: Option<&'a Node>, errors: &'a Errors) -> Self {
        let path = path.into();
        let node = node.filter(|node| match node.value {
            Value::Mapping(_) => true,
            Value::Null => false,
            _ => {
                errors.add(node.line, format!("{path} must be a mapping, but is {}", node.kind()));
                false
            }
        });
        Self { path, node, asked: RefCell::default(), errors }
    }

    /// The line of the section, for messages about what it lacks.
    pub(crate) fn line(&self) -> usize {
        self.node.map_or(1, |node| node.line)
    }

    pub(crate) fn errors(&self) -> &'a Errors {
        self.errors
    }

    /// The setting's value; null counts as absent.
    pub(crate) fn get(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().push(key);
        self.node?.get(key).filter(|node| node.value != Value::Null)
    }

    /// All keys and values, of a mapping whose keys people choose.
    pub(crate) fn entries(&self) -> &'a [Entry] {
        self.node.and_then(Node::entries).unwrap_or_default()
    }

    pub(crate) fn section(&self, key: &'static str) -> Section<'a> {
        Section::new(self.name(key), self.get(key), self.errors)
    }

    /// The sections of a list; a member that is not a mapping is reported.
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let Some(items) = node.items() else {
            self.wrong(key, node, "a list");
            return Vec::new();
        };
        let name = self.name(key);
        items
            .iter()
            .enumerate()
            .map(|(index, item)| Section::new(format!("{name}[{index}]"), Some(item), self.errors))
            .collect()
    }

    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        self.convert(key, "text", |node| node.scalar_text())
    }

    /// Text that must be given.
    pub(crate) fn required_text(&self, key: &'static str) -> String {
        self.text(key).filter(|text| !text.is_empty()).unwrap_or_else(|| {
            self.errors.add(self.line(), format!("{} is missing", self.name(key)));
            String::new()
        })
    }

    pub(crate) fn texts(&self, key: &'static str) -> Vec<String> {
        self.convert(key, "a list of texts", |node| match node.items() {
            Some(items) => items.iter().map(Node::scalar_text).collect(),
            None => node.scalar_text().map(|text| vec![text]),
        })
        .unwrap_or_default()
    }

    pub(crate) fn flag(&self, key: &'static str, default: bool) -> bool {
        self.convert(key, "true or false", |node| match node.value {
            Value::Bool(flag) => Some(flag),
            _ => None,
        })
        .unwrap_or(default)
    }

    pub(crate) fn integer(&self, key: &'static str, default: u64, min: u64, max: u64) -> u64 {
        let expected = format!("a whole number from {min} to {max}");
        self.convert(key, &expected, |node| match node.value {
            Value::Integer(number, _) => {
                u64::try_from(number).ok().filter(|number| (min..=max).contains(number))
            }
            _ => None,
        })
        .unwrap_or(default)
    }

    /// A time span such as `10s`, `5m`, `12h`, `30d`.
    pub(crate) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        self.convert(key, "a time span such as 500ms, 30s, 5m, 12h or 30d", |node| match &node.value {
            Value::Integer(0, _) => Some(Duration::ZERO),
            Value::String(text) => humantime::parse_duration(text).ok(),
            _ => None,
        })
        .unwrap_or(default)
    }

    /// A time span that makes no sense below `least`.
    pub(crate) fn duration_from(&self, key: &'static str, default: Duration, least: Duration) -> Duration {
        let given = self.duration(key, default);
        if given >= least {
            return given;
        }
        let least = humantime::format_duration(least);
        self.errors.add(self.line_of(key), format!("{} must be at least {least}", self.name(key)));
        default
    }

    /// A size such as `64MiB`, or a number of bytes.
    pub(crate) fn bytes(&self, key: &'static str, default: u64) -> u64 {
        self.convert(key, "a size such as 64MiB or 10GB", |node| {
            node.scalar_text()?.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64())
        })
        .unwrap_or(default)
    }

    pub(crate) fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    pub(crate) fn address(&self, key: &'static str) -> Option<SocketAddr> {
        self.convert(key, "an address with port, such as 127.0.0.1:8080", |node| node.as_str()?.parse().ok())
    }

    /// A secret: given as it is, or in a file (`KEY_file`), or in an environment variable (`KEY_env`).
    pub(crate) fn secret(
        &self,
        key: &'static str,
        key_file: &'static str,
        key_env: &'static str,
    ) -> Result<Option<String>, Reported> {
        let (inline, file, variable) = (self.text(key), self.text(key_file), self.text(key_env));
        if [inline.is_some(), file.is_some(), variable.is_some()].iter().filter(|given| **given).count() > 1 {
            let name = self.name(key);
            self.errors.add(self.line(), format!("give only one of {name}, {name}_file and {name}_env"));
        }
        if let Some(file) = file {
            let text = crate::files::read_text(file.as_ref(), MAX_SECRET_BYTES).map_err(|error| {
                self.errors.add(self.line_of(key_file), format!("{}: {error:#}", self.name(key_file)));
                Reported
            })?;
            return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        if let Some(variable) = variable {
            return std::env::var(&variable).map(Some).map_err(|_| {
                let name = self.name(key_env);
                self.errors.add(self.line_of(key_env), format!("{name}: variable {variable} is not set"));
                Reported
            });
        }
        Ok(inline)
    }

    /// Any value with a parser of its own, whose error is reported.
    pub(crate) fn parsed<T, E: fmt::Display>(
        &self,
        key: &'static str,
        default: T,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        let Some(text) = self.text(key) else { return default };
        parse(&text).unwrap_or_else(|error| {
            self.errors.add(self.line_of(key), format!("{}: {error}", self.name(key)));
            default
        })
    }

    /// Reports the keys that no setting has.
    pub(crate) fn finish(self) {
        let asked = self.asked.borrow();
        for entry in self.node.and_then(Node::entries).unwrap_or_default() {
            if !asked.contains(&entry.key.as_str()) {
                let mut known: Vec<&str> = asked.clone();
                known.sort_unstable();
                known.dedup();
                let place = if self.path.is_empty() { String::new() } else { format!(" in {}", self.path) };
                let reason = format!("unknown setting {:?}{place}; known: {}", entry.key, known.join(", "));
                self.errors.add(entry.line, reason);
            }
        }
    }

    pub(crate) fn line_of(&self, key: &str) -> usize {
        let entries = self.node.and_then(Node::entries).unwrap_or_default();
        entries.iter().find(|entry| entry.key == key).map_or(self.line(), |entry| entry.line)
    }

    fn convert<T>(
        &self,
        key: &'static str,
        expected: &str,
        convert: impl Fn(&Node) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        convert(node).or_else(|| {
            self.wrong(key, node, expected);
            None
        })
    }

    fn wrong(&self, key: &str, node: &Node, expected: &str) {
        let found = node.scalar_text().filter(|text| text.len() <= 40 && !is_secret_key(key));
        let found = found.map_or_else(|| node.kind().to_owned(), |text| format!("{text:?}"));
        self.errors.add(node.line, format!("{} must be {expected}, but is {found}", self.name(key)));
    }

    pub(crate) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Values of these settings are never quoted in a message.
fn is_secret_key(key: &str) -> bool {
    ["password", "secret", "url", "token"].iter().any(|word| key.contains(word))
}
