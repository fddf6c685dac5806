//! The query language: what Kibana, Quickwit and Grafana users type.
//!
//! ```text
//! verb:delete AND objectRef.resource:secrets AND NOT user.username:system\:*
//! ```
//!
//! | form | meaning |
//! |---|---|
//! | `field:value` | one of the field's values is exactly this; case counts |
//! | `field:"a value"` | the same; in quotes only `\"` and `\\` are special |
//! | `field:ab*`, `field:a?c` | any text, one character; `field:*` is `_exists_:field` |
//! | `field:/regex/` | a regular expression that matches the whole value |
//! | `field:[a TO b]`, `{a TO b}`, `>=a`, `<b` | ranges: numbers, addresses, times or text; `*` is no bound |
//! | `sourceIPs:10.0.0.0/8` | a network, on `sourceIPs` and `source.ip` |
//! | `@timestamp:2026-01-31` | a day or a moment, on times |
//! | `field:(a OR b)` | one field, several values |
//! | `_exists_:field` | the field, or one below it, has a value |
//! | `value` | the value in any of [`watchbell_event::predicate::field::SEARCHED_BY_DEFAULT`] |
//! | `*`, `*:*` | everything |
//! | `a b`, `a AND b`, `a && b` | both |
//! | `a OR b`, `a \|\| b` | one of them; AND binds closer |
//! | `NOT a`, `!a`, `-a` | not a; `+a` is a |
//!
//! A backslash takes the next character as it is. Fields are listed in [`watchbell_event::predicate::field`].

mod lexer;

use std::ops::Bound;

use watchbell_event::predicate::{
    Field, Kind, Network, Pattern, Predicate, Range, Test, Wildcard, time_span,
};

use lexer::{Lexer, Token, Word};

/// Longest query, in bytes.
pub const MAX_QUERY_BYTES: usize = 16 << 10;
/// Deepest nesting of parentheses and NOTs.
pub const MAX_DEPTH: usize = 32;
/// Most values, patterns and ranges.
pub const MAX_CLAUSES: usize = 512;

/// What a query should have said, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: {reason}")]
pub struct ParseError {
    /// The character, counted from one.
    pub position: usize,
    /// What was expected.
    pub reason: String,
}

