//! Events of a partition that the log keeps together, kept as the log keeps them: what it has compressed is not
//! compressed again. All other events are stored by tantivy, which puts small pieces together when it merges.
//!
//! Two files stand beside tantivy's: `events` has the payloads, one after the other, and `blocks` a row for each.
//! Numbers are little-endian.
//! ```text
//!  0  8  `seq` of the first event; those of the others follow
//!  8  4  number of events
//! 12  4  length of the payload
//! 16  4  length of the payload when decompressed, at most 64 MiB
//! 20  4  CRC-32C of the payload
//! 24  4  CRC-32C of bytes 0 to 24
//! ```
//! Both are synced before tantivy commits, and the commit says how many rows there are. What a crash left behind them is
//! not read, and cut off before more is written.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use watchbell_event::Envelope;
use watchbell_event::stored::{self, Packed};

use crate::IndexError;

const EVENTS: &str = "events";
const BLOCKS: &str = "blocks";
const ROW_BYTES: usize = 28;
/// Longest block that is read, in bytes before compression.
const MAX_BYTES: u32 = 64 << 20;
/// Bytes, before compression, that are worth keeping together: less compresses badly, and to show one event, all that
/// is kept with it is decompressed.
const WORTH_BYTES: RangeInclusive<usize> = 128 << 10..=2 << 20;

/// True if it is better kept as it is than taken apart.
pub(super) fn is_worth_keeping(packed: &Packed) -> bool {
    WORTH_BYTES.contains(&packed.raw_len) && packed.payload.len() <= packed.raw_len
}

/// What is kept of one partition. It may be read while more is added.
#[derive(Debug)]
pub(crate) struct Events {
    path: PathBuf,
    /// None if there are no blocks.
    file: Option<File>,
    blocks: RwLock<Vec<Block>>,
    /// The block that was read last, and its place among them: what is shown together mostly stands together.
    last: Mutex<Option<(usize, Arc<Opened>)>>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    first_seq: u64,
    count: u32,
    /// Where the payload begins.
    at: u64,
    len: u32,
    raw_len: u32,
    crc: u32,
}

/// A block, decompressed.
#[derive(Debug)]
struct Opened {
    raw: Bytes,
    /// Where the stored form of each event is.
    places: Vec<Range<usize>>,
}

impl Events {
    /// Opens the blocks that were committed.
    pub(super) fn open(dir: &Path, committed: usize) -> Result<Arc<Self>, IndexError> {
        let path = dir.join(EVENTS);
        let file = match committed {
            0 => None,
            _ => Some(File::open(&path).map_err(not_opened(&path))?),
        };
        Self::new(dir, file, committed)
    }

    fn new(dir: &Path, file: Option<File>, committed: usize) -> Result<Arc<Self>, IndexError> {
        let path = dir.join(EVENTS);
        let blocks = read_blocks(&dir.join(BLOCKS), committed)?;
        if let Some(file) = &file {
            let len = file.metadata().map_err(IndexError::io("read", &path))?.len();
            if len < end(&blocks) {
                let reason = format!("it has {len} bytes, {} were committed", end(&blocks));
                return Err(IndexError::Corrupt { path, reason });
            }
        }
        Ok(Arc::new(Self { path, file, blocks: RwLock::new(blocks), last: Mutex::default() }))
    }

    /// The event with this number, if it is kept here.
    pub(crate) fn get(&self, seq: u64) -> Result<Option<Envelope>, IndexError> {
        let Some((n, block)) = self.find(seq) else { return Ok(None) };
        let corrupt = |reason: &str| IndexError::Corrupt {
            path: self.path.clone(),
            reason: format!("block {n}, at byte {}: {reason}", block.at),
        };
        let opened = match self.last_read(n) {
            Some(opened) => opened,
            None => {
                let read = self.read(block).map_err(IndexError::io("read", &self.path))?;
                let read = Arc::new(read.ok_or_else(|| corrupt("its checksum does not match"))?);
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((n, Arc::clone(&read)));
                read
            }
        };
        let place = usize::try_from(seq - block.first_seq).ok().and_then(|nth| opened.places.get(nth));
        let stored = place.map(|place| opened.raw.slice(place.clone()));
        let envelope = stored.and_then(|stored| stored::Reader::default().read(&stored));
        envelope.map(Some).ok_or_else(|| corrupt("an event in it cannot be read"))
    }

