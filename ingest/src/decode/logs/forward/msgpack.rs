//! MessagePack, as much as log agents write. <https://github.com/msgpack/msgpack/blob/master/spec.md>
//!
//! Read by hand, because readers that give whole values first believe what a value says of its own size: an array
//! of a million nils is a megabyte, and thirty-two of them in memory.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

const TOO_DEEP: &str = "cut by watchbell: nested too deeply";

/// The first byte of a value with what it says of the rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Head {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// Bytes that follow.
    Text(usize),
    Binary(usize),
    /// Values that follow.
    Array(usize),
    /// Pairs of values that follow.
    Map(usize),
    /// Type, and bytes that follow.
    Extension(i8, usize),
}

/// Why nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The value goes on behind the end.
    Short,
    /// No value begins like this.
    Malformed,
}

/// Reads values one after another.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) pos: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.pos >= self.bytes.len()
    }

    /// The head of the next value.
    pub(super) fn head(&mut self) -> Result<Head, Stop> {
        let [first] = self.fixed()?;
        let low = |bits: u8| usize::from(first & bits);
        Ok(match first {
            0x00..=0x7f => Head::Unsigned(first.into()),
            0x80..=0x8f => Head::Map(low(0x0f)),
            0x90..=0x9f => Head::Array(low(0x0f)),
            0xa0..=0xbf => Head::Text(low(0x1f)),
            0xc0 => Head::Nil,
            0xc1 => return Err(Stop::Malformed),
            0xc2 | 0xc3 => Head::Bool(first == 0xc3),
            0xc4 => Head::Binary(self.length8()?),
            0xc5 => Head::Binary(self.length16()?),
            0xc6 => Head::Binary(self.length32()?),
            0xc7 => self.extension(Self::length8)?,
            0xc8 => self.extension(Self::length16)?,
            0xc9 => self.extension(Self::length32)?,
            0xca => Head::Float(f32::from_be_bytes(self.fixed()?).into()),
            0xcb => Head::Float(f64::from_be_bytes(self.fixed()?)),
            0xcc => Head::Unsigned(u8::from_be_bytes(self.fixed()?).into()),
            0xcd => Head::Unsigned(u16::from_be_bytes(self.fixed()?).into()),
            0xce => Head::Unsigned(u32::from_be_bytes(self.fixed()?).into()),
            0xcf => Head::Unsigned(u64::from_be_bytes(self.fixed()?)),
            0xd0 => Head::Signed(i8::from_be_bytes(self.fixed()?).into()),
            0xd1 => Head::Signed(i16::from_be_bytes(self.fixed()?).into()),
            0xd2 => Head::Signed(i32::from_be_bytes(self.fixed()?).into()),
            0xd3 => Head::Signed(i64::from_be_bytes(self.fixed()?)),
            0xd4..=0xd8 => self.extension(|_| Ok(1 << (first - 0xd4)))?,
            0xd9 => Head::Text(self.length8()?),
            0xda => Head::Text(self.length16()?),
            0xdb => Head::Text(self.length32()?),
            0xdc => Head::Array(self.length16()?),
            0xdd => Head::Array(self.length32()?),
            0xde => Head::Map(self.length16()?),
            0xdf => Head::Map(self.length32()?),
            0xe0..=0xff => Head::Signed(first.cast_signed().into()),
        })
    }

    /// The bytes that a head announced.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let end = self.pos.checked_add(length).ok_or(Stop::Malformed)?;
        let taken = self.bytes.get(self.pos..end).ok_or(Stop::Short)?;
        self.pos = end;
        Ok(taken)
    }

    /// Passes over the next value.
    pub(super) fn skip(&mut self) -> Result<(), Stop> {
        let mut open = Open::default();
        open.advance(self)
    }

    /// The text or the bytes that come next; none, and passed over, if it is something else.
    pub(super) fn text(&mut self) -> Result<Option<&'a [u8]>, Stop> {
        let start = self.pos;
        match self.head()? {
            Head::Text(length) | Head::Binary(length) => self.take(length).map(Some),
            _ => {
                self.pos = start;
                self.skip().map(|()| None)
            }
        }
    }

    /// The next value; of more than `room` values, and of what is deeper than `depth`, the rest is passed over.
    pub(super) fn value(&mut self, room: &mut usize, depth: usize) -> Result<Value, Stop> {
        *room = room.saturating_sub(1);
        let start = self.pos;
        Ok(match self.head()? {
            Head::Nil => Value::Null,
            Head::Bool(flag) => flag.into(),
            Head::Unsigned(number) => number.into(),
            Head::Signed(number) => number.into(),
            Head::Float(number) => {
                serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
            }
            Head::Text(length) | Head::Binary(length) => lossy(self.take(length)?).into(),
            Head::Extension(_, length) => STANDARD.encode(self.take(length)?).into(),
            Head::Array(_) | Head::Map(_) if depth == 0 => {
                self.pos = start;
                self.skip()?;
                TOO_DEEP.into()
            }
            Head::Array(count) => self.array(count, room, depth - 1)?,
            Head::Map(count) => Value::Object(self.members(count, room, depth - 1)?),
        })
    }

    fn array(&mut self, count: usize, room: &mut usize, depth: usize) -> Result<Value, Stop> {
        let mut elements = Vec::new();
        for _ in 0..count {
            if *room == 0 {
                self.skip()?;
            } else {
                elements.push(self.value(room, depth)?);
            }
        }
        Ok(Value::Array(elements))
    }

    /// The members of a map; a key that is no text is written as one.
    pub(super) fn members(
        &mut self,
        count: usize,
        room: &mut usize,
        depth: usize,
    ) -> Result<Map<String, Value>, Stop> {
        let mut members = Map::new();
        for _ in 0..count {
            if *room == 0 {
                self.skip()?;
                self.skip()?;
                continue;
            }
            let key = match self.value(room, 0)? {
                Value::String(key) => key,
                other => other.to_string(),
            };
            members.insert(key, self.value(room, depth)?);
        }
        Ok(members)
    }

    fn extension(&mut self, length: impl Fn(&mut Self) -> Result<usize, Stop>) -> Result<Head, Stop> {
        let length = length(self)?;
        Ok(Head::Extension(i8::from_be_bytes(self.fixed()?), length))
    }

    fn length8(&mut self) -> Result<usize, Stop> {
        Ok(u8::from_be_bytes(self.fixed()?).into())
    }

    fn length16(&mut self) -> Result<usize, Stop> {
        Ok(u16::from_be_bytes(self.fixed()?).into())
    }

    fn length32(&mut self) -> Result<usize, Stop> {
        usize::try_from(u32::from_be_bytes(self.fixed()?)).map_err(|_| Stop::Malformed)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        self.take(N)?.try_into().map_err(|_| Stop::Short)
    }
}

