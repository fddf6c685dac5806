//! How far readers have come, one small file each.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use watchbell_event::Positions;

use super::disk::{Disk, Entry, read_all, replace};
use super::frame::PARTITION;
use super::io_error;
use crate::log::{LogError, MAX_READERS};

const PREFIX: &str = "reader-";
const MAX_FILE_BYTES: usize = 4096;

/// The checkpoints of all readers.
#[derive(Default)]
pub(super) struct Checkpoints {
    readers: Mutex<BTreeMap<String, Checkpoint>>,
}

#[derive(Clone, Debug, Default)]
struct Checkpoint {
    /// What is on disk.
    stored: Positions,
    /// The offset from which segments are kept for it.
    held: u64,
}

impl Checkpoints {
    /// Reads all checkpoint files. One that is damaged counts as a reader that needs everything.
    pub(super) fn load(disk: &dyn Disk, entries: &[Entry]) -> Result<Self, LogError> {
        let mut readers = BTreeMap::new();
        let names = entries.iter().filter_map(|entry| entry.name.strip_prefix(PREFIX));
        for name in names.filter(|name| !name.contains('.')) {
            let file = format!("{PREFIX}{name}");
            let content = read_all(disk, &file, MAX_FILE_BYTES).map_err(|e| io_error("read", &file, e))?;
            let stored = parse(&content).unwrap_or_else(|| {
                tracing::error!(
                    reader = name,
                    "the reader's checkpoint is damaged; all records are kept for it"
                );
                Positions::default()
            });
            let held = stored.next(PARTITION);
            readers.insert(name.to_owned(), Checkpoint { stored, held });
        }
        Ok(Self { readers: Mutex::new(readers) })
    }

    /// Keeps segments for a reader that begins at `from`.
    pub(super) fn register(&self, name: &str, from: &Positions) -> Result<(), LogError> {
        let mut readers = self.lock();
        if !readers.contains_key(name) && readers.len() >= MAX_READERS {
            return Err(LogError::TooManyReaders);
        }
        let from = from.next(PARTITION);
        readers
            .entry(name.to_owned())
            .and_modify(|reader| reader.held = reader.held.min(from))
            .or_insert(Checkpoint { held: from, ..Checkpoint::default() });
        Ok(())
    }

    /// Writes a checkpoint.
    pub(super) fn store(&self, disk: &dyn Disk, name: &str, positions: &Positions) -> Result<(), LogError> {
        let file = format!("{PREFIX}{name}");
        // held while writing, so that two checkpoints of one reader are written in order
        let mut readers = self.lock();
        if !readers.contains_key(name) && readers.len() >= MAX_READERS {
            return Err(LogError::TooManyReaders);
        }
        replace(disk, &file, format(positions).as_bytes())
            .map_err(|error| io_error("write", &file, error))?;
        let checkpoint = Checkpoint { stored: positions.clone(), held: positions.next(PARTITION) };
        readers.insert(name.to_owned(), checkpoint);
        Ok(())
    }

    pub(super) fn stored(&self, name: &str) -> Positions {
        self.lock().get(name).map(|reader| reader.stored.clone()).unwrap_or_default()
    }

    /// The lowest offset that a reader still needs. None without any reader: then nothing may go.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.lock().values().map(|reader| reader.held).min()
    }

    /// The highest offset that a reader has come to.
    pub(super) fn highest(&self) -> u64 {
        self.lock().values().map(|reader| reader.stored.next(PARTITION)).max().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Checkpoint>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The positions as JSON, a space, and the CRC-32C of the JSON.
fn format(positions: &Positions) -> String {
    let json = serde_json::to_string(positions).unwrap_or_default();
    format!("{json} {:08x}\n", crc32c::crc32c(json.as_bytes()))
}

fn parse(content: &[u8]) -> Option<Positions> {
    let (json, crc) = str::from_utf8(content).ok()?.trim_end().rsplit_once(' ')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    (crc == crc32c::crc32c(json.as_bytes())).then(|| serde_json::from_str(json).ok())?
}
