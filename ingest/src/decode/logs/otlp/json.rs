//! The request as JSON: Protocol Buffers' mapping, with lower camel case, 64-bit numbers as text, and trace ids as
//! hexadecimal digits.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::super::{DecodeError, Reason};
use super::super::{LogLimits, line};
use super::protobuf::double;
use super::{Context, Export, Record};
use crate::json::{self, Edit, Scanner, SyntaxError, Tape};

/// How many keys and values of JSON write one value of a record at most: `{"key": K, "value": {"arrayValue":
/// {"values": []}}}` are nine, in the body and in the attributes, and some room for what else is in a record.
const WRITTEN_VALUES: usize = 20;
/// How deep in one another lists and objects of JSON write one value in another: `{"kvlistValue": {"values": [{"value":`.
const WRITTEN_DEPTH: usize = 4;

/// A `LogRecord` as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    time_unix_nano: Value,
    observed_time_unix_nano: Value,
    severity_number: Value,
    severity_text: String,
    body: Value,
    attributes: Vec<KeyValue>,
    trace_id: String,
    span_id: String,
    event_name: String,
}

/// A `Resource` as it is written.
#[derive(Deserialize, Default)]
#[serde(default)]
struct WrittenResource {
    attributes: Vec<KeyValue>,
}

/// An `InstrumentationScope` as it is written.
#[derive(Deserialize, Default)]
#[serde(default)]
struct WrittenScope {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct KeyValue {
    key: String,
    value: Value,
}

pub(super) fn read(body: &Bytes, export: &mut Export<'_>) -> Result<(), DecodeError> {
    let mut reader = Reader { body: body.clone(), tape: Tape::default() };
    let mut scan = Scanner::new(body, 0);
    scan.skip_space();
    let start = scan.pos;
    let ends_well = scan.skip_value().is_ok() && {
        scan.skip_space();
        scan.peek().is_none()
    };
    if !ends_well {
        return Err(export.broken(scan.pos.min(body.len()), "not JSON"));
    }
    reader.request(start, export)
}

struct Reader {
    body: Bytes,
    tape: Tape,
}

impl Reader {
    fn request(&mut self, at: usize, export: &mut Export<'_>) -> Result<(), DecodeError> {
        for resource_logs in self.elements_of(at, "resourceLogs", export)? {
            let mut context = Context::default();
            if let Some(resource) = self.member(resource_logs, "resource", export)? {
                let resource: WrittenResource = self
                    .parse(resource, export.limits)
                    .ok_or_else(|| export.broken(resource_logs, "a resource that cannot be read"))?;
                context.resource = attributes(resource.attributes);
            }
            for scope_logs in self.elements_of(resource_logs, "scopeLogs", export)? {
                let scope = self.member(scope_logs, "scope", export)?;
                context.scope = scope
                    .and_then(|scope| self.parse::<WrittenScope>(scope, export.limits))
                    .unwrap_or_default()
                    .name;
                self.records(scope_logs, &context, export)?;
            }
        }
        Ok(())
    }

    fn records(
        &mut self,
        scope_logs: usize,
        context: &Context,
        export: &mut Export<'_>,
    ) -> Result<(), DecodeError> {
        for start in self.elements_of(scope_logs, "logRecords", export)? {
            let mut scan = Scanner::new(&self.body, start);
            // it was passed over once already
            let _ = scan.skip_value();
            let range = start..scan.pos;
            match self.parse::<Written>(range.clone(), export.limits) {
                Some(written) => export.record(written.record(export.limits), context)?,
                None => export.reject(range, Reason::Protocol("not a log record within the limits"))?,
            }
        }
        Ok(())
    }

    /// A part of the request within the limits of one record; of lists with more values the rest is cut.
    fn parse<T: for<'de> Deserialize<'de>>(&mut self, range: Range<usize>, limits: &LogLimits) -> Option<T> {
        let text = String::from_utf8_lossy(self.body.get(range)?);
        let kept = without_rest(&text, limits.values);
        let written = LogLimits {
            values: limits.values.saturating_mul(WRITTEN_VALUES),
            depth: limits.depth.saturating_add(1).saturating_mul(WRITTEN_DEPTH),
            ..limits.clone()
        };
        let parsed = line::json::parse(&kept, &written, &mut self.tape)?;
        serde_json::from_str(&parsed).ok()
    }

    /// Where the member of an object stands; none if it has none of this name, or `null`.
    fn member(
        &self,
        object: usize,
        name: &str,
        export: &Export<'_>,
    ) -> Result<Option<Range<usize>>, DecodeError> {
        let mut scan = Scanner::new(&self.body, object);
        find(&mut scan, name).map_err(|_| export.broken(object, "not an object"))
    }

