//! An event as tantivy indexes it: taken apart in one pass, its texts kept in one piece of memory.

mod paths;
mod stored;
mod values;

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use tantivy::schema::Field;
use watchbell_event::predicate::{Number, Scalar, indexed_text, indexed_time, leaves};
use watchbell_event::{Envelope, Timestamp};

use self::paths::{Paths, Seen};
use crate::queue::Room;
use crate::schema::{Column, Columns};

pub(crate) use stored::{StoredEvent, event_text};

/// One event to be indexed. It is taken apart by the indexing thread, just before it is indexed: what waits in
/// the queue is only the event as the log gave it, and what is read next is still in the processor's cache.
#[derive(Debug)]
pub struct EventDocument {
    columns: Columns,
    envelope: Envelope,
    seq: u64,
    /// The event's bytes are kept elsewhere.
    kept: bool,
    parts: OnceLock<Parts>,
    /// Room in the queue, given back when the event has been indexed.
    _room: Option<Arc<Room>>,
}

/// An event taken apart.
#[derive(Debug, Default)]
struct Parts {
    /// What is stored, then the texts that do not stand in it as they are.
    text: String,
    stored_len: usize,
    paths: Paths,
    values: Vec<(Field, Value)>,
    rest: Vec<(Range<usize>, Value)>,
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
#[derive(Clone, Copy, Debug)]
pub struct DocumentBuilder {
    columns: Columns,
}

impl DocumentBuilder {
    pub(crate) fn new(columns: Columns) -> Self {
        Self { columns }
    }

    /// A document of an event. `seq` is its place in the order of arrival.
    #[must_use]
    pub fn build(&self, envelope: &Envelope, seq: u64) -> EventDocument {
        self.build_in(envelope, seq, false, None)
    }

    /// A document that stores the event unless that is `kept` elsewhere.
    pub(crate) fn build_in(
        &self,
        envelope: &Envelope,
        seq: u64,
        kept: bool,
        room: Option<Arc<Room>>,
    ) -> EventDocument {
        let (columns, envelope) = (self.columns, envelope.clone());
        EventDocument { columns, envelope, seq, kept, parts: OnceLock::new(), _room: room }
    }
}

impl EventDocument {
    fn parts(&self) -> &Parts {
        self.parts.get_or_init(|| take_apart(&self.envelope, self.seq, self.columns))
    }
}

impl Drop for EventDocument {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            // At the end of a thread there is no next document.
            let _ = SPARE.try_with(|spare| spare.borrow_mut().keep(parts));
        }
    }
}

