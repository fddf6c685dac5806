//! The pass over an event's bytes: follows the paths that rules read and steps over everything else.

use std::net::IpAddr;

use super::Event;
use super::parts::{Effects, Parts};
use crate::compile::{AtomId, Facet, FieldId, Hot, Node, NodeId, ROOT, RuleSet};
use crate::formula::{Bodies, Body};
use crate::json::{Kind, Malformed, Reader};
use crate::text::number_text;

/// What is nested deeper in an event is not read.
pub const MAX_DEPTH: usize = 128;

/// Marks what is true in an event, a JSON object. `buffer` and `scratch` are scratch space.
pub(super) fn scan(
    set: &RuleSet,
    text: &str,
    event: &mut Event,
    buffer: &mut String,
    scratch: &mut String,
) -> Result<(), Malformed> {
    let anywhere = set.anywhere.filter(|anywhere| !anywhere.on_demand).map(|anywhere| anywhere.field);
    let mut scan = Scan::new(set, text, event, buffer, scratch);
    scan.sink.anywhere = anywhere;
    scan.members(Some(ROOT), 0)?;
    scan.reader.end()?;
    scan.sink.facets();
    Ok(())
}

/// Marks, in an event that was read before, what its values make true of the field that all of them belong to.
pub(super) fn scan_anywhere(
    set: &RuleSet,
    text: &str,
    event: &mut Event,
    buffer: &mut String,
    scratch: &mut String,
) -> Result<(), Malformed> {
    Scan::new(set, text, event, buffer, scratch).members(None, 0)
}

/// Marks what is true in a member of an array, which may be any value.
pub(super) fn scan_member(
    set: &RuleSet,
    text: &str,
    event: &mut Event,
    buffer: &mut String,
    scratch: &mut String,
) -> Result<(), Malformed> {
    Scan::new(set, text, event, buffer, scratch).value(Some(ROOT), 0)
}

/// A value without members.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    /// The number's canonical text.
    Number(&'a str),
    Text(&'a str),
}

struct Scan<'a> {
    reader: Reader<'a>,
    scratch: &'a mut String,
    sink: Sink<'a>,
}

impl<'a> Scan<'a> {
    /// A pass that gives all values to the field that all of them belong to, if there is one.
    fn new(
        set: &'a RuleSet,
        text: &'a str,
        event: &'a mut Event,
        buffer: &'a mut String,
        scratch: &'a mut String,
    ) -> Self {
        let anywhere = set.anywhere.map(|anywhere| anywhere.field);
        let sink = Sink { set, event, buffer, anywhere, effects: None };
        Self { reader: Reader::new(text), scratch, sink }
    }

    /// Reads the members of an object that stands at a place; none if no rule reads that place.
    fn members(&mut self, place: Option<NodeId>, depth: usize) -> Result<(), Malformed> {
        let mut more = self.reader.enter(b'{', b'}')?;
        let mut at = 0;
        while more {
            let child = match place {
                Some(place) => self.member(place, &mut at)?,
                None => self.reader.key(self.scratch).map(|_| None)?,
            };
            match child {
                Some(child) if depth == 0 && self.is_remembered(child)? => self.part(child)?,
                child => self.value(child, depth + 1)?,
            }
            more = self.reader.more(b'}')?;
        }
        Ok(())
    }

    /// Reads the key of the next member, which is expected at `at` of what is known of this place, and says where it
    /// leads.
    #[inline]
    fn member(&mut self, place: NodeId, at: &mut usize) -> Result<Option<NodeId>, Malformed> {
        let scripts = &mut self.sink.event.scripts;
        if let Some(child) =
            scripts.get_mut(place as usize).and_then(|script| script.follow(at, &mut self.reader))
        {
            return Ok(child);
        }
        let start = self.reader.position();
        let key = self.reader.key(self.scratch)?;
        let child = self.sink.set.paths.node(place).child(key);
        if let Some(script) = scripts.get_mut(place as usize) {
            script.learn(at, self.reader.since(start), child);
        }
        Ok(child)
    }

    /// Whether a value of the event itself may be known from an earlier event.
    #[inline]
    fn is_remembered(&mut self, place: NodeId) -> Result<bool, Malformed> {
        let Sink { set, event, anywhere, .. } = &mut self.sink;
        if anywhere.is_some() || !set.paths.node(place).is_part {
            return Ok(false);
        }
        let is_nested = matches!(self.reader.kind()?, Kind::Object | Kind::Array);
        Ok(is_nested && event.parts.get_mut(place as usize).is_some_and(Parts::is_worth_while))
    }

    /// Reads a value of the event itself, unless it is known from an earlier event what the same bytes decide.
    fn part(&mut self, place: NodeId) -> Result<(), Malformed> {
        let Event { parts, trail, .. } = &mut *self.sink.event;
        let parts = &mut parts[place as usize];
        if !parts.guess(*trail, &mut self.reader) {
            let start = self.reader.clone();
            self.reader.skip()?;
            let written = self.reader.since(start.position());
            if !parts.find(written) {
                self.reader = start;
                self.sink.effects = Some(parts.forget());
                self.value(Some(place), 1)?;
                let effects = self.sink.effects.take().unwrap_or_default();
                self.sink.event.parts[place as usize].learn(written, effects);
            }
        }
        self.sink.event.apply(place, !self.sink.set.facets.is_empty());
        Ok(())
    }

