//! Regular expressions of pipelines: to test names and values, and to replace parts of values.

use regex_automata::meta::Regex;

use crate::expression::{MAX_AUTOMATON_BYTES, MAX_PATTERN_BYTES};
use crate::sigma::MAX_VALUE_BYTES;

/// A regular expression.
#[derive(Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub(super) fn new(written: &str) -> Result<Self, String> {
        if written.len() > MAX_PATTERN_BYTES {
            return Err(format!("the regular expression is longer than {MAX_PATTERN_BYTES} bytes"));
        }
        let config = Regex::config().nfa_size_limit(Some(MAX_AUTOMATON_BYTES));
        match Regex::builder().configure(config).build(written) {
            Ok(regex) => Ok(Self(regex)),
            Err(_) => Err(format!("{written:?} is not a regular expression that is supported")),
        }
    }

    /// Whether it matches text that begins where `text` begins.
    pub(super) fn matches_at_start(&self, text: &str) -> bool {
        self.0.find(regex_automata::Input::new(text).anchored(regex_automata::Anchored::Yes)).is_some()
    }
}

/// What takes the place of each match.
#[derive(Debug)]
pub(super) struct Replacement {
    pattern: Pattern,
    parts: Vec<Part>,
    /// Replace only between wildcards.
    pub(super) skip_special: bool,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Group(usize),
}

impl Replacement {
    /// Reads a replacement; `\1` and `\g<name>` stand for what groups matched.
    ///
    /// # Errors
    /// What is wrong with the expression or the replacement.
    pub(super) fn new(pattern: &str, replacement: &str, skip_special: bool) -> Result<Self, String> {
        let pattern = Pattern::new(pattern)?;
        if replacement.len() > MAX_PATTERN_BYTES {
            return Err(format!("the replacement is longer than {MAX_PATTERN_BYTES} bytes"));
        }
        let parts = parts(replacement, &pattern.0)?;
        Ok(Self { pattern, parts, skip_special })
    }

    /// The text with all matches replaced.
    ///
    /// # Errors
    /// If it becomes longer than a value may be.
    pub(super) fn apply(&self, text: &str) -> Result<String, String> {
        let mut replaced = String::new();
        let mut end = 0;
        for captures in self.pattern.0.captures_iter(text) {
            let Some(found) = captures.get_match() else { continue };
            replaced.push_str(text.get(end..found.start()).unwrap_or_default());
            for part in &self.parts {
                replaced.push_str(match part {
                    Part::Text(text) => text,
                    Part::Group(group) => {
                        captures.get_group(*group).and_then(|span| text.get(span.range())).unwrap_or_default()
                    }
                });
            }
            end = found.end();
            if replaced.len() > MAX_VALUE_BYTES {
                return Err(format!("a replaced value is longer than {MAX_VALUE_BYTES} bytes"));
            }
        }
        replaced.push_str(text.get(end..).unwrap_or_default());
        Ok(replaced)
    }
}

fn parts(replacement: &str, regex: &Regex) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = replacement;
    while let Some((text, behind)) = rest.split_once('\\') {
        parts.push(Part::Text(text.to_owned()));
        let digits =
            behind.len() - behind.trim_start_matches(|character: char| character.is_ascii_digit()).len();
        let (name, after) = match behind.strip_prefix("g<").and_then(|named| named.split_once('>')) {
            Some((name, after)) => (name, after),
            None if digits > 0 => behind.split_at(digits.min(2)),
            None => {
                let mut characters = behind.chars();
                let escaped = characters.next().ok_or("the replacement ends with a lone backslash")?;
                parts.push(Part::Text(if escaped == '\\' {
                    "\\".to_owned()
                } else {
                    format!("\\{escaped}")
                }));
                rest = characters.as_str();
                continue;
            }
        };
        let pattern = regex_automata::PatternID::ZERO;
        let group = name.parse().ok().or_else(|| regex.group_info().to_index(pattern, name));
        match group.filter(|group| *group < regex.group_info().group_len(pattern)) {
            Some(group) => parts.push(Part::Group(group)),
            None => return Err(format!("the expression has no group {name:?}")),
        }
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}