    fn find(&self, seq: u64) -> Option<(usize, Block)> {
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        let n = blocks.partition_point(|block| block.first_seq <= seq).checked_sub(1)?;
        let block = *blocks.get(n)?;
        (seq < block.end_seq()).then_some((n, block))
    }

    fn last_read(&self, n: usize) -> Option<Arc<Opened>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(block, _)| *block == n).map(|(_, opened)| Arc::clone(opened))
    }

    /// Decompresses a block; none if it is damaged.
    fn read(&self, block: Block) -> io::Result<Option<Opened>> {
        let Some(file) = &self.file else { return Ok(None) };
        let mut payload = vec![0; block.len as usize];
        file.read_exact_at(&mut payload, block.at)?;
        if crc32c::crc32c(&payload) != block.crc {
            return Ok(None);
        }
        let raw = zstd::bulk::decompress(&payload, block.raw_len as usize)?;
        let places = stored::places(&raw).collect();
        Ok((raw.len() == block.raw_len as usize).then(|| Opened { raw: raw.into(), places }))
    }
}

/// Adds blocks to a partition. There is one at a time.
#[derive(Debug)]
pub(super) struct EventsWriter {
    events: Arc<Events>,
    payloads: File,
    rows: File,
    is_synced: bool,
}

impl EventsWriter {
    /// Goes on behind the blocks that were committed, and cuts off what stands there.
    pub(super) fn open(dir: &Path, committed: usize) -> Result<Self, IndexError> {
        let open = |name: &str| {
            let path = dir.join(name);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(committed == 0).truncate(false);
            options.open(&path).map_err(not_opened(&path))
        };
        let (payloads, rows) = (open(EVENTS)?, open(BLOCKS)?);
        let events = Events::new(dir, Some(open(EVENTS)?), committed)?;
        let end = end(&events.blocks.read().unwrap_or_else(PoisonError::into_inner));
        let cut = payloads.set_len(end).and_then(|()| rows.set_len((committed * ROW_BYTES) as u64));
        cut.map_err(IndexError::io("cut off what is not committed of", &events.path))?;
        super::sync_dir(dir)?;
        Ok(Self { events, payloads, rows, is_synced: false })
    }

    /// For searches.
    pub(super) fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> usize {
        self.events.blocks.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Keeps the events that have the numbers from `first_seq` on. They are not durable before [`Self::sync`].
    pub(super) fn add(&mut self, first_seq: u64, count: usize, packed: &Packed) -> Result<(), IndexError> {
        self.write(first_seq, count, packed).map_err(IndexError::io("write", &self.events.path))
    }

    fn write(&mut self, first_seq: u64, count: usize, packed: &Packed) -> io::Result<()> {
        // not held while the disk is waited for: searches need it
        let (n, at) = {
            let blocks = self.events.blocks.read().unwrap_or_else(PoisonError::into_inner);
            (blocks.len(), end(&blocks))
        };
        let number = |n: usize| u32::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
        let block = Block {
            first_seq,
            count: number(count)?,
            at,
            len: number(packed.payload.len())?,
            raw_len: number(packed.raw_len)?,
            crc: crc32c::crc32c(&packed.payload),
        };
        self.is_synced = false;
        self.payloads.write_all_at(&packed.payload, at)?;
        self.rows.write_all_at(&block.row(), (n * ROW_BYTES) as u64)?;
        self.events.blocks.write().unwrap_or_else(PoisonError::into_inner).push(block);
        Ok(())
    }

    /// Makes durable what was added.
    pub(super) fn sync(&mut self) -> Result<(), IndexError> {
        if !self.is_synced {
            let synced = self.payloads.sync_data().and_then(|()| self.rows.sync_data());
            synced.map_err(IndexError::io("sync", &self.events.path))?;
            self.is_synced = true;
        }
        Ok(())
    }
}

impl Block {
    fn end_seq(self) -> u64 {
        self.first_seq.saturating_add(u64::from(self.count))
    }

