//! Conditions. Loosest first: `or`, `and`, `not`, `1 of`/`any of`/`all of`, parentheses.

use crate::formula::Formula;

/// Longest condition, in bytes.
pub(crate) const MAX_CONDITION_BYTES: usize = 16 << 10;
/// Deepest nesting of parentheses and `not`.
pub(crate) const MAX_CONDITION_DEPTH: usize = 64;
/// Largest formula of one condition, in nodes, selections counted as often as they are named.
pub(crate) const MAX_FORMULA_NODES: usize = 100_000;

/// The selections of one rule by name, in the order written.
#[derive(Default)]
pub(super) struct Selections(Vec<(String, Formula)>);

impl Selections {
    /// Adds a selection; one that could not be read stands for a formula that never holds.
    pub(super) fn add(&mut self, name: &str, formula: Option<Formula>) {
        self.0.push((name.to_owned(), formula.unwrap_or(Formula::Any(Vec::new()))));
    }

    /// Reads a condition over these selections.
    ///
    /// # Errors
    /// What in the condition is not understood, or the limit it exceeds.
    pub(super) fn resolve(&self, condition: &str) -> Result<Formula, String> {
        if condition.len() > MAX_CONDITION_BYTES {
            return Err(format!("the condition is longer than {MAX_CONDITION_BYTES} bytes"));
        }
        let tokens = tokens(condition);
        if tokens.is_empty() {
            return Err("the condition is empty".to_owned());
        }
        let mut parser = Parser { selections: self, tokens, at: 0, nodes: 0 };
        let formula = parser.any(0)?;
        match parser.next() {
            None => Ok(formula),
            Some("|") => {
                Err("aggregations after a pipe were removed from Sigma; write a correlation rule, such as \
                type: event_count with group-by, timespan and condition"
                    .to_owned())
            }
            Some(token) => Err(format!("the condition goes on with {token:?} where it should end")),
        }
    }
}

/// Splits at white space; parentheses and pipes are tokens of their own.
fn tokens(condition: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for word in condition.split_whitespace() {
        let mut rest = word;
        while let Some(at) = rest.find(['(', ')', '|']) {
            tokens.push(&rest[..at]);
            tokens.push(&rest[at..=at]);
            rest = &rest[at + 1..];
        }
        tokens.push(rest);
    }
    tokens.retain(|token| !token.is_empty());
    tokens
}

struct Parser<'a> {
    selections: &'a Selections,
    tokens: Vec<&'a str>,
    at: usize,
    nodes: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn take(&mut self, keyword: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn any(&mut self, depth: usize) -> Result<Formula, String> {
        let mut parts = vec![self.all(depth)?];
        while self.take("or") {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Formula::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Formula, String> {
        let mut parts = vec![self.single(depth)?];
        while self.take("and") {
            parts.push(self.single(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Formula::All(parts) })
    }

    fn single(&mut self, depth: usize) -> Result<Formula, String> {
        if depth >= MAX_CONDITION_DEPTH {
            return Err(format!("the condition is nested deeper than {MAX_CONDITION_DEPTH}"));
        }
        if self.take("not") {
            return Ok(self.single(depth + 1)?.negate());
        }
        if self.take("(") {
            let inner = self.any(depth + 1)?;
            return match self.next() {
                Some(")") => Ok(inner),
                Some(token) => Err(format!("expected \")\" before {token:?}")),
                None => Err("a parenthesis is not closed".to_owned()),
            };
        }
        let Some(token) = self.next() else { return Err("the condition ends too early".to_owned()) };
        if self.take("of") { self.quantified(token) } else { self.selection(token) }
    }

    fn selection(&mut self, name: &str) -> Result<Formula, String> {
        let found = self.selections.0.iter().find(|(known, _)| known == name);
        let Some((_, formula)) = found else {
            return Err(match name {
                ")" | "|" => format!("unexpected {name:?}"),
                _ => format!("the condition names {name:?}, but there is no such selection"),
            });
        };
        self.copy(formula)
    }

    fn quantified(&mut self, quantifier: &str) -> Result<Formula, String> {
        let all = match quantifier.to_ascii_lowercase().as_str() {
            "1" | "any" => false,
            "all" => true,
            _ => return Err(format!("{quantifier:?} of: only 1, any and all are known")),
        };
        let Some(target) = self.next() else { return Err("nothing follows \"of\"".to_owned()) };
        let pattern = if target.eq_ignore_ascii_case("them") { "*" } else { target };
        let selections = self.selections;
        let mut parts = Vec::new();
        for (name, formula) in &selections.0 {
            if !name.starts_with('_') && star_match(pattern, name) {
                parts.push(self.copy(formula)?);
            }
        }
        match (parts.is_empty(), all) {
            (true, _) => Err(format!("\"{quantifier} of {target}\" names no selection")),
            (false, true) => Ok(Formula::All(parts)),
            (false, false) => Ok(Formula::Any(parts)),
        }
    }

    fn copy(&mut self, formula: &Formula) -> Result<Formula, String> {
        self.nodes += formula.size();
        if self.nodes > MAX_FORMULA_NODES {
            return Err(format!("the condition comes to more than {MAX_FORMULA_NODES} comparisons"));
        }
        Ok(formula.clone())
    }
}

/// Whether a name matches a pattern in which `*` stands for any text.
fn star_match(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}