/// A value that is being passed over, perhaps in several steps as its bytes arrive.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Values still to come; none before the first.
    values: Option<u64>,
}

impl Open {
    /// Passes over what there is. After `Short` the reader stands where it has to go on.
    pub(super) fn advance(&mut self, reader: &mut Reader<'_>) -> Result<(), Stop> {
        let mut values = self.values.unwrap_or(1);
        let stopped = loop {
            if values == 0 {
                break Ok(());
            }
            let start = reader.pos;
            let inner = match one(reader) {
                Ok(inner) => inner,
                Err(stop) => {
                    reader.pos = start;
                    break Err(stop);
                }
            };
            values = (values - 1).saturating_add(inner);
        };
        self.values = stopped.is_err().then_some(values);
        stopped
    }

    /// Where the value ends at the earliest, by what was announced so far: a value takes a byte at least.
    pub(super) fn earliest_end(&self, reader: &Reader<'_>) -> usize {
        let values = usize::try_from(self.values.unwrap_or(1)).unwrap_or(usize::MAX);
        let announced = match reader.clone().head() {
            Ok(Head::Text(length) | Head::Binary(length) | Head::Extension(_, length)) => length,
            _ => 0,
        };
        reader.pos.saturating_add(values).saturating_add(announced)
    }
}

/// Passes over one value but for those within it, and says how many these are.
fn one(reader: &mut Reader<'_>) -> Result<u64, Stop> {
    let (length, inner) = match reader.head()? {
        Head::Text(length) | Head::Binary(length) | Head::Extension(_, length) => (length, 0),
        Head::Array(count) => (0, count as u64),
        Head::Map(count) => (0, count as u64 * 2),
        Head::Nil | Head::Bool(_) | Head::Unsigned(_) | Head::Signed(_) | Head::Float(_) => (0, 0),
    };
    reader.take(length)?;
    Ok(inner)
}

pub(super) fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Writes the head of an array of fewer than sixteen values.
pub(super) fn write_array(count: u8, out: &mut Vec<u8>) {
    out.push(0x90 | count & 0x0f);
}

/// Writes the head of a map of fewer than sixteen members.
pub(super) fn write_map(count: u8, out: &mut Vec<u8>) {
    out.push(0x80 | count & 0x0f);
}

pub(super) fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(0xdb);
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text);
}

pub(super) fn write_bool(flag: bool, out: &mut Vec<u8>) {
    out.push(if flag { 0xc3 } else { 0xc2 });
}
