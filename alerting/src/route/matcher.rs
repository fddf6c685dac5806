//! One condition on an alert's labels, written as Alertmanager does: `name="value"`, with `=`, `!=`, `=~` or
//! `!~`. Regular expressions are anchored at both ends. A label that is absent reads as the empty text.

use std::borrow::Cow;
use std::str::FromStr;

use regex_automata::meta::Regex;
use watchbell_event::Detection;

/// Longest matcher that is read, in bytes.
const MAX_MATCHER_BYTES: usize = 4096;
/// Most memory of one compiled expression, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Matches,
    /// `!~`
    MatchesNot,
}

/// A condition on one label. Besides an alert's own labels there are `alertname` (the rule's title),
/// `severity` (its level), `rule_id` and `cluster`.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    operator: Operator,
    value: String,
    regex: Option<Regex>,
}

/// Why a matcher was refused.
#[derive(Debug, thiserror::Error)]
pub enum MatcherError {
    /// Not of the form `name="value"`.
    #[error("a matcher is written as name=\"value\", with =, !=, =~ or !~")]
    Syntax,
    /// Longer than 4096 bytes.
    #[error("a matcher is longer than {MAX_MATCHER_BYTES} bytes")]
    TooLong,
    /// Not a regular expression, or one that takes too much memory.
    #[error("failed to read the regular expression {value:?}")]
    Regex {
        /// What was written.
        value: String,
        /// Why it was refused.
        source: Box<regex_automata::meta::BuildError>,
    },
}

impl Matcher {
    /// Makes a matcher.
    ///
    /// # Errors
    /// [`MatcherError::Regex`] or [`MatcherError::TooLong`].
    pub fn new(name: &str, operator: Operator, value: &str) -> Result<Self, MatcherError> {
        if name.len() + value.len() > MAX_MATCHER_BYTES {
            return Err(MatcherError::TooLong);
        }
        let regex = match operator {
            Operator::Equal | Operator::NotEqual => None,
            Operator::Matches | Operator::MatchesNot => Some(anchored(value)?),
        };
        Ok(Self { name: name.to_owned(), operator, value: value.to_owned(), regex })
    }

    /// True if the detection's label fulfils the condition.
    #[must_use]
    pub fn matches(&self, detection: &Detection) -> bool {
        let label = label(detection, &self.name);
        let found = match &self.regex {
            Some(regex) => regex.is_match(label.as_ref()),
            None => label == self.value,
        };
        found == matches!(self.operator, Operator::Equal | Operator::Matches)
    }
}

/// Equality of what was written.
impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.operator, &self.value) == (&other.name, other.operator, &other.value)
    }
}

impl FromStr for Matcher {
    type Err = MatcherError;

    fn from_str(text: &str) -> Result<Self, MatcherError> {
        let (operator, at, length) = find_operator(text).ok_or(MatcherError::Syntax)?;
        let name = unquote(text[..at].trim()).ok_or(MatcherError::Syntax)?;
        let value = unquote(text[at + length..].trim()).ok_or(MatcherError::Syntax)?;
        if name.is_empty() {
            return Err(MatcherError::Syntax);
        }
        Self::new(&name, operator, &value)
    }
}

/// The first operator outside of quotes, where it begins and how long it is.
fn find_operator(text: &str) -> Option<(Operator, usize, usize)> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'=' | b'!' if !quoted => {
                let rest = &text[at..];
                let operators = [
                    ("=~", Operator::Matches),
                    ("!~", Operator::MatchesNot),
                    ("!=", Operator::NotEqual),
                    ("=", Operator::Equal),
                ];
                let (sign, operator) = operators.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
                return Some((operator, at, sign.len()));
            }
            _ => {}
        }
    }
    None
}

/// The text of a word that may be in double quotes, in which `\"`, `\\` and `\n` are escapes.
fn unquote(word: &str) -> Option<Cow<'_, str>> {
    let Some(quoted) = word.strip_prefix('"') else {
        return (!word.contains('"')).then_some(Cow::Borrowed(word));
    };
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(Cow::Owned(text)),
            '\\' => match characters.next()? {
                'n' => text.push('\n'),
                escaped @ ('"' | '\\') => text.push(escaped),
                other => text.extend(['\\', other]),
            },
            other => text.push(other),
        }
    }
}

/// The expression is also built alone, so that it cannot close the group it is put into.
fn anchored(value: &str) -> Result<Regex, MatcherError> {
    let config = Regex::config().nfa_size_limit(Some(MAX_REGEX_BYTES)).hybrid_cache_capacity(MAX_REGEX_BYTES);
    let build = |pattern: &str| {
        let refuse = |source| MatcherError::Regex { value: value.to_owned(), source: Box::new(source) };
        Regex::builder().configure(config.clone()).build(pattern).map_err(refuse)
    };
    build(value)?;
    build(&format!("^(?s:{value})$"))
}

fn label<'a>(detection: &'a Detection, name: &str) -> Cow<'a, str> {
    let text = match name {
        "alertname" => &*detection.title,
        "severity" => detection.level.name(),
        "rule_id" => &*detection.rule_id,
        "cluster" => &*detection.cluster,
        _ => detection.labels.iter().find(|(label, _)| *label == name).map_or("", |(_, value)| value),
    };
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::detection;

    #[test]
    fn matchers_read_labels_and_attributes() {
        let mut detection = detection(1);
        detection.cluster = "prod-eu".into();
        detection.labels =
            vec![("user.name".into(), "system:anonymous".to_owned()), ("quote".into(), "a\"b=c".to_owned())];
        for (matcher, expect) in [
            ("cluster=prod-eu", true),
            ("cluster = \"prod-eu\"", true),
            ("cluster=prod", false),
            ("cluster=~prod", false),
            ("cluster=~\"prod-.*\"", true),
            ("cluster=~a|prod-eu", true),
            ("cluster!~\"prod-.*\"", false),
            ("cluster!=dev", true),
            ("user.name=system:anonymous", true),
            ("\"user.name\"=~\"system:.+\"", true),
            ("absent=\"\"", true),
            ("absent!=\"\"", false),
            ("absent=~.+", false),
            ("severity=high", true),
            ("alertname=~.*secret.*", true),
            (r#"quote="a\"b=c""#, true),
        ] {
            assert_eq!(matcher.parse::<Matcher>().unwrap().matches(&detection), expect, "{matcher}");
        }
    }

    #[test]
    fn text_that_is_no_matcher_is_refused() {
        let long = format!("a={}", "x".repeat(MAX_MATCHER_BYTES));
        for bad in [
            "",
            "cluster",
            "=x",
            "a=~(",
            "a=~)|(",
            "a=\"x",
            "a=\"x\"y",
            "a=x\"y",
            "a!x",
            "a=~(a{999}){999}",
            &long,
        ] {
            assert!(bad.parse::<Matcher>().is_err(), "{bad:.40}");
        }
    }
}
