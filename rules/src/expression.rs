//! Regular expressions of bounded size, and the text that each of them requires.

use std::hash::{Hash, Hasher};

use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::text::fold_char;

/// Longest pattern, in bytes.
pub(crate) const MAX_PATTERN_BYTES: usize = 8 << 10;
/// Largest automaton of one pattern, in bytes.
pub(crate) const MAX_AUTOMATON_BYTES: usize = 4 << 20;
/// Cache that one pattern may use while it searches, in bytes.
const SEARCH_CACHE_BYTES: usize = 64 << 10;
/// Shorter required texts occur too often to be worth looking for.
const MIN_REQUIRED_BYTES: usize = 3;

/// `i`, `m` and `s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Flags {
    /// Letters match in either case.
    pub(crate) ignore_case: bool,
    /// `^` and `$` match at line ends too.
    pub(crate) multi_line: bool,
    /// `.` matches a line end too.
    pub(crate) dot_all: bool,
}

/// A compiled regular expression; it searches anywhere in the text. Equal if written the same.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    written: String,
    flags: Flags,
    regex: Regex,
    required: Option<String>,
}

impl Expression {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with the pattern, or the limit that it exceeds, in one line.
    pub(crate) fn new(written: &str, flags: Flags) -> Result<Self, String> {
        if written.len() > MAX_PATTERN_BYTES {
            return Err(format!("the regular expression is longer than {MAX_PATTERN_BYTES} bytes"));
        }
        let syntax = syntax::Config::new()
            .case_insensitive(flags.ignore_case)
            .multi_line(flags.multi_line)
            .dot_matches_new_line(flags.dot_all);
        let hir = syntax::parse_with(written, &syntax).map_err(|error| reason(&error.to_string()))?;
        let config = Config::new()
            .nfa_size_limit(Some(MAX_AUTOMATON_BYTES))
            .hybrid_cache_capacity(SEARCH_CACHE_BYTES)
            .onepass_size_limit(Some(SEARCH_CACHE_BYTES));
        let regex = Regex::builder().configure(config).build_from_hir(&hir).map_err(|error| {
            if error.size_limit().is_some() {
                format!("the regular expression needs an automaton of more than {MAX_AUTOMATON_BYTES} bytes")
            } else {
                reason(&error.to_string())
            }
        })?;
        let required = required_text(&hir).filter(|text| text.len() >= MIN_REQUIRED_BYTES);
        Ok(Self { written: written.to_owned(), flags, regex, required })
    }

    /// Whether the expression matches somewhere in the text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// As it is written in the rule.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// Folded text that the folded form of every matching text contains.
    pub(crate) fn required(&self) -> Option<&str> {
        self.required.as_deref()
    }

    /// Heap memory of the automaton, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.regex.memory_usage()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        (&self.written, self.flags) == (&other.written, other.flags)
    }
}

impl Eq for Expression {}

impl Hash for Expression {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.written, self.flags).hash(state);
    }
}

/// The last line of the crate's multi-line message says what is wrong.
fn reason(message: &str) -> String {
    let last = message.lines().last().unwrap_or_default();
    format!("not a regular expression that is supported: {}", last.trim_start_matches("error: "))
}

/// The longest run of characters that every match contains, folded.
fn required_text(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Capture(capture) => required_text(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => required_text(&repetition.sub),
        HirKind::Concat(parts) => required_of_concat(parts),
        _ => folded_literal(hir),
    }
}

fn required_of_concat(parts: &[Hir]) -> Option<String> {
    let mut found = Vec::new();
    let mut run = String::new();
    for part in parts {
        if let Some(text) = folded_literal(part) {
            run.push_str(&text);
        } else if !matches!(part.kind(), HirKind::Look(_)) {
            found.push(std::mem::take(&mut run));
            found.extend(required_text(part));
        }
    }
    found.push(run);
    found.into_iter().max_by_key(String::len)
}

/// The folded text of what can only match one text, or one text in either case.
fn folded_literal(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Literal(literal) => {
            Some(std::str::from_utf8(&literal.0).ok()?.chars().map(fold_char).collect())
        }
        HirKind::Class(Class::Unicode(class)) => {
            let mut characters = class.iter().flat_map(|range| range.start()..=range.end()).map(fold_char);
            let first = characters.next()?;
            // Both cases of a letter fold to one character.
            characters.all(|other| other == first).then(|| first.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requires_the_longest_text_that_no_match_can_lack() {
        let flags = |ignore_case| Flags { ignore_case, ..Flags::default() };
        for (written, ignore_case, required) in [
            ("^/api/v1/Secrets/.*", false, Some("/api/v1/secrets/")),
            ("(?:curl|wget)", false, None),
            ("a?bcde+", false, Some("bcd")),
            ("(foobar)+x", false, Some("foobar")),
            ("^basket$", true, Some("ket")),
            ("reading", true, Some("reading")),
            ("[a-z]+", false, None),
            ("ab", false, None),
        ] {
            let expression = Expression::new(written, flags(ignore_case)).unwrap();
            let required = required.filter(|text| text.len() >= MIN_REQUIRED_BYTES);
            assert_eq!(expression.required(), required, "{written}");
        }
    }

    #[test]
    fn what_cannot_be_compiled_is_explained_in_one_line() {
        for (written, expect) in [
            ("(?=x)", "look-around"),
            ("(", "unclosed group"),
            ("\\w{500}{500}", "automaton of more than"),
            (&"x".repeat(MAX_PATTERN_BYTES + 1), "longer than"),
        ] {
            let reason = Expression::new(written, Flags::default()).unwrap_err();
            assert!(reason.contains(expect) && !reason.contains('\n'), "{reason}");
        }
    }
}