/// Reads a query. An empty text asks for everything.
///
/// # Errors
/// The first place that cannot be understood or goes beyond a limit.
pub fn parse(text: &str) -> Result<Predicate, ParseError> {
    if text.len() > MAX_QUERY_BYTES {
        let reason = format!("expected a query of at most {MAX_QUERY_BYTES} bytes");
        return Err(ParseError { position: text.chars().count(), reason });
    }
    let mut parser = Parser { lexer: Lexer::new(text), clauses: 0 };
    if parser.lexer.peek()?.is_none() {
        return Ok(Predicate::All);
    }
    let predicate = parser.any_of(None, 0)?;
    match parser.lexer.peek()? {
        None => Ok(predicate),
        Some(Token::Close) => parser.expected("the end: there is no \"(\" for this \")\""),
        Some(_) => parser.expected("AND, OR or the end"),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    clauses: usize,
}

impl Parser<'_> {
    fn any_of(&mut self, field: Option<&Field>, depth: usize) -> Result<Predicate, ParseError> {
        if depth > MAX_DEPTH {
            return self.expected(&format!("at most {MAX_DEPTH} levels of parentheses and NOT"));
        }
        let mut parts = vec![self.all_of(field, depth)?];
        while self.lexer.take(&Token::Or)? {
            parts.push(self.all_of(field, depth)?);
        }
        Ok(one_or(parts, Predicate::Or))
    }

    fn all_of(&mut self, field: Option<&Field>, depth: usize) -> Result<Predicate, ParseError> {
        let mut parts = vec![self.operand(field, depth)?];
        loop {
            let explicit = self.lexer.take(&Token::And)?;
            match self.lexer.peek()? {
                None | Some(Token::Or | Token::Close) if !explicit => break,
                _ => parts.push(self.operand(field, depth)?),
            }
        }
        Ok(one_or(parts, Predicate::And))
    }

    fn operand(&mut self, field: Option<&Field>, depth: usize) -> Result<Predicate, ParseError> {
        if depth > MAX_DEPTH {
            return self.expected(&format!("at most {MAX_DEPTH} levels of parentheses and NOT"));
        }
        let context = field.map_or(String::new(), |field| format!(" of \"{}\"", field.name()));
        match self.lexer.peek()? {
            Some(Token::Not) => {
                self.lexer.skip();
                Ok(Predicate::Not(Box::new(self.operand(field, depth + 1)?)))
            }
            Some(Token::Plus) => {
                self.lexer.skip();
                self.operand(field, depth + 1)
            }
            Some(Token::Open) => {
                self.lexer.skip();
                self.group(field, depth)
            }
            Some(Token::Field(_)) if field.is_some() => self
                .expected(&format!("a value{context}, not another field; to search for a colon write \\:")),
            Some(Token::Field(name)) => {
                let name = name.clone();
                self.lexer.skip();
                self.field(&name, depth)
            }
            Some(Token::And | Token::Or) => self.expected("something to search for before AND and OR"),
            Some(Token::Close) => self.expected("something to search for before \")\""),
            None => self.expected("something to search for"),
            Some(_) => self.value(field),
        }
    }

    /// What follows an opening parenthesis.
    fn group(&mut self, field: Option<&Field>, depth: usize) -> Result<Predicate, ParseError> {
        let group = self.any_of(field, depth + 1)?;
        if self.lexer.take(&Token::Close)? { Ok(group) } else { self.expected("\")\"") }
    }

    /// What follows `name:`.
    fn field(&mut self, name: &str, depth: usize) -> Result<Predicate, ParseError> {
        let field = Field::new(name);
        if name == "_exists_" {
            return self.exists();
        }
        match self.lexer.peek_value()? {
            Some(Token::Word(word)) if name == "*" && word.is_star() => {
                self.lexer.skip();
                Ok(Predicate::All)
            }
            Some(_) if name.contains('*') => {
                self.lexer.fail_before("expected a field name without wildcards")
            }
            Some(Token::Open) => {
                self.lexer.skip();
                self.group(Some(&field), depth)
            }
            Some(Token::Word(_) | Token::Quoted(_) | Token::Regex(_) | Token::Range(..)) => {
                self.value(Some(&field))
            }
            _ => self.expected(&format!("a value after \"{name}:\"")),
        }
    }

    fn exists(&mut self) -> Result<Predicate, ParseError> {
        let name = match self.lexer.peek_value()? {
            Some(Token::Word(word)) => word.plain(),
            Some(Token::Quoted(text)) => Some(text.clone()),
            _ => None,
        };
        match name.filter(|name| !name.is_empty()) {
            Some(name) => {
                self.clause()?;
                self.lexer.skip();
                Ok(Predicate::Field(Field::new(name), Test::Exists))
            }
            None => self.expected("the name of a field, without wildcards, after \"_exists_:\""),
        }
    }

    /// A value, pattern or range, of a field or of any.
    fn value(&mut self, field: Option<&Field>) -> Result<Predicate, ParseError> {
        self.clause()?;
        let token = self.lexer.peek()?.cloned();
        let test = match token {
            Some(Token::Quoted(text)) => Test::Is(text),
            Some(Token::Word(word)) => word.into_test(),
            Some(Token::Regex(source)) => match Pattern::new(&source) {
                Ok(pattern) => Test::Matches(pattern),
                Err(error) => return self.fail(&error.to_string()),
            },
            Some(Token::Range(Bound::Unbounded, Bound::Unbounded)) => Test::Exists,
            Some(Token::Range(lower, upper)) => Test::Within(Range::new(lower, upper)),
            _ => return self.expected("a value"),
        };
        let predicate = match field {
            Some(field) => {
                self.check_kind(field, &test)?;
                Predicate::Field(field.clone(), test)
            }
            None if test == Test::Exists => Predicate::All,
            None if matches!(test, Test::Within(_)) => {
                return self.expected("a field before the range, as in responseStatus.code:>=400");
            }
            None => Predicate::Anywhere(test),
        };
        self.lexer.skip();
        Ok(predicate)
    }

    /// Refuses what could never be true because of what the field is.
    fn check_kind(&self, field: &Field, test: &Test) -> Result<(), ParseError> {
        let name = field.name();
        let problem = match (field.target().kind(), test) {
            (_, Test::Exists) => None,
            (Kind::Time, Test::Is(text)) if time_span(text).is_some() => None,
            (Kind::Time, Test::Within(range)) if range.micros().is_some() => None,
            (Kind::Time, _) => Some(format!(
                "a time after \"{name}:\", such as 2026-01-31, \"2026-01-31T08:15:00Z\" or a range of them"
            )),
            (Kind::Id, Test::Is(text)) if text.parse::<watchbell_event::EventId>().is_ok() => None,
            (Kind::Id, _) => Some("the 32 digits of an event's id".to_owned()),
            (Kind::Address, Test::Is(text)) if text.contains('/') && Network::parse(text).is_none() => {
                Some(format!("a block of addresses after \"{name}:\", such as 10.0.0.0/8 or fd00::/8"))
            }
            _ => None,
        };
        problem.map_or(Ok(()), |problem| self.expected(&problem))
    }

    fn clause(&mut self) -> Result<(), ParseError> {
        self.clauses += 1;
        if self.clauses <= MAX_CLAUSES {
            return Ok(());
        }
        self.expected(&format!("at most {MAX_CLAUSES} values, patterns and ranges"))
    }

    fn expected<T>(&self, what: &str) -> Result<T, ParseError> {
        self.fail(&format!("expected {what}"))
    }

    /// Fails at the token that is next.
    fn fail<T>(&self, reason: &str) -> Result<T, ParseError> {
        self.lexer.fail_next(reason)
    }
}

fn one_or(mut parts: Vec<Predicate>, many: fn(Vec<Predicate>) -> Predicate) -> Predicate {
    if parts.len() == 1 { parts.swap_remove(0) } else { many(parts) }
}

impl Word {
    fn into_test(self) -> Test {
        if self.is_star() {
            return Test::Exists;
        }
        if let Some(text) = self.plain() {
            return Test::Is(text);
        }
        let mut wildcard = Wildcard::new();
        for (character, literal) in self.characters {
            match character {
                '*' if !literal => wildcard.push_any(),
                '?' if !literal => wildcard.push_one(),
                literal => wildcard.push(literal),
            }
        }
        if wildcard.is_any() { Test::Exists } else { Test::Like(wildcard) }
    }
}

#[cfg(test)]
mod tests;
