//! One frame: the records of one group of appends. The layout stands in [`super`].

use bytes::Bytes;
use watchbell_event::stored::{self, Packed};
use watchbell_event::{Envelope, EventId, Position, Record, Timestamp};

use super::merkle::{self, Hash};

/// Length of a header.
pub(crate) const HEADER_BYTES: usize = 128;
/// Length of one row of the table of ids.
pub(crate) const ROW_BYTES: usize = 24;
/// Longest table and payload, compressed and not. Longer claims are not believed.
pub(crate) const MAX_BODY_BYTES: usize = 256 << 20;
/// The journal's only partition.
pub(crate) const PARTITION: u32 = 0;
const MAGIC: [u8; 4] = *b"WBJ1";
const ZSTD_LEVEL: i32 = 1;

/// Random bytes chosen when a journal is made. They tell its frames from anything that an event might hold.
pub(crate) type Marker = [u8; 8];

/// How every header of this journal begins.
pub(crate) fn needle(marker: Marker) -> [u8; 12] {
    let mut needle = [0; 12];
    needle[..4].copy_from_slice(&MAGIC);
    needle[4..].copy_from_slice(&marker);
    needle
}

/// What a frame says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) marker: Marker,
    /// Offset of the first record.
    pub(crate) first: u64,
    /// Number of records, at least 1.
    pub(crate) count: u32,
    payload_len: u32,
    raw_len: u32,
    table_crc: u32,
    payload_crc: u32,
    /// Latest `received_at` of its records.
    pub(crate) newest: Timestamp,
    /// Latest `event_time` of its records.
    pub(crate) latest_event: Timestamp,
    /// Hash of the frame before; zeros in a journal's first.
    pub(crate) previous: Hash,
    /// Merkle root over the stored envelopes.
    pub(crate) root: Hash,
}

impl Header {
    /// Offset after the last record.
    pub(crate) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    pub(crate) fn table_len(&self) -> usize {
        self.count as usize * ROW_BYTES
    }

    pub(crate) fn body_len(&self) -> usize {
        self.table_len() + self.payload_len as usize
    }

    /// Length of the whole frame.
    pub(crate) fn frame_len(&self) -> u64 {
        (HEADER_BYTES + self.body_len()) as u64
    }

    /// The hash that the next frame carries as `previous`. It covers everything: the header holds the
    /// Merkle root over all events.
    pub(crate) fn hash(&self) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"watchbell journal frame 1\0").update(&self.to_bytes());
        hasher.finalize().into()
    }

    fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &needle(self.marker));
        put(16, &self.first.to_le_bytes());
        put(24, &self.count.to_le_bytes());
        put(28, &self.payload_len.to_le_bytes());
        put(32, &self.raw_len.to_le_bytes());
        put(36, &self.table_crc.to_le_bytes());
        put(40, &self.payload_crc.to_le_bytes());
        put(48, &self.newest.as_micros().to_le_bytes());
        put(56, &self.previous);
        put(88, &self.root);
        put(120, &self.latest_event.as_micros().to_le_bytes());
        let crc = crc32c::crc32c(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header; none unless it is one, down to the last bit. `marker`, if known, must be its own.
    pub(crate) fn parse(bytes: &[u8], marker: Option<Marker>) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let u32_at = |at: usize| field(bytes, at).map(u32::from_le_bytes);
        let header = Self {
            marker: field(bytes, 4)?,
            first: field(bytes, 16).map(u64::from_le_bytes)?,
            count: u32_at(24)?,
            payload_len: u32_at(28)?,
            raw_len: u32_at(32)?,
            table_crc: u32_at(36)?,
            payload_crc: u32_at(40)?,
            newest: Timestamp::from_micros(field(bytes, 48).map(i64::from_le_bytes)?),
            latest_event: Timestamp::from_micros(field(bytes, 120).map(i64::from_le_bytes)?),
            previous: field(bytes, 56)?,
            root: field(bytes, 88)?,
        };
        let known = marker.is_none_or(|marker| marker == header.marker);
        let sane = header.count > 0
            && header.first.checked_add(u64::from(header.count)).is_some()
            && header.body_len() <= MAX_BODY_BYTES
            && header.raw_len as usize <= MAX_BODY_BYTES;
        // writing it again checks magic, checksum and the unused bytes at once
        (known && sane && header.to_bytes() == *bytes).then_some(header)
    }

    /// True if `table` is the table this header belongs to.
    pub(crate) fn matches_table(&self, table: &[u8]) -> bool {
        table.len() == self.table_len() && crc32c::crc32c(table) == self.table_crc
    }

    /// True if `body` is the table and payload this header belongs to.
    pub(crate) fn matches(&self, body: &[u8]) -> bool {
        let (table, payload) = body.split_at_checked(self.table_len()).unwrap_or_default();
        self.matches_table(table)
            && payload.len() == self.payload_len as usize
            && crc32c::crc32c(payload) == self.payload_crc
    }

    /// The payload of a body that [`Self::matches`].
    pub(crate) fn packed(&self, body: &Bytes) -> Packed {
        Packed { payload: body.slice(self.table_len()..), raw_len: self.raw_len as usize }
    }

    /// The decompressed payload of a body that [`Self::matches`]. None if it does not decompress to what
    /// the header says.
    pub(crate) fn decompress(&self, body: &[u8]) -> Option<Bytes> {
        let payload = body.get(self.table_len()..)?;
        let raw = zstd::bulk::decompress(payload, self.raw_len as usize).ok()?;
        (raw.len() == self.raw_len as usize).then(|| raw.into())
    }
}