    /// Where the elements of the list under `name` begin.
    fn elements_of(&self, object: usize, name: &str, export: &Export<'_>) -> Result<Vec<usize>, DecodeError> {
        let Some(list) = self.member(object, name, export)? else { return Ok(Vec::new()) };
        let mut scan = Scanner::new(&self.body, list.start);
        if !scan.take(b'[') {
            return Err(export.broken(list.start, "not a list"));
        }
        let mut starts = Vec::new();
        scan.skip_space();
        if scan.peek() == Some(b']') {
            return Ok(starts);
        }
        loop {
            if starts.len() >= export.limits.records {
                return Err(DecodeError::TooManyEvents { limit: export.limits.records });
            }
            scan.skip_space();
            starts.push(scan.pos);
            let more = scan.skip_value().and_then(|()| scan.next_or(b']'));
            if !more.map_err(|_| export.broken(list.start, "not a list"))? {
                return Ok(starts);
            }
        }
    }
}

/// An object in which the lists below each member hold one element more than `values` together, so that what is cut is
/// seen where it is kept. All values of attributes and bodies, of whatever kind, are elements of lists.
fn without_rest(object: &str, values: usize) -> Cow<'_, str> {
    // an element and its comma
    const MIN_BYTES: usize = 2;
    if object.len() / MIN_BYTES <= values {
        return Cow::Borrowed(object);
    }
    match rests(object.as_bytes(), values) {
        Ok(rests) if !rests.is_empty() => {
            let edit = |range| Edit { range, replacement: String::new() };
            Cow::Owned(json::apply(object, rests.into_iter().map(edit).collect()))
        }
        // what is not JSON is refused where it is parsed
        _ => Cow::Borrowed(object),
    }
}

fn rests(object: &[u8], values: usize) -> Result<Vec<Range<usize>>, SyntaxError> {
    let mut scan = Scanner::new(object, 0);
    let (mut open, mut rests, mut taken) = (Vec::new(), Vec::new(), 0);
    while let Some(byte) = scan.peek() {
        if byte == b'"' {
            scan.string(|| ())?;
            continue;
        }
        let at = scan.pos;
        scan.pos += 1;
        let is_element = match byte {
            b'{' | b'[' => {
                open.push(byte);
                scan.skip_space();
                byte == b'[' && scan.peek() != Some(b']')
            }
            b'}' | b']' => {
                open.pop();
                false
            }
            b',' if open.len() == 1 => {
                taken = 0;
                false
            }
            b',' => open.last() == Some(&b'['),
            _ => false,
        };
        taken += usize::from(is_element);
        if is_element && taken > values.saturating_add(1) {
            let start = if byte == b',' { at } else { scan.pos };
            scan.skip_space();
            skip_elements(&mut scan)?;
            rests.push(start..scan.pos);
        }
    }
    Ok(rests)
}

/// Passes over elements up to the end of their list.
fn skip_elements(scan: &mut Scanner<'_>) -> Result<(), SyntaxError> {
    loop {
        scan.skip_value()?;
        if !scan.next_or(b']')? {
            scan.pos -= 1;
            return Ok(());
        }
    }
}

/// How many elements the lists in a value hold together.
fn elements(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len() + list.iter().map(elements).sum::<usize>(),
        Value::Object(members) => members.values().map(elements).sum(),
        _ => 0,
    }
}

/// Finds a member in the object that comes next. Names with escapes are not looked into: nobody writes them so.
fn find(scan: &mut Scanner<'_>, name: &str) -> Result<Option<Range<usize>>, SyntaxError> {
    if !scan.take(b'{') {
        return scan.error("not an object");
    }
    scan.skip_space();
    if scan.peek() == Some(b'}') {
        return Ok(None);
    }
    loop {
        scan.skip_space();
        let key = scan.pos;
        scan.string(|| {})?;
        let is_it = scan.bytes.get(key + 1..scan.pos - 1) == Some(name.as_bytes());
        scan.colon()?;
        scan.skip_space();
        let start = scan.pos;
        scan.skip_value()?;
        let is_null = scan.bytes.get(start..scan.pos) == Some(b"null");
        if is_it && !is_null {
            return Ok(Some(start..scan.pos));
        }
        if !scan.next_or(b'}')? {
            return Ok(None);
        }
    }
}

impl Written {
    fn record(self, limits: &LogLimits) -> Record {
        let id = |id: String, digits: usize| {
            let is_id = id.len() == digits && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_id { id.to_ascii_lowercase() } else { String::new() }
        };
        Record {
            time: number(&self.time_unix_nano),
            observed: number(&self.observed_time_unix_nano),
            severity: number(&self.severity_number),
            severity_text: self.severity_text,
            body_cut: elements(&self.body) > limits.values,
            body: any(self.body),
            attributes: attributes(self.attributes),
            trace_id: id(self.trace_id, 32),
            span_id: id(self.span_id, 16),
            event_name: self.event_name,
        }
    }
}

fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.parse().unwrap_or(0),
        value => value.as_u64().unwrap_or(0),
    }
}

fn attributes(pairs: Vec<KeyValue>) -> Map<String, Value> {
    pairs.into_iter().map(|KeyValue { key, value }| (key, any(value))).collect()
}

/// An `AnyValue`: an object with one member, named by its kind.
fn any(value: Value) -> Value {
    let Value::Object(mut members) = value else { return Value::Null };
    let values = |value: Option<Value>| match value {
        Some(Value::Object(mut list)) => match list.remove("values") {
            Some(Value::Array(values)) => values,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let Some(kind) = members.keys().next().cloned() else { return Value::Null };
    let value = members.remove(&kind);
    match (kind.as_str(), value) {
        ("arrayValue", value) => values(value).into_iter().map(any).collect(),
        ("kvlistValue", value) => {
            let pair = |pair: Value| serde_json::from_value::<KeyValue>(pair).unwrap_or_default();
            Value::Object(attributes(values(value).into_iter().map(pair).collect()))
        }
        ("intValue", Some(Value::String(digits))) => {
            digits.parse::<i64>().map_or(Value::String(digits), Value::from)
        }
        ("doubleValue", Some(Value::String(text))) => text.parse::<f64>().map_or(Value::String(text), double),
        ("stringValue" | "boolValue" | "intValue" | "doubleValue" | "bytesValue", Some(value)) => value,
        _ => Value::Null,
    }
}
