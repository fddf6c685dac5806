//! Events of a partition that the log keeps together, kept as the log keeps them: what it has compressed is not
//! compressed again. All other events are stored by tantivy, which puts small pieces together when it merges.
//!
//! Two files stand beside tantivy's: `events` has the payloads, one after the other, and `blocks` a row for each.
//! Numbers are little-endian.
//! ```text
//!  0  8  `seq` of the first event; those of the others follow
//!  8  4  number of events
//! 12  4  length of the payload
//! 16  4  length of the payload when decompressed
//! 20  4  CRC-32C of the payload
//! 24  4  CRC-32C of bytes 0 to 24
//! ```
//! Both are synced before tantivy commits, and the commit says how many rows there are; what a crash left behind them
//! is cut off.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
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
/// Bytes, before compression, that are worth keeping together: less compresses badly, and to show one event, all that
/// is kept with it is decompressed.
const BLOCK_BYTES: RangeInclusive<usize> = 128 << 10..=2 << 20;
/// How many blocks stay decompressed. What is shown together mostly stands together.
const CACHED_BLOCKS: usize = 2;

/// The events of one partition. Whoever reads them may do so while more are added.
#[derive(Debug)]
pub(crate) struct Events {
    path: PathBuf,
    files: Option<Files>,
    blocks: RwLock<Vec<Block>>,
    /// Decompressed, by their place among the blocks; the one used last is the last.
    cache: Mutex<VecDeque<(usize, Bytes)>>,
}

#[derive(Debug)]
struct Files {
    events: File,
    blocks: File,
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

/// True if it is better kept as it is than taken apart.
pub(super) fn is_worth_keeping(packed: &Packed) -> bool {
    BLOCK_BYTES.contains(&packed.raw_len)
}

impl Events {
    /// Opens what a partition has. One that was made before there were blocks has none.
    pub(super) fn open(dir: &Path) -> Result<Arc<Self>, IndexError> {
        let open = |name| File::open(dir.join(name));
        match open(BLOCKS) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::new(dir, None, Vec::new())),
            blocks => {
                let failed = || IndexError::io("open", dir);
                let files =
                    Files { events: open(EVENTS).map_err(failed())?, blocks: blocks.map_err(failed())? };
                let blocks = read_blocks(&dir.join(BLOCKS), None)?;
                Ok(Self::new(dir, Some(files), blocks))
            }
        }
    }

    /// Opens them for writing; what stands behind the first `committed` blocks is cut off.
    pub(super) fn open_to_write(dir: &Path, committed: usize) -> Result<Arc<Self>, IndexError> {
        let failed = || IndexError::io("open", dir);
        let open = |name| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(name))
        };
        let files =
            Files { events: open(EVENTS).map_err(failed())?, blocks: open(BLOCKS).map_err(failed())? };
        let blocks = read_blocks(&dir.join(BLOCKS), Some(committed))?;
        files.cut(&blocks).map_err(IndexError::io("cut off what is not committed of", dir))?;
        super::sync_dir(dir)?;
        Ok(Self::new(dir, Some(files), blocks))
    }

    fn new(dir: &Path, files: Option<Files>, blocks: Vec<Block>) -> Arc<Self> {
        Arc::new(Self { path: dir.join(EVENTS), files, blocks: RwLock::new(blocks), cache: Mutex::default() })
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Adds the events that have the numbers from `first_seq` on. They are not durable before [`Self::sync`].
    pub(super) fn append(&self, first_seq: u64, count: usize, packed: &Packed) -> Result<(), IndexError> {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        self.write(&mut blocks, first_seq, count, packed).map_err(IndexError::io("write", &self.path))
    }

    fn write(
        &self,
        blocks: &mut Vec<Block>,
        first_seq: u64,
        count: usize,
        packed: &Packed,
    ) -> io::Result<()> {
        let Some(files) = &self.files else { return Err(io::ErrorKind::ReadOnlyFilesystem.into()) };
        let number = |n: usize| u32::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
        let block = Block {
            first_seq,
            count: number(count)?,
            at: blocks.last().map_or(0, |last| last.at + u64::from(last.len)),
            len: number(packed.payload.len())?,
            raw_len: number(packed.raw_len)?,
            crc: crc32c::crc32c(&packed.payload),
        };
        files.events.write_all_at(&packed.payload, block.at)?;
        files.blocks.write_all_at(&block.row(), (blocks.len() * ROW_BYTES) as u64)?;
        blocks.push(block);
        Ok(())
    }

    /// Makes durable what was added.
    pub(super) fn sync(&self) -> Result<(), IndexError> {
        let Some(files) = &self.files else { return Ok(()) };
        let synced = files.events.sync_data().and_then(|()| files.blocks.sync_data());
        synced.map_err(IndexError::io("sync", &self.path))
    }

    /// The event with this number, if it is kept here.
    pub(crate) fn get(&self, seq: u64) -> Result<Option<Envelope>, IndexError> {
        let Some((n, block)) = self.find(seq) else { return Ok(None) };
        let corrupt = |reason: &str| IndexError::Corrupt {
            path: self.path.clone(),
            reason: format!("block {n}, at byte {}: {reason}", block.at),
        };
        let raw = match self.cached(n) {
            Some(raw) => raw,
            None => self
                .read(block)
                .map_err(IndexError::io("read", &self.path))?
                .ok_or_else(|| corrupt("its checksum does not match"))?,
        };
        self.cache(n, raw.clone());
        let place = usize::try_from(seq - block.first_seq).unwrap_or(usize::MAX);
        let stored = stored::envelopes(&raw).nth(place);
        let envelope = stored.and_then(|stored| stored::Reader::default().read(&stored));
        envelope.map(Some).ok_or_else(|| corrupt("an event in it cannot be read"))
    }

    fn find(&self, seq: u64) -> Option<(usize, Block)> {
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        let n = blocks.partition_point(|block| block.first_seq <= seq).checked_sub(1)?;
        let block = *blocks.get(n)?;
        (seq < block.first_seq + u64::from(block.count)).then_some((n, block))
    }

    /// The decompressed payload of a block; none if it is damaged.
    fn read(&self, block: Block) -> io::Result<Option<Bytes>> {
        let Some(files) = &self.files else { return Ok(None) };
        let mut payload = vec![0; block.len as usize];
        files.events.read_exact_at(&mut payload, block.at)?;
        if crc32c::crc32c(&payload) != block.crc {
            return Ok(None);
        }
        let raw = zstd::bulk::decompress(&payload, block.raw_len as usize)?;
        Ok((raw.len() == block.raw_len as usize).then(|| raw.into()))
    }

    fn cached(&self, n: usize) -> Option<Bytes> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let place = cache.iter().position(|(block, _)| *block == n)?;
        cache.remove(place).map(|(_, raw)| raw)
    }

    fn cache(&self, n: usize, raw: Bytes) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.push_back((n, raw));
        if cache.len() > CACHED_BLOCKS {
            cache.pop_front();
        }
    }
}