thread_local! {
    /// Memory of the last document of this thread, for the next one.
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// Most memory that is kept for the next document, in bytes.
const MAX_SPARE_BYTES: usize = 1 << 20;

#[derive(Default)]
struct Spare {
    parts: Parts,
    seen: Seen,
}

impl Spare {
    fn keep(&mut self, parts: Parts) {
        if parts.text.capacity() <= MAX_SPARE_BYTES {
            self.parts = parts;
        }
    }
}

fn take_apart(envelope: &Envelope, seq: u64, columns: Columns) -> Parts {
    SPARE.with_borrow_mut(|spare| {
        let mut parts = std::mem::take(&mut spare.parts);
        parts.clear();
        spare.seen.clear();
        let event = stored::event_text(&envelope.bytes);
        let event_start = stored::write(&mut parts.text, envelope, &event);
        parts.stored_len = parts.text.len();
        let seen = &mut spare.seen;
        let mut draft =
            Draft { columns, event: &event, event_start, seen, parts: &mut parts, source_ip: None };
        draft.envelope(envelope, seq);
        match &event {
            Cow::Borrowed(text) => leaves::visit_text(text, &mut |path, value| draft.value(path, &value)),
            Cow::Owned(_) => leaves::visit(&envelope.bytes, &mut |path, value| draft.value(path, &value)),
        }
        draft.finish();
        parts
    })
}

impl Parts {
    fn clear(&mut self) {
        self.text.clear();
        self.paths.clear();
        self.values.clear();
        self.rest.clear();
    }
}

/// A document in the making.
struct Draft<'a, 'p> {
    columns: Columns,
    event: &'a str,
    /// Where the event stands in what is stored.
    event_start: usize,
    /// The paths of its bodies so far.
    seen: &'p mut Seen,
    parts: &'p mut Parts,
    /// The last member of `sourceIPs` so far, if it is an address.
    source_ip: Option<IpAddr>,
}

impl<'a> Draft<'a, '_> {
    fn envelope(&mut self, envelope: &Envelope, seq: u64) {
        let columns = self.columns;
        let cluster = self.owned_text(&indexed_text(&envelope.cluster));
        let source = self.owned_text(envelope.format.name());
        self.parts.values.extend([
            (columns.timestamp, Value::Micros(indexed_time(envelope.event_time))),
            (columns.seq, Value::Unsigned(seq)),
            (columns.id, Value::Unsigned(envelope.id.prefix())),
            (columns.cluster, Value::Text(cluster)),
            (columns.source, Value::Text(source)),
        ]);
    }

    fn value(&mut self, path: &str, value: &Scalar<'a>) {
        if path == leaves::CUT {
            metrics::counter!("watchbell_index_cut_events_total").increment(1);
        }
        let place = self.path(path);
        let column = self.columns.of(path);
        if column == Column::Addresses {
            self.next_source_ip();
        }
        match (column, value) {
            (Column::Keyword(column), Scalar::Text(text)) => {
                let value = Value::Text(self.place(text));
                self.parts.values.push((column, value));
            }
            (Column::Code, Scalar::Number(Number::I64(code))) if *code >= 0 => {
                self.parts.values.push((self.columns.code, Value::Unsigned(code.unsigned_abs())));
            }
            (Column::Code, Scalar::Number(Number::U64(code))) => {
                self.parts.values.push((self.columns.code, Value::Unsigned(*code)));
            }
            (Column::Message, Scalar::Text(text)) => {
                // found by its words, however long it is
                let place = self.whole(text);
                self.parts.values.push((self.columns.message, Value::Text(place)));
            }
            (Column::Address, Scalar::Text(text)) => match text.parse() {
                Ok(address) => {
                    self.parts.values.push((self.columns.line_ip, Value::Address(ipv6(address))));
                }
                Err(_) => self.rest(place, value),
            },
            (Column::Addresses, Scalar::Text(text)) => match text.parse() {
                Ok(address) => self.source_ip = Some(address),
                Err(_) => self.rest(place, value),
            },
            (Column::Time(column), Scalar::Text(text)) => match text.parse::<Timestamp>() {
                Ok(time) => self.parts.values.push((column, Value::Micros(indexed_time(time)))),
                Err(_) => self.rest(place, value),
            },
            _ => self.rest(place, value),
        }
    }

    /// What was the last member of `sourceIPs` so far is not the last after all.
    fn next_source_ip(&mut self) {
        if let Some(address) = self.source_ip.take() {
            self.parts.values.push((self.columns.forwarded_ips, Value::Address(ipv6(address))));
        }
    }

    fn rest(&mut self, path: Range<usize>, value: &Scalar<'a>) {
        let value = match value {
            Scalar::Text(text) => Value::Text(self.place(text)),
            Scalar::Number(number) => Value::Number(*number),
            Scalar::Bool(value) => Value::Bool(*value),
        };
        self.parts.rest.push((path, value));
    }

    /// Where the whole text stands in the document's memory.
    fn whole(&mut self, text: &str) -> Range<usize> {
        if within(text, self.event) {
            let start = self.event_start + (text.as_ptr() as usize - self.event.as_ptr() as usize);
            return start..start + text.len();
        }
        self.owned_text(text)
    }

    /// Where the text stands in the document's memory; put there if it does not stand in the event as it is.
    fn place(&mut self, text: &str) -> Range<usize> {
        match indexed_text(text) {
            Cow::Borrowed(_) if within(text, self.event) => self.whole(text),
            indexed => {
                if let Cow::Owned(_) = indexed {
                    metrics::counter!("watchbell_index_cut_values_total").increment(1);
                }
                self.owned_text(&indexed)
            }
        }
    }

    fn owned_text(&mut self, text: &str) -> Range<usize> {
        let start = self.parts.text.len();
        self.parts.text.push_str(text);
        start..self.parts.text.len()
    }

    /// Notes that the path has a value; once, if it stands in a body, where arrays of objects repeat paths.
    fn path(&mut self, path: &str) -> Range<usize> {
        if let Some(place) = self.parts.paths.last_if(path) {
            return place;
        }
        if !path.starts_with("requestObject") && !path.starts_with("responseObject") {
            return self.parts.paths.push(path);
        }
        self.seen.place_or_push(path, &mut self.parts.paths)
    }

    fn finish(self) {
        if let Some(address) = self.source_ip {
            self.parts.values.push((self.columns.source_ip, Value::Address(ipv6(address))));
        }
        let chunks = self.parts.paths.chunks();
        self.parts
            .values
            .extend(chunks.iter().map(|chunk| (self.columns.present, Value::Path(chunk.clone()))));
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
