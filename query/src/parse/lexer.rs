//! Splits a query into tokens, one ahead of the parser.

use std::iter::Peekable;
use std::ops::Bound;
use std::str::Chars;

use super::ParseError;

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    Plus,
    /// A name with the colon after it.
    Field(String),
    Word(Word),
    Quoted(String),
    Regex(String),
    Range(Bound<String>, Bound<String>),
}

/// Text without quotes; each character with whether it was escaped and so stands for itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Word {
    pub(super) characters: Vec<(char, bool)>,
}

impl Word {
    /// The text, if it has no wildcard.
    pub(super) fn plain(&self) -> Option<String> {
        let wildcard = |(character, literal): &(char, bool)| !literal && matches!(character, '*' | '?');
        (!self.characters.iter().any(wildcard)).then(|| self.text())
    }

    pub(super) fn is_star(&self) -> bool {
        self.characters == [('*', false)]
    }

    fn text(&self) -> String {
        self.characters.iter().map(|(character, _)| character).collect()
    }

    /// The operator that the word is, if nothing in it was escaped.
    fn operator(&self) -> Option<Token> {
        if self.characters.iter().any(|(_, literal)| *literal) {
            return None;
        }
        match self.text().as_str() {
            "AND" | "&&" => Some(Token::And),
            "OR" | "||" => Some(Token::Or),
            "NOT" => Some(Token::Not),
            _ => None,
        }
    }
}