    /// Reads a value that is not a member of an array at the same place.
    fn value(&mut self, place: Option<NodeId>, depth: usize) -> Result<(), Malformed> {
        let set = self.sink.set;
        let Some(node) = place.map(|place| set.paths.node(place)).filter(|node| !node.arrays.is_empty())
        else {
            return self.any_value(place, depth);
        };
        let kind = self.reader.kind()?;
        let start = self.reader.position();
        self.any_value(place, depth)?;
        if kind != Kind::Null {
            self.sink.array(node, self.reader.since(start));
        }
        Ok(())
    }

    fn any_value(&mut self, place: Option<NodeId>, depth: usize) -> Result<(), Malformed> {
        let set = self.sink.set;
        let node = place.map(|place| set.paths.node(place));
        if node.is_none() && self.sink.anywhere.is_none() {
            return self.reader.skip();
        }
        let kind = self.reader.kind()?;
        self.sink.begins(node, kind);
        match kind {
            Kind::Object => {
                let read = self.sink.anywhere.is_some() || node.is_some_and(Node::has_children);
                if read && depth < MAX_DEPTH { self.members(place, depth) } else { self.reader.skip() }
            }
            Kind::Array if depth < MAX_DEPTH => {
                let mut more = self.reader.enter(b'[', b']')?;
                while more {
                    self.any_value(place, depth + 1)?;
                    more = self.reader.more(b']')?;
                }
                Ok(())
            }
            Kind::Array => self.reader.skip(),
            Kind::Text => {
                let text = self.reader.string(self.scratch)?;
                self.sink.scalar(node, Scalar::Text(text));
                Ok(())
            }
            Kind::Number => {
                let written = self.reader.number()?;
                self.sink.scalar(node, Scalar::Number(&number_text(written)));
                Ok(())
            }
            Kind::True => self.word(node, "true", Scalar::Bool(true)),
            Kind::False => self.word(node, "false", Scalar::Bool(false)),
            Kind::Null => self.word(node, "null", Scalar::Null),
        }
    }

    fn word(&mut self, node: Option<&Node>, word: &str, value: Scalar<'_>) -> Result<(), Malformed> {
        self.reader.word(word)?;
        self.sink.scalar(node, value);
        Ok(())
    }
}

/// Takes what the pass finds.
struct Sink<'a> {
    set: &'a RuleSet,
    event: &'a mut Event,
    buffer: &'a mut String,
    /// The field that all values belong to, if this pass is for it.
    anywhere: Option<FieldId>,
    /// What is found in a part of the event that is to be remembered.
    effects: Option<Effects>,
}

impl Sink<'_> {
    /// A value of this kind begins.
    fn begins(&mut self, node: Option<&Node>, kind: Kind) {
        let Some(node) = node else { return };
        match node.hot {
            Some(Hot::RequestObject) if kind != Kind::Null => self.event.facts.has_request = true,
            Some(Hot::ResponseObject) if kind != Kind::Null => self.event.facts.has_response = true,
            _ => {}
        }
        if !matches!(kind, Kind::Object | Kind::Array) {
            return;
        }
        let Self { set, event: Event { marks, .. }, effects, .. } = self;
        let mut mark = |atom| match effects {
            Some(effects) => effects.mark(atom),
            None => marks.set(atom),
        };
        for &field in &node.fields {
            let index = &set.fields[field as usize];
            if kind == Kind::Object { index.object(&mut mark) } else { index.array(&mut mark) }
        }
    }

    /// A whole value, at a place where conditions on members want it.
    fn array(&mut self, node: &Node, text: &str) {
        for &field in &node.arrays {
            match &mut self.effects {
                Some(effects) => effects.keep_array(field, text),
                None => self.event.arrays.add(field, self.event.number, text),
            }
        }
    }

    /// A value without members, at a place that some rule reads, or anywhere.
    fn scalar(&mut self, node: Option<&Node>, value: Scalar<'_>) {
        if let Some(node) = node {
            if let Some(hot) = node.hot {
                match &mut self.effects {
                    Some(effects) => effects.learn(hot, value),
                    None => self.event.facts.learn(hot, value, !self.set.facets.is_empty()),
                }
            }
            for &field in &node.fields {
                self.field(field, value);
            }
        }
        if let Some(field) = self.anywhere {
            self.field(field, value);
        }
    }

    fn field(&mut self, field: FieldId, value: Scalar<'_>) {
        let Self { set, event: Event { number, marks, values, memos, .. }, buffer, effects, .. } = self;
        let index = &set.fields[field as usize];
        let mut mark = |atom| match effects {
            Some(effects) => effects.mark(atom),
            None => marks.set(atom),
        };
        let text = match value {
            Scalar::Null => return index.null(&mut mark),
            Scalar::Bool(true) => "true",
            Scalar::Bool(false) => "false",
            Scalar::Number(text) | Scalar::Text(text) => text,
        };
        if index.is_dear {
            let decide = |atoms: &mut Vec<AtomId>| index.text(text, buffer, &mut |atom| atoms.push(atom));
            memos[field as usize].atoms(text, decide).iter().copied().for_each(mark);
        } else {
            index.text(text, buffer, &mut mark);
        }
        if index.keeps_values {
            match effects {
                Some(effects) => effects.keep(field, text),
                None => values.add(field, *number, text),
            }
        }
    }

    /// Adds the facets that are computed once the whole event was read.
    fn facets(&mut self) {
        if self.set.facets.is_empty() {
            return;
        }
        let facts = std::mem::take(&mut self.event.facts);
        for &(facet, field) in &self.set.facets {
            let value = match facet {
                Facet::Actor => facts.actor(),
                Facet::Outcome => Some(facts.outcome()),
                Facet::SourceIp => facts.source_ip.get(),
            };
            if let Some(value) = value {
                self.field(field, Scalar::Text(value));
            }
        }
        self.event.facts = facts;
    }
}

