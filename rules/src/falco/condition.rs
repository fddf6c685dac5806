//! Conditions. Loosest first: `or`, `and`, `not`; a check of a field, the name of a macro, or parentheses.
//!
//! Source of the grammar: the filter language of `libsinsp` (`filter/parser.h`).

use super::fields::Name;

/// Longest condition, appended parts included, in bytes.
pub(crate) const MAX_CONDITION_BYTES: usize = 64 << 10;
/// Deepest nesting of parentheses.
pub(crate) const MAX_CONDITION_DEPTH: usize = 64;

/// A condition as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression<'a> {
    All(Vec<Expression<'a>>),
    Any(Vec<Expression<'a>>),
    Not(Box<Expression<'a>>),
    Macro(&'a str),
    Check(Comparison<'a>),
}

/// A check of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comparison<'a> {
    pub(super) field: Name<'a>,
    pub(super) operator: Operator,
    pub(super) values: Vec<Operand>,
}

/// A value that a field is compared to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operand {
    pub(super) text: String,
    /// It may be the name of a list.
    pub(super) bare: bool,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Exists,
    Equals,
    NotEquals,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    ContainsIgnoringCase,
    StartsWith,
    EndsWith,
    Glob,
    GlobIgnoringCase,
    Regex,
    In,
    Intersects,
    PathPrefix,
}

const SYMBOLS: [(&str, Operator); 7] = [
    ("==", Operator::Equals),
    ("=", Operator::Equals),
    ("!=", Operator::NotEquals),
    ("<=", Operator::LessOrEqual),
    ("<", Operator::Less),
    (">=", Operator::GreaterOrEqual),
    (">", Operator::Greater),
];

const WORDS: [(&str, Operator); 11] = [
    ("exists", Operator::Exists),
    ("contains", Operator::Contains),
    ("icontains", Operator::ContainsIgnoringCase),
    ("startswith", Operator::StartsWith),
    ("endswith", Operator::EndsWith),
    ("glob", Operator::Glob),
    ("iglob", Operator::GlobIgnoringCase),
    ("regex", Operator::Regex),
    ("in", Operator::In),
    ("intersects", Operator::Intersects),
    ("pmatch", Operator::PathPrefix),
];

impl Operator {
    /// Reads an operator as `comps` of an exception gives it.
    pub(super) fn named(text: &str) -> Result<Self, String> {
        let known = SYMBOLS.iter().chain(&WORDS).find(|(name, _)| *name == text);
        known.map(|(_, operator)| *operator).ok_or_else(|| unknown_operator(text))
    }

    /// As a condition writes it.
    pub(super) fn name(self) -> &'static str {
        let known = SYMBOLS.iter().chain(&WORDS).find(|(_, operator)| *operator == self);
        known.map_or("", |(name, _)| name)
    }

    /// Whether it compares to a list.
    pub(super) fn takes_list(self) -> bool {
        matches!(self, Self::In | Self::Intersects | Self::PathPrefix)
    }
}

fn unknown_operator(text: &str) -> String {
    match text {
        "bcontains" | "bstartswith" => format!("{text} compares buffers, which audit events do not have"),
        _ => format!("{text:?} is not an operator"),
    }
}

/// Reads a condition.
///
/// # Errors
/// What is not understood, or the limit it exceeds.
pub(super) fn parse(text: &str) -> Result<Expression<'_>, String> {
    if text.len() > MAX_CONDITION_BYTES {
        return Err(format!("the condition is longer than {MAX_CONDITION_BYTES} bytes"));
    }
    let mut parser = Parser { rest: text };
    let expression = parser.any(0)?;
    parser.blank();
    if parser.rest.is_empty() {
        return Ok(expression);
    }
    Err(format!("the condition goes on with {:?} where it should end", parser.shown()))
}

