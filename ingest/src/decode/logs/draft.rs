use std::borrow::Cow;

use bytes::{BufMut as _, BytesMut};
use serde_json::{Map, Value};
use watchbell_event::Timestamp;

use super::{CommonFacts, Fact, Field, MOST_FACTS, level, time};
use crate::json::write_text;

/// A log document in the making. What is said first stays.
pub(super) struct Draft<'a> {
    common: Option<&'a CommonFacts>,
    facts: Vec<(Field, Fact<'a>)>,
    /// A bit for each field among the facts, common ones included.
    filled: u64,
    /// What the line says of a field that is filled, or that it is not believed about.
    contradicted: Vec<(Field, Fact<'a>)>,
    /// What an agent sent beside the line.
    pub(super) attributes: Map<String, Value>,
    /// Members of the line, in its order.
    members: Vec<Member<'a>>,
    /// When the line says it was written.
    pub(super) time: Option<Timestamp>,
    /// When the line arrived.
    pub(super) received_at: Timestamp,
    /// What the line says, if that is not the line itself.
    pub(super) message: Option<Cow<'a, str>>,
    pub(super) dataset: &'static str,
    pub(super) flags: Vec<&'static str>,
}

struct Member<'a> {
    key: Cow<'a, str>,
    value: MemberValue<'a>,
    below_line: bool,
}