pub(super) struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    /// Characters taken so far.
    taken: usize,
    /// The token ahead and the character it begins at.
    ahead: Option<(Token, usize)>,
    /// Where the token before began.
    before: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), taken: 0, ahead: None, before: 0 }
    }

    /// The next token.
    pub(super) fn peek(&mut self) -> Result<Option<&Token>, ParseError> {
        self.look(false)
    }

    /// The next token where a value must stand: a colon or a leading minus is part of it.
    pub(super) fn peek_value(&mut self) -> Result<Option<&Token>, ParseError> {
        self.look(true)
    }

    fn look(&mut self, value: bool) -> Result<Option<&Token>, ParseError> {
        if self.ahead.is_none() {
            self.skip_space();
            let start = self.taken;
            self.ahead = self.token(value)?.map(|token| (token, start));
        }
        Ok(self.ahead.as_ref().map(|(token, _)| token))
    }

    /// Goes past the token that was looked at.
    pub(super) fn skip(&mut self) {
        if let Some((_, start)) = self.ahead.take() {
            self.before = start;
        }
    }

    /// Goes past the next token if it is this one.
    pub(super) fn take(&mut self, token: &Token) -> Result<bool, ParseError> {
        let found = self.peek()? == Some(token);
        if found {
            self.skip();
        }
        Ok(found)
    }

    /// An error at the next token.
    pub(super) fn fail_next<T>(&self, reason: &str) -> Result<T, ParseError> {
        let start = self.ahead.as_ref().map_or(self.taken, |(_, start)| *start);
        fail(start, reason)
    }

    /// An error at the token before the next.
    pub(super) fn fail_before<T>(&self, reason: &str) -> Result<T, ParseError> {
        fail(self.before, reason)
    }

    fn token(&mut self, value: bool) -> Result<Option<Token>, ParseError> {
        let Some(first) = self.rest.peek().copied() else { return Ok(None) };
        let token = match first {
            '(' => self.single(Token::Open),
            ')' => self.single(Token::Close),
            '!' | '-' if !value => self.single(Token::Not),
            '+' if !value => self.single(Token::Plus),
            '"' => Token::Quoted(self.quoted()?),
            '/' => Token::Regex(self.regex()?),
            '[' | '{' => self.range()?,
            '<' | '>' => self.comparison()?,
            _ => self.word(value)?,
        };
        Ok(Some(token))
    }

    fn single(&mut self, token: Token) -> Token {
        self.next();
        token
    }

    fn word(&mut self, value: bool) -> Result<Token, ParseError> {
        let start = self.taken;
        let mut word = Word::default();
        while let Some(character) = self.rest.peek().copied() {
            match character {
                ':' if !value => {
                    self.next();
                    if word.characters.is_empty() {
                        return fail(start, "expected the name of a field before \":\"");
                    }
                    return Ok(Token::Field(word.text()));
                }
                '(' | ')' | '"' => break,
                '~' | '^' => {
                    let reason = "fuzzy search and boosts are not supported; to search for this character, \
                                  write a backslash before it";
                    return fail(self.taken, reason);
                }
                character if character.is_whitespace() => break,
                _ => word.characters.push(self.character()?),
            }
        }
        Ok(word.operator().unwrap_or(Token::Word(word)))
    }

    /// Text up to white space or one of these.
    fn word_until(&mut self, ends: &[char]) -> Result<Word, ParseError> {
        let mut word = Word::default();
        while self.rest.peek().is_some_and(|next| !next.is_whitespace() && !ends.contains(next)) {
            word.characters.push(self.character()?);
        }
        Ok(word)
    }

    /// One character, or the one after a backslash.
    fn character(&mut self) -> Result<(char, bool), ParseError> {
        match self.next() {
            Some('\\') => match self.next() {
                Some(escaped) => Ok((escaped, true)),
                None => fail(self.taken, "expected a character after the backslash"),
            },
            Some(character) => Ok((character, false)),
            None => fail(self.taken, "expected a character"),
        }
    }

    fn quoted(&mut self) -> Result<String, ParseError> {
        const UNCLOSED: &str = "expected a closing quote for this one";
        let start = self.taken;
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return fail(start, UNCLOSED),
                Some('"') => return Ok(text),
                Some('\\') => match self.next() {
                    Some(escaped @ ('"' | '\\')) => text.push(escaped),
                    Some(other) => text.extend(['\\', other]),
                    None => return fail(start, UNCLOSED),
                },
                Some(character) => text.push(character),
            }
        }
    }

    fn regex(&mut self) -> Result<String, ParseError> {
        const UNCLOSED: &str = "expected a closing \"/\"; to search for text with a slash first, quote it";
        let start = self.taken;
        self.next();
        let mut source = String::new();
        loop {
            match self.next() {
                None => return fail(start, UNCLOSED),
                Some('/') => return Ok(source),
                Some('\\') => match self.next() {
                    Some('/') => source.push('/'),
                    Some(other) => source.extend(['\\', other]),
                    None => return fail(start, UNCLOSED),
                },
                Some(character) => source.push(character),
            }
        }
    }

    /// `[a TO b]`; a curly bracket leaves the bound itself out.
    fn range(&mut self) -> Result<Token, ParseError> {
        let lower_included = self.next() == Some('[');
        let lower = self.bound("the lower bound of a range", &[']', '}', '"', '(', ')'])?;
        self.skip_space();
        let start = self.taken;
        if self.word_until(&['"', ']', '}'])?.text() != "TO" {
            return fail(start, "expected TO between the bounds of a range");
        }
        let upper = self.bound("the upper bound of a range", &[']', '}', '"', '(', ')'])?;
        self.skip_space();
        let upper_included = match self.rest.peek() {
            Some(']') => true,
            Some('}') => false,
            _ => return fail(self.taken, "expected \"]\" or \"}\" at the end of the range"),
        };
        self.next();
        Ok(Token::Range(limit(lower, lower_included), limit(upper, upper_included)))
    }

    /// `>=a`, `>a`, `<=a`, `<a`.
    fn comparison(&mut self) -> Result<Token, ParseError> {
        let greater = self.next() == Some('>');
        let included = self.next_if(|character| *character == '=').is_some();
        let start = self.taken;
        let Some(value) = self.bound("a value after the comparison", &['"', '(', ')'])? else {
            return fail(start, "expected a value after the comparison, without wildcards");
        };
        let (limit, open) = (limit(Some(value), included), Bound::Unbounded);
        Ok(if greater { Token::Range(limit, open) } else { Token::Range(open, limit) })
    }

    /// One bound of a range; nothing for `*`.
    fn bound(&mut self, what: &str, ends: &[char]) -> Result<Option<String>, ParseError> {
        self.skip_space();
        let start = self.taken;
        if self.rest.peek() == Some(&'"') {
            return self.quoted().map(Some);
        }
        let word = self.word_until(ends)?;
        match word.plain() {
            _ if word.is_star() => Ok(None),
            Some(text) if !text.is_empty() => Ok(Some(text)),
            Some(_) => fail(start, &format!("expected {what}")),
            None => fail(start, &format!("expected {what}, without wildcards")),
        }
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.taken += usize::from(next.is_some());
        next
    }

    fn next_if(&mut self, accept: impl Fn(&char) -> bool) -> Option<char> {
        if self.rest.peek().is_some_and(accept) { self.next() } else { None }
    }

    fn skip_space(&mut self) {
        while self.next_if(|character| character.is_whitespace()).is_some() {}
    }
}

fn limit(text: Option<String>, included: bool) -> Bound<String> {
    match text {
        None => Bound::Unbounded,
        Some(text) if included => Bound::Included(text),
        Some(text) => Bound::Excluded(text),
    }
}

/// `start` counts from zero.
fn fail<T>(start: usize, reason: &str) -> Result<T, ParseError> {
    Err(ParseError { position: start + 1, reason: reason.to_owned() })
}