    fn row(self) -> [u8; ROW_BYTES] {
        let mut row = [0; ROW_BYTES];
        row[..8].copy_from_slice(&self.first_seq.to_le_bytes());
        for (n, number) in [self.count, self.len, self.raw_len, self.crc].into_iter().enumerate() {
            row[8 + 4 * n..12 + 4 * n].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&row[..24]);
        row[24..].copy_from_slice(&crc.to_le_bytes());
        row
    }

    /// The block that follows on `before`. None if the row is damaged.
    fn parse(row: &[u8; ROW_BYTES], before: Option<Self>) -> Option<Self> {
        let u32_at = |at: usize| row.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let block = Self {
            first_seq: row.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))?,
            count: u32_at(8)?,
            at: before.map_or(0, Self::end),
            len: u32_at(12)?,
            raw_len: u32_at(16)?,
            crc: u32_at(20)?,
        };
        // writing it again checks the checksum, too
        let is_sound = block.row() == *row
            && block.len <= block.raw_len
            && block.raw_len <= MAX_BYTES
            && block.first_seq >= before.map_or(0, Self::end_seq);
        is_sound.then_some(block)
    }

    /// Where the payload ends.
    fn end(self) -> u64 {
        self.at + u64::from(self.len)
    }
}

/// Why a file could not be opened that was there when something was committed to it.
fn not_opened(path: &Path) -> impl FnOnce(io::Error) -> IndexError {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::NotFound => IndexError::Corrupt { path, reason: "it is missing".to_owned() },
        _ => IndexError::io("open", &path)(error),
    }
}

/// Where the last payload ends.
fn end(blocks: &[Block]) -> u64 {
    blocks.last().map_or(0, |last| last.end())
}

/// The first `count` rows of a partition.
fn read_blocks(path: &Path, count: usize) -> Result<Vec<Block>, IndexError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let corrupt = |reason: String| IndexError::Corrupt { path: path.to_owned(), reason };
    let file = File::open(path).map_err(not_opened(path))?;
    let mut bytes = Vec::new();
    let read = file.take((count as u64).saturating_mul(ROW_BYTES as u64)).read_to_end(&mut bytes);
    read.map_err(IndexError::io("read", path))?;
    let (rows, _) = bytes.as_chunks::<ROW_BYTES>();
    let rows = rows.get(..count);
    let rows =
        rows.ok_or_else(|| corrupt(format!("it has less than the {count} rows that were committed")))?;
    let mut blocks: Vec<Block> = Vec::with_capacity(rows.len());
    for (n, row) in rows.iter().enumerate() {
        let block = Block::parse(row, blocks.last().copied());
        blocks.push(block.ok_or_else(|| corrupt(format!("row {n} is damaged")))?);
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::testing::{packed, record};

    const BLOCKS_OF: u64 = 40;

    fn events(block: u64) -> Vec<watchbell_event::Record> {
        let padding = "x".repeat(4_000);
        let event = |n: u64| record(n, 0, &format!(r#"{{"n":{n},"padding":"{padding}"}}"#));
        (block * BLOCKS_OF..(block + 1) * BLOCKS_OF).map(event).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Whatever happens to a byte of the files, an event is read as it was, or not at all.
        #[test]
        fn damage_makes_no_event_another(of_rows: bool, at: prop::sample::Index, bits in 1_u8..) {
            let dir = TempDir::new().unwrap();
            let mut writer = EventsWriter::open(dir.path(), 0).unwrap();
            for block in 0..3 {
                let records = events(block);
                prop_assert!(is_worth_keeping(&packed(&records)));
                // numbers that are not used lie between the blocks
                writer.add(block * 100, records.len(), &packed(&records)).unwrap();
            }
            writer.sync().unwrap();
            let path = dir.path().join(if of_rows { BLOCKS } else { EVENTS });
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            std::fs::write(&path, bytes).unwrap();
            let Ok(opened) = Events::open(dir.path(), 3) else {
                prop_assert!(of_rows);
                return Ok(());
            };
            let mut unreadable = 0;
            for block in 0..3 {
                prop_assert!(opened.get(block * 100 + BLOCKS_OF).unwrap().is_none());
                match opened.get(block * 100 + 7) {
                    Ok(event) => prop_assert_eq!(event.as_ref(), Some(&events(block)[7].envelope)),
                    Err(_) => unreadable += 1,
                }
            }
            prop_assert_eq!(unreadable, 1);
        }
    }
}