/// What the evaluator itself must know about an event.
#[derive(Debug, Default)]
pub(super) struct Facts {
    stage: Stage,
    /// The audit level leaves out these bodies.
    below_request: bool,
    below_response: bool,
    has_request: bool,
    has_response: bool,
    /// These keep their memory from one event to the next.
    username: Name,
    impersonated: Name,
    source_ip: Name,
    code: Option<u64>,
    forbidden: bool,
}

/// A name, if there is one.
#[derive(Debug, Default)]
struct Name {
    known: bool,
    text: String,
}

impl Name {
    fn set(&mut self, text: &str) {
        self.known = true;
        self.text.clear();
        self.text.push_str(text);
    }

    fn get(&self) -> Option<&str> {
        self.known.then_some(&*self.text)
    }

    /// Forgets the name, but keeps the memory of all but very long ones.
    fn clear(&mut self) {
        self.known = false;
        self.text.clear();
        self.text.shrink_to(KEPT_NAME_BYTES);
    }
}

/// Memory that is kept for one name, in bytes.
const KEPT_NAME_BYTES: usize = 1 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    RequestReceived,
    ResponseStarted,
    #[default]
    Other,
}

impl Facts {
    pub(super) fn clear(&mut self) {
        let names = [&mut self.username, &mut self.impersonated, &mut self.source_ip];
        let [username, impersonated, source_ip] = names.map(|name| {
            name.clear();
            std::mem::take(name)
        });
        *self = Self { username, impersonated, source_ip, ..Self::default() };
    }

    /// The bodies that the event lacks although the request may have had them.
    pub(super) fn missing_bodies(&self) -> Bodies {
        let mut missing = Bodies::default();
        let received = self.stage == Stage::RequestReceived;
        if !self.has_request && (self.below_request || received) {
            missing = missing.with(Body::Request);
        }
        if !self.has_response && (self.below_response || self.stage != Stage::Other) {
            missing = missing.with(Body::Response);
        }
        missing
    }

    /// Whether no later event of this request can hold more.
    pub(super) fn is_final(&self) -> bool {
        self.stage == Stage::Other
    }

    /// As [`watchbell_event::Facets`] defines it.
    fn actor(&self) -> Option<&str> {
        self.impersonated.get().or(self.username.get())
    }

    /// As [`watchbell_event::Facets`] defines it.
    fn outcome(&self) -> &'static str {
        match self.code {
            _ if self.forbidden => "failure",
            Some(400..) => "failure",
            Some(_) => "success",
            None => "unknown",
        }
    }

    pub(super) fn learn(&mut self, hot: Hot, value: Scalar<'_>, for_facets: bool) {
        match (hot, value) {
            (Hot::Level, Scalar::Text("Metadata")) => {
                (self.below_request, self.below_response) = (true, true)
            }
            (Hot::Level, Scalar::Text("Request")) => self.below_response = true,
            (Hot::Truncated, Scalar::Text("true")) => {
                (self.below_request, self.below_response) = (true, true)
            }
            (Hot::Stage, Scalar::Text("RequestReceived")) => self.stage = Stage::RequestReceived,
            (Hot::Stage, Scalar::Text("ResponseStarted")) => self.stage = Stage::ResponseStarted,
            _ if !for_facets => {}
            (Hot::Username, Scalar::Text(name)) => self.username.set(name),
            (Hot::ImpersonatedUsername, Scalar::Text(name)) => self.impersonated.set(name),
            (Hot::SourceIp, Scalar::Text(text)) => match text.parse() {
                // the only way to write one
                Ok(IpAddr::V4(_)) => self.source_ip.set(text),
                Ok(address @ IpAddr::V6(_)) => self.source_ip.set(&address.to_string()),
                Err(_) => self.source_ip.clear(),
            },
            (Hot::Code, Scalar::Number(text)) => self.code = text.parse().ok(),
            (Hot::Decision, Scalar::Text(decision)) => self.forbidden = decision == "forbid",
            _ => {}
        }
    }
}
