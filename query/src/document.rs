//! An event as tantivy indexes it: taken apart in one pass, its texts kept in one piece of memory.

mod paths;
mod stored;
mod values;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;

use tantivy::schema::Field;
use watchbell_event::predicate::{Number, Scalar, indexed_text, indexed_time, leaves};
use watchbell_event::{Envelope, Timestamp};

use self::paths::{Paths, Seen};
use crate::queue::Room;
use crate::schema::{Column, Columns};

pub(crate) use stored::StoredEvent;

/// One event to be indexed.
#[derive(Debug)]
pub struct EventDocument {
    columns: Columns,
    /// What is stored, then the texts that do not stand in it as they are.
    text: String,
    stored_len: usize,
    /// The event's paths as `present` holds them.
    paths: String,
    values: Vec<(Field, Value)>,
    rest: Vec<(Range<usize>, Value)>,
    /// Room in the queue, given back when the event has been indexed.
    _room: Option<Arc<Room>>,
}

/// A value; texts are places in the document's memory.
#[derive(Clone, Debug)]
enum Value {
    Text(Range<usize>),
    Path(Range<usize>),
    Address(Ipv6Addr),
    Micros(i64),
    Unsigned(u64),
    Number(Number),
    Bool(bool),
}

/// Makes documents.
#[derive(Debug)]
pub struct DocumentBuilder {
    columns: Columns,
    /// The paths of the bodies of the event at hand.
    seen: Seen,
}

impl DocumentBuilder {
    pub(crate) fn new(columns: Columns) -> Self {
        Self { columns, seen: Seen::default() }
    }

    /// Takes an event apart. `seq` is its place in the order of arrival.
    pub fn build(&mut self, envelope: &Envelope, seq: u64) -> EventDocument {
        self.build_in(envelope, seq, None)
    }

    pub(crate) fn build_in(
        &mut self,
        envelope: &Envelope,
        seq: u64,
        room: Option<Arc<Room>>,
    ) -> EventDocument {
        let event = stored::event_text(&envelope.bytes);
        let (text, event_start) = stored::write(envelope, &event);
        let mut draft = Draft {
            builder: self,
            event: &event,
            event_start,
            stored_len: text.len(),
            text,
            paths: Paths::new(),
            values: Vec::with_capacity(32),
            rest: Vec::with_capacity(16),
            source_ip: None,
        };
        draft.envelope(envelope, seq);
        match &event {
            Cow::Borrowed(text) => leaves::visit_text(text, &mut |path, value| draft.value(path, value)),
            Cow::Owned(_) => leaves::visit(&envelope.bytes, &mut |path, value| draft.value(path, value)),
        }
        draft.finish(room)
    }
}

/// A document in the making.
struct Draft<'a> {
    builder: &'a mut DocumentBuilder,
    event: &'a str,
    event_start: usize,
    stored_len: usize,
    text: String,
    paths: Paths,
    values: Vec<(Field, Value)>,
    rest: Vec<(Range<usize>, Value)>,
    /// The last member of `sourceIPs` so far, if it is an address.
    source_ip: Option<IpAddr>,
}

impl<'a> Draft<'a> {
    fn envelope(&mut self, envelope: &Envelope, seq: u64) {
        let columns = self.builder.columns;
        let cluster = self.owned_text(&indexed_text(&envelope.cluster));
        let source = self.owned_text(envelope.format.name());
        self.values.extend([
            (columns.timestamp, Value::Micros(indexed_time(envelope.event_time))),
            (columns.seq, Value::Unsigned(seq)),
            (columns.id, Value::Unsigned(envelope.id.prefix())),
            (columns.cluster, Value::Text(cluster)),
            (columns.source, Value::Text(source)),
        ]);
    }

    fn value(&mut self, path: &str, value: Scalar<'a>) {
        let place = self.path(path);
        let column = self.builder.columns.of(path);
        if column == Column::Addresses {
            self.next_source_ip();
        }
        match (column, &value) {
            (Column::Keyword(column), Scalar::Text(text)) => {
                let value = Value::Text(self.place(text));
                self.values.push((column, value));
            }
            (Column::Code, Scalar::Number(Number::I64(code))) if *code >= 0 => {
                self.values.push((self.builder.columns.code, Value::Unsigned(code.unsigned_abs())));
            }
            (Column::Code, Scalar::Number(Number::U64(code))) => {
                self.values.push((self.builder.columns.code, Value::Unsigned(*code)));
            }
            (Column::Addresses, Scalar::Text(text)) => match text.parse() {
                Ok(address) => self.source_ip = Some(address),
                Err(_) => self.rest(place, &value),
            },
            (Column::Time(column), Scalar::Text(text)) => match text.parse::<Timestamp>() {
                Ok(time) => self.values.push((column, Value::Micros(indexed_time(time)))),
                Err(_) => self.rest(place, &value),
            },
            _ => self.rest(place, &value),
        }
    }

    /// What was the last member of `sourceIPs` so far is not the last after all.
    fn next_source_ip(&mut self) {
        if let Some(address) = self.source_ip.take() {
            self.values.push((self.builder.columns.forwarded_ips, Value::Address(ipv6(address))));
        }
    }

    fn rest(&mut self, path: Range<usize>, value: &Scalar<'a>) {
        let value = match value {
            Scalar::Text(text) => Value::Text(self.place(text)),
            Scalar::Number(number) => Value::Number(*number),
            Scalar::Bool(value) => Value::Bool(*value),
        };
        self.rest.push((path, value));
    }

    /// Where the text stands in the document's memory; put there if it does not stand in the event as it is.
    fn place(&mut self, text: &Cow<'a, str>) -> Range<usize> {
        match (text, indexed_text(text)) {
            (Cow::Borrowed(text), Cow::Borrowed(_)) if within(text, self.event) => {
                let start = self.event_start + (text.as_ptr() as usize - self.event.as_ptr() as usize);
                start..start + text.len()
            }
            (_, indexed) => self.owned_text(&indexed),
        }
    }

    fn owned_text(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    /// Notes that the path has a value; once, if it stands in a body, where arrays of objects repeat paths.
    fn path(&mut self, path: &str) -> Range<usize> {
        if let Some(place) = self.paths.last_if(path) {
            return place;
        }
        if !path.starts_with("requestObject") && !path.starts_with("responseObject") {
            return self.paths.push(path);
        }
        self.builder.seen.place_or_push(path, &mut self.paths)
    }

    fn finish(mut self, room: Option<Arc<Room>>) -> EventDocument {
        self.builder.seen.clear();
        let columns = self.builder.columns;
        if let Some(address) = self.source_ip {
            self.values.push((columns.source_ip, Value::Address(ipv6(address))));
        }
        let (paths, chunks) = self.paths.finish();
        self.values.extend(chunks.into_iter().map(|chunk| (columns.present, Value::Path(chunk))));
        EventDocument {
            columns,
            text: self.text,
            stored_len: self.stored_len,
            paths,
            values: self.values,
            rest: self.rest,
            _room: room,
        }
    }
}

fn ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// True if `part` is a piece of the memory of `whole`.
fn within(part: &str, whole: &str) -> bool {
    let (part, whole) = (part.as_bytes().as_ptr_range(), whole.as_bytes().as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}