/// The ids and arrival times in a table.
pub(crate) fn rows(table: &[u8]) -> impl Iterator<Item = (EventId, Timestamp)> + '_ {
    table.chunks_exact(ROW_BYTES).filter_map(|row| {
        Some((EventId(field(row, 0)?), Timestamp::from_micros(field(row, 16).map(i64::from_le_bytes)?)))
    })
}

/// The records of a decompressed payload whose offsets are at least `from`. None if one cannot be read.
pub(crate) fn records(first: u64, count: u32, raw: &Bytes, from: u64) -> Option<Vec<Record>> {
    let mut reader = stored::Reader::default();
    let mut records = Vec::new();
    let mut read = 0;
    for (offset, stored) in (first..).zip(stored::envelopes(raw)) {
        read += 1;
        if offset >= from {
            let position = Position { partition: PARTITION, offset };
            records.push(Record { position, envelope: reader.read(&stored)? });
        }
    }
    (read == count).then_some(records)
}

/// Compresses payloads, one after the other.
pub(crate) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    /// # Errors
    /// If there is no memory for it.
    pub(crate) fn new() -> std::io::Result<Self> {
        zstd::bulk::Compressor::new(ZSTD_LEVEL).map(Self)
    }
}

/// Records of one append, brought into the form in which frames hold them.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) raw: Vec<u8>,
    table: Vec<u8>,
    leaves: Vec<Hash>,
    newest: Timestamp,
    latest_event: Timestamp,
}

impl Encoded {
    pub(crate) fn new(envelopes: &[Envelope]) -> Self {
        let earliest = Timestamp::from_micros(i64::MIN);
        let mut encoded = Self { newest: earliest, latest_event: earliest, ..Self::default() };
        encoded.raw.reserve(envelopes.iter().map(|envelope| size(envelope) + 4).sum());
        for envelope in envelopes {
            let place = stored::write_with_length(envelope, &mut encoded.raw);
            encoded.leaves.push(merkle::leaf(&encoded.raw[place]));
            encoded.table.extend_from_slice(&envelope.id.0);
            encoded.table.extend_from_slice(&envelope.received_at.as_micros().to_le_bytes());
            encoded.newest = encoded.newest.max(envelope.received_at);
            encoded.latest_event = encoded.latest_event.max(envelope.event_time);
        }
        encoded
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.leaves.len()).unwrap_or(u32::MAX)
    }

    /// Adds the records of a later append.
    pub(crate) fn append(&mut self, other: Self) {
        if self.leaves.is_empty() {
            *self = other;
            return;
        }
        self.raw.extend_from_slice(&other.raw);
        self.table.extend_from_slice(&other.table);
        self.leaves.extend_from_slice(&other.leaves);
        self.newest = self.newest.max(other.newest);
        self.latest_event = self.latest_event.max(other.latest_event);
    }

    /// The header and all bytes of a frame with these records. `previous` is the hash of the frame before.
    pub(crate) fn frame(
        &self,
        compressor: &mut Compressor,
        marker: Marker,
        first: u64,
        previous: Hash,
    ) -> std::io::Result<(Header, Vec<u8>)> {
        let payload = compressor.0.compress(&self.raw)?;
        let too_long = |_| std::io::Error::from(std::io::ErrorKind::FileTooLarge);
        let header = Header {
            marker,
            first,
            count: self.count(),
            payload_len: u32::try_from(payload.len()).map_err(too_long)?,
            raw_len: u32::try_from(self.raw.len()).map_err(too_long)?,
            table_crc: crc32c::crc32c(&self.table),
            payload_crc: crc32c::crc32c(&payload),
            newest: self.newest,
            latest_event: self.latest_event,
            previous,
            root: merkle::root(&self.leaves),
        };
        Ok((header.clone(), [&header.to_bytes()[..], &self.table, &payload].concat()))
    }
}

/// Bytes that an envelope takes in a frame before compression, at most.
pub(crate) fn size(envelope: &Envelope) -> usize {
    stored::OVERHEAD_BYTES + envelope.source.len() + envelope.cluster.len() + envelope.bytes.len()
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