/// Reads a field with its argument at the beginning of a text; what follows it is handed back.
///
/// # Errors
/// None stands there, or its argument is not closed.
pub(super) fn field(text: &str) -> Result<(Name<'_>, &str), String> {
    let mut parser = Parser { rest: text };
    let name = parser.word();
    if !name.contains('.') {
        return Err(format!("{:?} is not a field", Parser { rest: text }.shown()));
    }
    // A full stop ends a sentence of an output.
    let trimmed = name.trim_end_matches('.');
    parser.rest = text.get(trimmed.len()..).unwrap_or_default();
    let argument = parser.argument()?;
    Ok((Name { name: trimmed, argument }, parser.rest))
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn any(&mut self, depth: usize) -> Result<Expression<'a>, String> {
        let mut parts = vec![self.all(depth)?];
        while self.keyword("or") {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Expression<'a>, String> {
        let mut parts = vec![self.negated(depth)?];
        while self.keyword("and") {
            parts.push(self.negated(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
    }

    fn negated(&mut self, depth: usize) -> Result<Expression<'a>, String> {
        let mut negated = false;
        while self.keyword("not") {
            negated = !negated;
        }
        let inner = self.single(depth)?;
        Ok(if negated { Expression::Not(Box::new(inner)) } else { inner })
    }

    fn single(&mut self, depth: usize) -> Result<Expression<'a>, String> {
        if depth >= MAX_CONDITION_DEPTH {
            return Err(format!("the condition is nested deeper than {MAX_CONDITION_DEPTH}"));
        }
        if self.take("(") {
            let inner = self.any(depth + 1)?;
            return if self.take(")") { Ok(inner) } else { Err(self.expected("\")\"")) };
        }
        let before = self.rest;
        let name = self.word();
        if name.is_empty() {
            return Err(self.expected("a field, a macro or a parenthesis"));
        }
        if name.contains('.') {
            let (field, rest) = field(before)?;
            self.rest = rest;
            return self.comparison(field).map(Expression::Check);
        }
        if self.rest.starts_with('(') {
            return Err(format!("the transformer {name}() is not supported"));
        }
        Ok(Expression::Macro(name))
    }

    fn comparison(&mut self, field: Name<'a>) -> Result<Comparison<'a>, String> {
        let operator = self.operator()?;
        let values = match operator {
            Operator::Exists => Vec::new(),
            _ if operator.takes_list() => self.list()?,
            _ => vec![self.value()?],
        };
        Ok(Comparison { field, operator, values })
    }

    fn operator(&mut self) -> Result<Operator, String> {
        self.blank();
        if let Some((symbol, operator)) = SYMBOLS.iter().find(|(symbol, _)| self.rest.starts_with(symbol)) {
            self.take(symbol);
            return Ok(*operator);
        }
        match self.word() {
            "" => Err(self.expected("an operator")),
            word => WORDS
                .iter()
                .find(|(name, _)| *name == word)
                .map(|(_, operator)| *operator)
                .ok_or_else(|| unknown_operator(word)),
        }
    }

    fn list(&mut self) -> Result<Vec<Operand>, String> {
        if !self.take("(") {
            return Ok(vec![self.value()?]);
        }
        let mut values = Vec::new();
        while !self.take(")") {
            // A comma may be left over where a list turned out to be empty.
            if !self.take(",") {
                values.push(self.value()?);
            }
        }
        Ok(values)
    }

    fn value(&mut self) -> Result<Operand, String> {
        self.blank();
        if let Some(quote @ ('"' | '\'')) = self.rest.chars().next() {
            return Ok(Operand { text: self.quoted(quote)?, bare: false });
        }
        let bare = |c: char| !c.is_whitespace() && !matches!(c, '(' | ')' | '"' | '\'' | '=' | ',');
        match self.take_while(bare) {
            "" => Err(self.expected("a value")),
            text => Ok(Operand { text: text.to_owned(), bare: true }),
        }
    }

    /// Reads text in quotes; a backslash makes the quote, and itself, part of it.
    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some((_, 'b')) => text.push('\u{8}'),
                    Some((_, 'f')) => text.push('\u{c}'),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, escaped @ ('\\' | '"' | '\''))) => text.push(escaped),
                    // Left as it is, so that regular expressions need not be escaped twice.
                    Some((_, other)) => text.extend(['\\', other]),
                    None => break,
                },
                _ if character == quote => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(text);
                }
                _ => text.push(character),
            }
        }
        Err(format!("the quotation {:?} is not closed", self.shown()))
    }

    fn argument(&mut self) -> Result<Option<String>, String> {
        let Some(inner) = self.rest.strip_prefix('[') else { return Ok(None) };
        self.rest = inner;
        let argument = match inner.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
            _ => self.take_while(|c| c != ']' && c != '[' && !c.is_whitespace()).to_owned(),
        };
        match self.rest.strip_prefix(']') {
            Some(rest) => self.rest = rest,
            None => return Err("the bracket behind a field is not closed".to_owned()),
        }
        Ok(Some(argument))
    }

    /// Letters, digits, underscores and dots.
    fn word(&mut self) -> &'a str {
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
    }

    /// Takes a word if blanks or a parenthesis follow it.
    fn keyword(&mut self, word: &str) -> bool {
        self.blank();
        let Some(rest) = self.rest.strip_prefix(word) else { return false };
        let found = rest.starts_with(|c: char| c.is_whitespace() || c == '(');
        if found {
            self.rest = rest;
            self.blank();
        }
        found
    }

    fn take(&mut self, text: &str) -> bool {
        self.blank();
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn expected(&self, what: &str) -> String {
        match self.shown() {
            shown if shown.is_empty() => format!("the condition ends where {what} should stand"),
            shown => format!("expected {what} before {shown:?}"),
        }
    }

    /// The beginning of what is left, for messages.
    fn shown(&self) -> String {
        self.rest.trim_start().chars().take(30).collect()
    }
}
