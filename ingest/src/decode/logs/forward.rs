//! The forward protocol of Fluentd and Fluent Bit: records with their times under a tag, in MessagePack.
//! <https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>
//!
//! All four modes hold the same, entries of a time and a record. What a sender wants acknowledged has a chunk id.

mod handshake;
mod msgpack;

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};
use watchbell_event::Timestamp;

pub use handshake::{Ping, ack, helo, pong};

use self::msgpack::{Head, Open, Reader, Stop};
use super::super::{Compression, DecodeError, Decoded, Origin, Place, Reason, Rejected};
use super::{LogDecoder, LogLimits, LogRecord, Sequence, time};
use crate::redact::Redactor;

const MALFORMED: &str = "not an entry of a time and a record";

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// The bytes are something else.
    #[error("not a message of the forward protocol")]
    Malformed,
    /// A message is larger than allowed.
    #[error("a message of more than {max_bytes} bytes")]
    TooLong {
        /// Bytes of one message.
        max_bytes: usize,
    },
    /// Neither none nor a known one.
    #[error("a message in a compression other than gzip and zstd")]
    Compression,
}

/// Takes messages out of a stream.
#[derive(Debug)]
pub struct ForwardFrames {
    max_bytes: usize,
    /// How far the message at the start of the buffer was read.
    read: usize,
    open: Open,
}

impl ForwardFrames {
    /// For messages of at most `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, read: 0, open: Open::default() }
    }

    /// Takes the next whole message out of the buffer.
    ///
    /// # Errors
    /// If no message can follow.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, ForwardError> {
        let mut reader = Reader { bytes: buffer, pos: self.read };
        let advanced = self.open.advance(&mut reader);
        self.read = reader.pos;
        // what can never fit is not waited for
        let is_too_long = advanced == Err(Stop::Short) && self.open.earliest_end(&reader) > self.max_bytes;
        let too_long = ForwardError::TooLong { max_bytes: self.max_bytes };
        match advanced {
            Ok(()) if self.read > self.max_bytes => Err(too_long),
            Ok(()) => Ok(Some(buffer.split_to(std::mem::take(&mut self.read)).freeze())),
            Err(Stop::Short) if is_too_long || buffer.len() > self.max_bytes => Err(too_long),
            Err(Stop::Short) => Ok(None),
            Err(Stop::Malformed) => Err(ForwardError::Malformed),
        }
    }
}

/// A message, whose entries are not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardMessage {
    /// What its records are about.
    pub tag: String,
    /// One entry after another.
    pub entries: Bytes,
    /// How they are written.
    pub form: EntriesForm,
    /// How the entries are compressed, if they are.
    pub compression: Option<Compression>,
    /// What is to be acknowledged.
    pub chunk: Option<Vec<u8>>,
}

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntriesForm {
    /// Arrays of two, one after another.
    Arrays,
    /// Times and records by turns.
    Bare,
}

impl ForwardMessage {
    /// Reads one whole message.
    ///
    /// # Errors
    /// If it is none, or compressed in an unknown way.
    pub fn parse(message: &Bytes) -> Result<Self, ForwardError> {
        Self::read(message).map_err(|_| ForwardError::Malformed)?
    }

    /// Whether `next` can be stored together with this, its entries behind these: single ones under one tag, of which
    /// nobody wants to know when they are stored.
    #[must_use]
    pub fn goes_with(&self, next: &Self) -> bool {
        let is_single = |message: &Self| {
            message.form == EntriesForm::Bare && message.compression.is_none() && message.chunk.is_none()
        };
        is_single(self) && is_single(next) && self.tag == next.tag
    }

    fn read(message: &Bytes) -> Result<Result<Self, ForwardError>, Stop> {
        let mut reader = Reader::new(message);
        let Head::Array(count @ 2..=4) = reader.head()? else { return Err(Stop::Malformed) };
        let tag = msgpack::lossy(reader.text()?.ok_or(Stop::Malformed)?);
        let start = reader.pos;
        let (form, range, elements) = match reader.head()? {
            Head::Array(_) => {
                let inner = reader.pos;
                reader.pos = start;
                reader.skip()?;
                (EntriesForm::Arrays, inner..reader.pos, 2)
            }
            Head::Text(length) | Head::Binary(length) => {
                reader.take(length)?;
                (EntriesForm::Arrays, reader.pos - length..reader.pos, 2)
            }
            _ => {
                reader.pos = start;
                reader.skip()?;
                reader.skip()?;
                (EntriesForm::Bare, start..reader.pos, 3)
            }
        };
        let entries = message.slice(range);
        let mut message = Self { tag, entries, form, compression: None, chunk: None };
        let options = if count > elements { message.options(&mut reader)? } else { Ok(()) };
        Ok(options.map(|()| message))
    }