/// The value of a member of a line.
pub(super) enum MemberValue<'a> {
    /// JSON as it stands in the line.
    Json(&'a str),
    /// The same with the key before it, where it is written as it is written here.
    Whole(&'a str),
    Text(Cow<'a, str>),
}

impl<'a> Draft<'a> {
    /// Of two facts of the transport about one field the first counts.
    pub(super) fn new(
        common: Option<&'a CommonFacts>,
        mut known: Vec<(Field, Fact<'a>)>,
        received_at: Timestamp,
    ) -> Self {
        let mut filled = common.map_or(0, |common| common.filled);
        known.retain_mut(|(field, fact)| {
            normalize(*field, fact);
            fill(&mut filled, *field)
        });
        known.reserve(MOST_FACTS.saturating_sub(known.len()));
        Self {
            common,
            facts: known,
            filled,
            contradicted: Vec::new(),
            attributes: Map::new(),
            members: Vec::new(),
            time: None,
            received_at,
            message: None,
            dataset: "text",
            flags: Vec::new(),
        }
    }

    /// What an agent says. What contradicts the transport stands below `agent`.
    pub(super) fn report(&mut self, field: Field, fact: impl Into<Fact<'a>>) {
        let mut fact = fact.into();
        normalize(field, &mut fact);
        if self.fill(field) {
            self.facts.push((field, fact));
        } else if self.fact(field) != Some(&fact) {
            let value = match fact {
                Fact::Text(text) => text.into(),
                Fact::Number(number) => number.into(),
            };
            self.attributes.insert(format!("agent.{}", field.path()), value);
        }
    }

    /// What the line says. It cannot say where it comes from.
    pub(super) fn say(&mut self, field: Field, fact: impl Into<Fact<'a>>) {
        let fact = fact.into();
        if !field.is_origin() && self.fill(field) {
            self.facts.push((field, fact));
        } else if self.fact(field) != Some(&fact)
            && self.contradicted.iter().all(|(known, _)| *known != field)
        {
            self.contradicted.push((field, fact));
        }
    }

    /// As [`Self::say`], unless the text is empty or stands for nothing.
    pub(super) fn say_text(&mut self, field: Field, text: &'a str) {
        if !matches!(text, "" | "-") {
            self.say(field, text);
        }
    }

    /// As [`Self::say`], if the text is a number.
    pub(super) fn say_number(&mut self, field: Field, text: &str) {
        if let Ok(number) = text.parse::<u64>() {
            self.say(field, number);
        }
    }

    /// The address that a line names as that of the client: an address, perhaps with a port, or a name.
    pub(super) fn say_client(&mut self, text: &'a str) {
        let (address, port) = split_port(text);
        match address.parse::<std::net::IpAddr>() {
            Ok(_) => {
                self.say(Field::SourceIp, address);
                if let Some(port) = port {
                    self.say_number(Field::SourcePort, port);
                }
            }
            Err(_) => self.say_text(Field::SourceAddress, text),
        }
    }

    /// A member of the line under its own name; of two with one name the later one.
    pub(super) fn member(&mut self, key: impl Into<Cow<'a, str>>, value: MemberValue<'a>) {
        let key = key.into();
        match self.members.iter_mut().find(|member| member.key == key) {
            Some(member) => member.value = value,
            None => {
                let below_line = Field::is_first_key(Field::first_key(&key)) || self.stands_below_line(&key);
                self.new_member(key, value, below_line);
            }
        }
    }

    /// As [`Self::member`], of which there is none with this name.
    pub(super) fn new_member(&mut self, key: Cow<'a, str>, value: MemberValue<'a>, below_line: bool) {
        self.members.push(Member { key, value, below_line });
    }

    /// So many members will follow.
    pub(super) fn expect_members(&mut self, count: u32) {
        self.members.reserve(count as usize);
    }

    pub(super) fn fact(&self, field: Field) -> Option<&Fact<'a>> {
        if self.filled & bit(field) == 0 {
            return None;
        }
        match self.common.filter(|common| common.filled & bit(field) != 0) {
            Some(common) => common.fact(field),
            None => self.facts.iter().find(|(filled, _)| *filled == field).map(|(_, fact)| fact),
        }
    }

    fn fill(&mut self, field: Field) -> bool {
        fill(&mut self.filled, field)
    }

    /// Appends the document. `time` is when the line was written.
    pub(super) fn write(&self, time: Timestamp, line: &str, out: &mut BytesMut) {
        out.extend_from_slice(b"{\"@timestamp\":\"");
        time::write(time, out);
        out.put_u8(b'"');
        let message = self.message.as_deref().unwrap_or(line);
        if !message.is_empty() {
            out.extend_from_slice(b",\"message\":");
            write_text(message, out);
        }
        self.write_dataset(out);
        out.extend_from_slice(self.common.map_or(&[], |common| &common.members));
        for (field, fact) in self.facts.iter().filter(|(field, _)| *field != Field::EventDataset) {
            write_path(*field, out);
            write_fact(fact, out);
        }
        self.write_flags(out);
        for (key, value) in &self.attributes {
            write_key(key, out);
            // writing to memory does not fail, and nor does JSON without maps of other keys than text
            let _ = serde_json::to_writer((&mut *out).writer(), value);
        }
        for member in self.members.iter().filter(|member| !member.below_line) {
            write_member(b',', member, out);
        }
        self.write_line(out);
        out.put_u8(b'}');
    }

    /// What format was recognised; what an agent says about it counts where nothing was.
    fn write_dataset(&self, out: &mut BytesMut) {
        write_path(Field::EventDataset, out);
        match self.fact(Field::EventDataset) {
            Some(fact) if self.dataset == "text" => write_fact(fact, out),
            _ => write_text(self.dataset, out),
        }
    }

    fn write_flags(&self, out: &mut BytesMut) {
        if self.flags.is_empty() {
            return;
        }
        write_key("log.flags", out);
        for (n, flag) in self.flags.iter().enumerate() {
            out.put_u8(if n == 0 { b'[' } else { b',' });
            write_text(flag, out);
        }
        out.put_u8(b']');
    }

    /// What the line says of things that it is not believed, or that others have said already.
    fn write_line(&self, out: &mut BytesMut) {
        let mut members = self.members.iter().filter(|member| member.below_line).peekable();
        if members.peek().is_none() && self.contradicted.is_empty() {
            return;
        }
        write_key("line", out);
        let mut before = b'{';
        for member in members {
            write_member(before, member, out);
            before = b',';
        }
        for (field, fact) in &self.contradicted {
            // a member of the same name says the same
            if self.members.iter().any(|member| member.key == field.path()) {
                continue;
            }
            write_key_after(before, field.path(), out);
            write_fact(fact, out);
            before = b',';
        }
        if before == b'{' {
            out.put_u8(b'{');
        }
        out.put_u8(b'}');
    }

    /// Whether a member whose first key is none of a field is not to be taken for what an agent says.
    pub(super) fn stands_below_line(&self, key: &str) -> bool {
        let first = Field::first_key(key);
        is_reserved(first) || self.attributes.keys().any(|key| Field::first_key(key) == first)
    }
}

/// First keys of members that say where a line comes from, or that a query or a rule understands in its own way. A
/// member of a line with such a first key stands below `line`, as those with the first key of a [`Field`] do.
fn is_reserved(first: &str) -> bool {
    matches!(
        first,
        "@timestamp"
            | "_cut"
            | "agent"
            | "annotations"
            | "cluster"
            | "id"
            | "impersonatedUser"
            | "k8s"
            | "kubernetes"
            | "line"
            | "message"
            | "objectRef"
            | "requestObject"
            | "responseObject"
            | "responseStatus"
            | "sourceIPs"
            | "stream"
            | "verb"
    )
}

/// The bit of a field in a set of fields.
fn bit(field: Field) -> u64 {
    1 << field as u8
}

/// Puts a field into a set of fields; true if it was not in it.
pub(super) fn fill(filled: &mut u64, field: Field) -> bool {
    let is_new = *filled & bit(field) == 0;
    *filled |= bit(field);
    is_new
}

/// Levels in one spelling, whoever names them.
pub(super) fn normalize(field: Field, fact: &mut Fact<'_>) {
    if let Fact::Text(word) = fact
        && field == Field::LogLevel
        && let Some(level) = level::normal(word)
    {
        *word = level;
    }
}

/// Paths of fields need no escapes.
pub(super) fn write_path(field: Field, out: &mut BytesMut) {
    out.extend_from_slice(field.head().as_bytes());
}

fn write_key(key: &str, out: &mut BytesMut) {
    write_key_after(b',', key, out);
}

fn write_key_after(before: u8, key: &str, out: &mut BytesMut) {
    out.put_u8(before);
    write_text(key, out);
    out.put_u8(b':');
}

pub(super) fn write_fact(fact: &Fact<'_>, out: &mut BytesMut) {
    match fact {
        Fact::Text(text) => write_text(text, out),
        Fact::Number(number) => write_number(*number, out),
    }
}

fn write_number(mut number: u64, out: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut begin = digits.len();
    loop {
        begin -= 1;
        digits[begin] = b'0' + (number % 10).to_le_bytes()[0];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[begin..]);
}

fn write_member(before: u8, Member { key, value, .. }: &Member<'_>, out: &mut BytesMut) {
    match value {
        MemberValue::Whole(member) => {
            out.put_u8(before);
            out.extend_from_slice(member.as_bytes());
        }
        MemberValue::Json(json) => {
            write_key_after(before, key, out);
            out.extend_from_slice(json.as_bytes());
        }
        MemberValue::Text(text) => {
            write_key_after(before, key, out);
            write_text(text, out);
        }
    }
}

/// Parts `10.0.0.1:80` and `[::1]:80`; an address alone stays whole.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return (address, rest.strip_prefix(':'));
    }
    let colon = memchr::memchr(b':', text.as_bytes());
    match colon.filter(|colon| memchr::memrchr(b':', text.as_bytes()) == Some(*colon)) {
        Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
        None => (text, None),
    }
}