impl Files {
    fn cut(&self, blocks: &[Block]) -> io::Result<()> {
        let end = blocks.last().map_or(0, |last| last.at + u64::from(last.len));
        if self.events.metadata()?.len() < end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.events.set_len(end)?;
        self.blocks.set_len((blocks.len() * ROW_BYTES) as u64)
    }
}

impl Block {
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

    /// None if it is damaged.
    fn parse(row: &[u8; ROW_BYTES], at: u64) -> Option<Self> {
        let u32_at = |at: usize| row.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let block = Self {
            first_seq: row.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))?,
            count: u32_at(8)?,
            at,
            len: u32_at(12)?,
            raw_len: u32_at(16)?,
            crc: u32_at(20)?,
        };
        // writing it again checks the checksum, too
        (block.row() == *row && BLOCK_BYTES.contains(&(block.raw_len as usize))).then_some(block)
    }
}

/// The blocks of a partition: all, or the first `count`.
fn read_blocks(path: &Path, count: Option<usize>) -> Result<Vec<Block>, IndexError> {
    let corrupt = |reason: String| IndexError::Corrupt { path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(IndexError::io("read", path))?;
    let (rows, rest) = bytes.as_chunks::<ROW_BYTES>();
    let rows = match count {
        None if !rest.is_empty() => return Err(corrupt("its last row is incomplete".to_owned())),
        None => rows,
        Some(count) => rows.get(..count).ok_or_else(|| corrupt(format!("it has less than {count} rows")))?,
    };
    let (mut blocks, mut at) = (Vec::with_capacity(rows.len()), 0);
    for (n, row) in rows.iter().enumerate() {
        let block = Block::parse(row, at).ok_or_else(|| corrupt(format!("row {n} is damaged")))?;
        at += u64::from(block.len);
        blocks.push(block);
    }
    Ok(blocks)
}
