//! Takes messages apart as [`watchbell_event::predicate::Words`] does.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};
use watchbell_event::predicate::Words;

/// The name under which an index knows it.
pub(crate) const NAME: &str = "words";

#[derive(Clone)]
pub(crate) struct WordTokenizer;

pub(crate) struct WordStream<'a> {
    words: Words<'a>,
    token: Token,
}

impl Tokenizer for WordTokenizer {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        WordStream { words: Words::of(text), token: Token::default() }
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        // the first is at zero: a new token is one before it
        self.token.position = self.token.position.wrapping_add(1);
        self.words.next_into(&mut self.token.text)
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}
