//! A JSON text as a flat list of nodes over the original bytes, built in one pass without copying.
//!
//! Everything that decode does with an event (checks, redaction, identity) works on this list, so an
//! event is read once and its text is copied only if something in it has to change.

mod edit;
mod parse;
mod scan;
mod text;

use std::borrow::Cow;

pub(crate) use edit::{Edit, apply, quoted, reescape};
pub(crate) use parse::{Flaw, Limits, parse};
pub(crate) use scan::{Scanner, SyntaxError};
pub(crate) use text::write_text;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    /// Without any escape: the text is the bytes between the quotes.
    Plain,
    /// A string with at least one escape.
    Escaped,
    Array,
    /// Its children alternate between key and value.
    Object,
}

/// One value or key. Offsets count bytes from the start of the parsed text.
#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    start: u32,
    end: u32,
    /// Index of the node after this one and all below it.
    next: u32,
    /// For objects, where in `Tape::order` its keys stand, sorted.
    order: u32,
    /// Members of an object, elements of an array.
    count: u32,
}

/// The nodes of one text, in the order written. Reused from event to event.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    nodes: Vec<Node>,
    order: Vec<u32>,
    flaws: Vec<Flaw>,
    /// Of use only while a text is parsed.
    keys: parse::Keys,
}

impl Tape {
    /// What had to be passed over. Values may only be looked at if this is empty.
    pub(crate) fn flaws(&self) -> &[Flaw] {
        &self.flaws
    }

    /// The whole text as a value; none if the text had more values than the limit.
    pub(crate) fn root<'a>(&'a self, text: &'a str) -> Option<Value<'a>> {
        (!self.nodes.is_empty()).then_some(Value { text, tape: self, index: 0 })
    }
}

/// A value within a parsed text.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    text: &'a str,
    tape: &'a Tape,
    index: usize,
}

impl<'a> Value<'a> {
    fn node(&self) -> Node {
        self.tape.nodes[self.index]
    }

    fn at(&self, index: usize) -> Self {
        Self { index, ..*self }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.node().kind
    }

    /// Offset of the first byte.
    pub(crate) fn start(&self) -> usize {
        self.node().start as usize
    }

    /// Offset after the last byte.
    pub(crate) fn end(&self) -> usize {
        self.node().end as usize
    }

    /// Number of members or elements.
    pub(crate) fn count(&self) -> u32 {
        self.node().count
    }

    /// The value as it is written.
    pub(crate) fn raw(&self) -> &'a str {
        self.text.get(self.start()..self.end()).unwrap_or_default()
    }

    /// From here to the end of a later value, as it is written.
    pub(crate) fn raw_to(&self, last: Self) -> &'a str {
        self.text.get(self.start()..last.end()).unwrap_or_default()
    }

    /// The content, if this is a string.
    pub(crate) fn as_text(&self) -> Option<Cow<'a, str>> {
        let Node { kind, start, end, .. } = self.node();
        let inner = || self.text.get(start as usize + 1..(end as usize).saturating_sub(1));
        match kind {
            Kind::Plain => inner().map(Cow::Borrowed),
            Kind::Escaped => inner().map(|inner| Cow::Owned(text::unescape(inner))),
            _ => None,
        }
    }

    /// The bytes of the content, if this is a string without escapes.
    pub(crate) fn plain(&self) -> Option<&'a [u8]> {
        let (len, rest) = self.plain_and_rest()?;
        rest.get(..len)
    }

    /// If this is a string without escapes: how many bytes its content has, and the text from its content on, which goes
    /// on behind it.
    pub(crate) fn plain_and_rest(&self) -> Option<(usize, &'a [u8])> {
        let Node { kind, start, end, .. } = self.node();
        let rest = self.text.as_bytes().get(start as usize + 1..)?;
        let len = (end as usize).checked_sub(start as usize + 2).filter(|len| *len <= rest.len())?;
        (kind == Kind::Plain).then_some((len, rest))
    }

    /// True if this is a string with this content.
    pub(crate) fn is(&self, expect: &str) -> bool {
        match self.plain() {
            Some(plain) => plain == expect.as_bytes(),
            None => self.kind() == Kind::Escaped && self.as_text().is_some_and(|text| text == expect),
        }
    }

    /// True if this is an object or a list.
    pub(crate) fn is_container(&self) -> bool {
        matches!(self.kind(), Kind::Object | Kind::Array)
    }

    /// This, and all keys and values below it at any depth, in the order written.
    pub(crate) fn flat(&self) -> impl Iterator<Item = Self> + use<'a> {
        let container = *self;
        (self.index..self.node().next as usize).map(move |index| container.at(index))
    }

    /// Keys and values in the order written; nothing unless this is an object.
    pub(crate) fn members(&self) -> impl Iterator<Item = (Self, Self)> + use<'a> {
        let node = self.node();
        let end = if node.kind == Kind::Object { node.next as usize } else { 0 };
        let (container, mut index) = (*self, self.index + 1);
        std::iter::from_fn(move || {
            let key = (index < end).then(|| container.at(index))?;
            let value = container.at(index + 1);
            index = value.node().next as usize;
            Some((key, value))
        })
    }

    /// Keys and values sorted by key; nothing unless this is an object.
    pub(crate) fn sorted_members(&self) -> impl Iterator<Item = (Self, Self)> + use<'a> {
        let node = self.node();
        let count = if node.kind == Kind::Object { node.count as usize } else { 0 };
        let keys = self.tape.order.get(node.order as usize..).unwrap_or_default();
        let container = *self;
        keys.iter().take(count).map(move |&key| (container.at(key as usize), container.at(key as usize + 1)))
    }

    /// The elements; nothing unless this is a list.
    pub(crate) fn elements(&self) -> impl Iterator<Item = Self> + use<'a> {
        let node = self.node();
        let end = if node.kind == Kind::Array { node.next as usize } else { 0 };
        let (container, mut index) = (*self, self.index + 1);
        std::iter::from_fn(move || {
            let element = (index < end).then(|| container.at(index))?;
            index = element.node().next as usize;
            Some(element)
        })
    }

    /// The values under several keys, in one pass.
    pub(crate) fn pick<const N: usize>(&self, names: [&str; N]) -> [Option<Self>; N] {
        let mut picked = [None; N];
        for (key, value) in self.members() {
            let found = match key.plain() {
                Some(plain) => names.iter().position(|name| plain == name.as_bytes()),
                None => names.iter().position(|name| key.is(name)),
            };
            if let Some(index) = found {
                picked[index] = Some(value);
            }
        }
        picked
    }

    /// The value under `key`, if this is an object that has it.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        self.members().find(|(name, _)| name.is(key)).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests;