    fn options(&mut self, reader: &mut Reader<'_>) -> Result<Result<(), ForwardError>, Stop> {
        let Head::Map(count) = reader.head()? else { return Ok(Ok(())) };
        for _ in 0..count {
            match reader.text()? {
                Some(b"chunk") => self.chunk = reader.text()?.map(<[u8]>::to_vec),
                Some(b"compressed") => match reader.text()? {
                    Some(b"gzip") => self.compression = Some(Compression::Gzip),
                    Some(b"zstd") => self.compression = Some(Compression::Zstd),
                    Some(b"text") | None => {}
                    Some(_) => return Ok(Err(ForwardError::Compression)),
                },
                _ => reader.skip()?,
            }
        }
        Ok(Ok(()))
    }
}

/// Reads all entries, which `delivery` numbers in their order. The tag stands beside each record.
///
/// # Errors
/// If there are more than allowed. What is no entry is in [`Decoded::rejected`].
pub fn decode_forward(
    entries: &Bytes,
    (tag, form): (&str, EntriesForm),
    origin: &Origin,
    delivery: &Sequence,
    limits: &LogLimits,
    redactor: &Redactor,
) -> Result<Decoded, DecodeError> {
    let mut decoder = LogDecoder::new(origin, limits, redactor);
    let mut decoded = Decoded::default();
    let mut reader = Reader::new(entries);
    let mut number = 0;
    while !reader.is_at_end() {
        if number >= limits.records {
            return Err(DecodeError::TooManyEvents { limit: limits.records });
        }
        let start = reader.pos;
        let read = match form {
            EntriesForm::Arrays => array_entry(&mut reader, limits),
            EntriesForm::Bare => entry(&mut reader, limits),
        };
        if let Ok(Some(Entry { time, mut members, cut })) = read {
            members.entry("tag").or_insert_with(|| tag.into());
            let mut record = LogRecord::from_members(members, delivery.id(number as u64));
            record.time = record.time.or(time);
            record.cut = cut;
            decoded.envelopes.push(decoder.decode(record));
        } else {
            reader.pos = start;
            let skipped =
                reader.skip().and_then(|()| if form == EntriesForm::Bare { reader.skip() } else { Ok(()) });
            if skipped.is_err() {
                // no entry can be found behind this one
                reader.pos = entries.len();
            }
            let place = Place { event: number, offset: start };
            let (reason, bytes) = (Reason::Protocol(MALFORMED), entries.slice(start..reader.pos));
            decoded.rejected.push(Rejected { cluster: None, place, reason, repaired: false, bytes });
        }
        number += 1;
    }
    Ok(decoded)
}

struct Entry {
    time: Option<Timestamp>,
    members: Map<String, Value>,
    /// True if the record has more values than allowed.
    cut: bool,
}

fn array_entry(reader: &mut Reader<'_>, limits: &LogLimits) -> Result<Option<Entry>, Stop> {
    match reader.head()? {
        Head::Array(2) => entry(reader, limits),
        _ => Ok(None),
    }
}

/// A time, or a pair of it and metadata, and a record.
fn entry(reader: &mut Reader<'_>, limits: &LogLimits) -> Result<Option<Entry>, Stop> {
    let start = reader.pos;
    let time = match reader.head()? {
        Head::Array(2) => {
            let time = event_time(reader)?;
            reader.skip()?;
            time
        }
        _ => {
            reader.pos = start;
            event_time(reader)?
        }
    };
    let Head::Map(count) = reader.head()? else { return Ok(None) };
    let mut room = limits.values.saturating_add(1);
    let members = reader.members(count, &mut room, limits.depth)?;
    Ok(Some(Entry { time, members, cut: room == 0 }))
}

/// Seconds since 1970, or these and nanoseconds in an extension of type 0.
fn event_time(reader: &mut Reader<'_>) -> Result<Option<Timestamp>, Stop> {
    let start = reader.pos;
    Ok(match reader.head()? {
        Head::Unsigned(seconds) => i64::try_from(seconds).ok().and_then(of_seconds),
        Head::Signed(seconds) => of_seconds(seconds),
        Head::Float(seconds) => time::epoch(seconds),
        Head::Extension(0, 8) => {
            let time = reader.take(8)?;
            let part = |range: Range<usize>| {
                time.get(range).and_then(|part| part.try_into().ok()).map_or(0, u32::from_be_bytes)
            };
            let micros = i64::from(part(0..4)) * 1_000_000 + i64::from(part(4..8)) / 1_000;
            Some(Timestamp::from_micros(micros))
        }
        _ => {
            reader.pos = start;
            reader.skip()?;
            None
        }
    })
}

fn of_seconds(seconds: i64) -> Option<Timestamp> {
    seconds.checked_mul(1_000_000).map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests;
