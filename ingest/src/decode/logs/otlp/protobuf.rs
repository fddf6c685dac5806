//! The request as Protocol Buffers. Messages and field numbers: `opentelemetry/proto/collector/logs/v1` and those it
//! imports, <https://github.com/open-telemetry/opentelemetry-proto>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::super::super::{DecodeError, Reason};
use super::{Context, Export, Record};

const MALFORMED: &str = "not a protobuf message";
const TOO_DEEP: &str = "cut by watchbell: nested too deeply";

pub(super) fn read(body: &Bytes, export: &mut Export<'_>) -> Result<(), DecodeError> {
    for field in Fields::new(body) {
        match field {
            Ok((1, Wire::Bytes(resource_logs))) => resource(resource_logs, export)?,
            Ok(_) => {}
            Err(Malformed) => return Err(export.broken(0, MALFORMED)),
        }
    }
    Ok(())
}

/// `ResourceLogs`. What all its records share may stand after them, so it is looked for first.
fn resource(resource_logs: &[u8], export: &mut Export<'_>) -> Result<(), DecodeError> {
    let at = offset(export, resource_logs);
    let broken = |export: &Export<'_>| export.broken(at, MALFORMED);
    let mut context = Context::default();
    for field in Fields::new(resource_logs) {
        if let (1, Wire::Bytes(resource)) = field.map_err(|Malformed| broken(export))? {
            context.resource = attributes(resource, 1, export).map_err(|Malformed| broken(export))?;
        }
    }
    for field in Fields::new(resource_logs).flatten() {
        let (2, Wire::Bytes(scope_logs)) = field else { continue };
        context.scope = scope(scope_logs).map_err(|Malformed| broken(export))?;
        records(scope_logs, &context, export)?;
    }
    Ok(())
}

/// The name in `ScopeLogs.scope`.
fn scope(scope_logs: &[u8]) -> Result<String, Malformed> {
    let mut name = String::new();
    for field in Fields::new(scope_logs) {
        let (1, Wire::Bytes(scope)) = field? else { continue };
        for field in Fields::new(scope) {
            if let (1, Wire::Bytes(text)) = field? {
                name = lossy(text);
            }
        }
    }
    Ok(name)
}

fn records(scope_logs: &[u8], context: &Context, export: &mut Export<'_>) -> Result<(), DecodeError> {
    for field in Fields::new(scope_logs).flatten() {
        let (2, Wire::Bytes(bytes)) = field else { continue };
        match record(bytes, export) {
            Ok(record) => export.record(record, context)?,
            Err(Malformed) => {
                let start = offset(export, bytes);
                export.reject(start..start + bytes.len(), Reason::Protocol(MALFORMED))?;
            }
        }
    }
    Ok(())
}

/// `LogRecord`
fn record(bytes: &[u8], export: &Export<'_>) -> Result<Record, Malformed> {
    let mut record = Record::default();
    for field in Fields::new(bytes) {
        match field? {
            (1, Wire::Fixed64(time)) => record.time = time,
            (11, Wire::Fixed64(time)) => record.observed = time,
            (2, Wire::Varint(severity)) => record.severity = severity,
            (3, Wire::Bytes(text)) => record.severity_text = lossy(text),
            (5, Wire::Bytes(body)) => {
                let mut room = Room::of(export);
                record.body = any(body, &mut room, export.limits.depth)?;
                record.body_cut = room.values == 0;
            }
            (9, Wire::Bytes(id)) if id.len() == 16 => record.trace_id = hex(id),
            (10, Wire::Bytes(id)) if id.len() == 8 => record.span_id = hex(id),
            (12, Wire::Bytes(name)) => record.event_name = lossy(name),
            _ => {}
        }
    }
    record.attributes = attributes(bytes, 6, export)?;
    Ok(record)
}

/// The `KeyValue`s in the repeated field `number` of a message.
fn attributes(message: &[u8], number: u32, export: &Export<'_>) -> Result<Map<String, Value>, Malformed> {
    let mut attributes = Map::new();
    let mut room = Room::of(export);
    for field in Fields::new(message) {
        match field? {
            (found, Wire::Bytes(pair)) if found == number && room.take() => {
                let (key, value) = key_value(pair, &mut room, export.limits.depth)?;
                attributes.insert(key, value);
            }
            _ => {}
        }
    }
    Ok(attributes)
}

/// How many more values are read. One more than is kept, so that what is cut is seen where it is kept.
struct Room {
    values: usize,
}

impl Room {
    fn of(export: &Export<'_>) -> Self {
        Self { values: export.limits.values.saturating_add(1) }
    }

    fn take(&mut self) -> bool {
        let has_room = self.values > 0;
        self.values = self.values.saturating_sub(1);
        has_room
    }
}

fn key_value(pair: &[u8], room: &mut Room, depth: usize) -> Result<(String, Value), Malformed> {
    let (mut key, mut value) = (String::new(), Value::Null);
    for field in Fields::new(pair) {
        match field? {
            (1, Wire::Bytes(text)) => key = lossy(text),
            (2, Wire::Bytes(bytes)) => value = any(bytes, room, depth)?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// `AnyValue`
fn any(bytes: &[u8], room: &mut Room, depth: usize) -> Result<Value, Malformed> {
    let mut value = Value::Null;
    for field in Fields::new(bytes) {
        value = match field? {
            (1, Wire::Bytes(text)) => lossy(text).into(),
            (2, Wire::Varint(flag)) => (flag != 0).into(),
            (3, Wire::Varint(number)) => number.cast_signed().into(),
            (4, Wire::Fixed64(bits)) => double(f64::from_bits(bits)),
            (5 | 6, Wire::Bytes(_)) if depth == 0 => TOO_DEEP.into(),
            (5, Wire::Bytes(list)) => array(list, room, depth - 1)?,
            (6, Wire::Bytes(list)) => object(list, room, depth - 1)?,
            (7, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            _ => continue,
        };
    }
    Ok(value)
}

fn array(list: &[u8], room: &mut Room, depth: usize) -> Result<Value, Malformed> {
    let mut elements = Vec::new();
    for field in Fields::new(list) {
        match field? {
            (1, Wire::Bytes(element)) if room.take() => elements.push(any(element, room, depth)?),
            _ => {}
        }
    }
    Ok(Value::Array(elements))
}

fn object(list: &[u8], room: &mut Room, depth: usize) -> Result<Value, Malformed> {
    let mut members = Map::new();
    for field in Fields::new(list) {
        match field? {
            (1, Wire::Bytes(pair)) if room.take() => {
                let (key, value) = key_value(pair, room, depth)?;
                members.insert(key, value);
            }
            _ => {}
        }
    }
    Ok(Value::Object(members))
}

/// JSON has no word for numbers without end.
pub(super) fn double(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where a part of the body stands in it.
fn offset(export: &Export<'_>, part: &[u8]) -> usize {
    (part.as_ptr() as usize).saturating_sub(export.body.as_ptr() as usize)
}

/// Not what it should be from somewhere on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Malformed;

/// What stands behind a field number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message, in the order written. <https://protobuf.dev/programming-guides/encoding/>
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Option<(u32, Wire<'a>)> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return None,
        };
        Some((number, wire))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(Malformed))
    }
}
