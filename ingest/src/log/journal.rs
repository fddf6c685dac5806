//! The log on disk.
//!
//! # Limits
//! One append holds at most 128 MiB and becomes one frame with others that wait, all or nothing. A frame's
//! table and payload have at most 256 MiB. A segment has [`JournalConfig::segment_bytes`], and more only
//! if a single frame does. All files together have at most [`JournalConfig::max_bytes`] (beyond it appends
//! are refused), the roots of deleted segments [`JournalConfig::roots_bytes`], copies of damaged bytes
//! [`JournalConfig::damage_copy_bytes`]. At most [`super::MAX_READERS`] readers.
//!
//! # Files
//! ```text
//! journal                     {"format":1,"marker":"…"}: made once; the marker begins every frame
//! 00000000000000000000.wbj    a segment; the number is the offset of its first record
//! reader-NAME                 checkpoint of a reader
//! roots, roots.old            Merkle roots of deleted segments
//! damaged-SEGMENT-BYTE.bin    copy of bytes that were no frame
//! lock                        held by the process that has the journal open
//! ```
//! A segment is a sequence of frames and nothing else. All numbers are little-endian.
//! ```text
//!   0   4  "WBJ1": magic and version of the format
//!   4   8  the journal's marker, random, so that nothing an event holds can pass for a frame
//!  12   4  CRC-32C of bytes 16 to 128
//!  16   8  offset of the first record
//!  24   4  number of records, at least 1
//!  28   4  length of the payload
//!  32   4  length of the payload when decompressed
//!  36   4  CRC-32C of the table
//!  40   4  CRC-32C of the payload
//!  44   4  zero
//!  48   8  latest received_at of its records, in microseconds
//!  56  32  hash of the frame before: BLAKE3 of a domain and its 128 header bytes
//!  88  32  Merkle root over the records' stored bytes (RFC 9162 with BLAKE3)
//! 120   8  latest event_time of its records
//! 128   …  table: per record its event id (16) and received_at (8)
//!   …   …  payload, zstd: per record the length (4) of its stored envelope, and that
//! ```
//!
//! # Durability
//! One thread writes. What waits goes into one frame, which is written and synced before the next one
//! begins; so at most the last frame can be torn, and a good frame behind a bad one means that the bad
//! one was durable once, as does damage at the end that is more than one frame. A torn last frame is cut
//! off when the journal is opened. All other damage is passed over: readers go on at the next good frame, and what was lost is copied, counted and reported.
//! After a write that failed for another reason than a full disk or cannot be undone, and after any failed sync, nothing is appended until the
//! journal is opened anew, because what is on the disk is then unknown.

mod cache;
mod checkpoints;
mod damage;
mod disk;
mod frame;
mod merkle;
mod open;
mod reader;
mod recent;
mod retention;
mod segment;
mod verify;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};
use watchbell_event::{Envelope, Position, Positions, Timestamp};

pub use damage::CorruptionReport;
pub use open::{OpenError, recover_bytes};
pub use reader::JournalReader;
pub use verify::{Broken, VerifyReport, verify};

use super::{AppendError, LogError, LogState, LogStatus, RecentIds};
use cache::Cache;
use checkpoints::Checkpoints;
use damage::Damage;
use disk::{Disk, FileSystem};
use frame::{Encoded, Marker, PARTITION};
use writer::{Command, Job, Writer};

/// Most bytes of one append, before compression.
const MAX_APPEND_BYTES: usize = 128 << 20;
/// Appends that can wait for the writer.
const QUEUE_APPENDS: usize = 4096;

/// Bounds and times of a journal.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Length at which a segment is followed by the next.
    pub segment_bytes: u64,
    /// Bytes of records, before compression, at which a frame takes no further appends.
    pub frame_bytes: usize,
    /// How long a frame waits for further appends, in microseconds.
    pub group_wait_micros: u64,
    /// Bytes of records, before compression, that can wait for the writer; beyond it appends are refused.
    pub queue_bytes: usize,
    /// Bytes of all segments; beyond it appends are refused.
    pub max_bytes: u64,
    /// Bytes to be left free on the disk; with less, appends are refused.
    pub keep_free_bytes: u64,
    /// How long records are kept at least, in seconds.
    pub retention_seconds: u64,
    /// Bytes of the newest records, decompressed and compressed, kept in memory for readers.
    pub cache_bytes: usize,
    /// Bytes of the roots of deleted segments; beyond twice this the oldest go.
    pub roots_bytes: u64,
    /// Bytes of copies of damaged bytes.
    pub damage_copy_bytes: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 128 << 20,
            frame_bytes: 4 << 20,
            group_wait_micros: 1_000,
            queue_bytes: 128 << 20,
            max_bytes: 64 << 30,
            keep_free_bytes: 1 << 30,
            retention_seconds: 24 * 3600,
            cache_bytes: 128 << 20,
            roots_bytes: 64 << 20,
            damage_copy_bytes: 256 << 20,
        }
    }
}

/// A journal that is open for reading and appending. Clones are handles on the same one.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    queue: SyncSender<Command>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("end", &self.shared.end.borrow().next).finish_non_exhaustive()
    }
}

/// What the writer and all readers share.
struct Shared {
    disk: Arc<dyn Disk>,
    config: JournalConfig,
    marker: Marker,
    end: watch::Sender<End>,
    segments: Mutex<Vec<Segment>>,
    /// Held while segments are deleted.
    retaining: Mutex<()>,
    cache: Mutex<Cache>,
    checkpoints: Checkpoints,
    damage: Damage,
    state: Mutex<LogState>,
    queued_bytes: Arc<AtomicUsize>,
}

/// How far the journal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// Offset after the newest durable record.
    next: u64,
    /// Nothing will follow.
    closed: bool,
}

/// A segment that holds durable records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    /// Offset of the first record.
    first: u64,
    /// Durable length.
    len: u64,
    /// When the latest of its records arrived; none if that is not known yet.
    newest: Option<Timestamp>,
}

impl Journal {
    /// Opens the journal in a directory, or makes a new one. Reads only the newest segment.
    ///
    /// # Errors
    /// If the directory cannot be used or another process has the journal open.
    pub fn open(directory: &Path, config: JournalConfig) -> Result<Self, OpenError> {
        let disk = FileSystem::open(directory)
            .map_err(|source| OpenError::Directory { path: directory.to_owned(), source })?;
        Self::open_on(Arc::new(disk), config)
    }

    fn open_on(disk: Arc<dyn Disk>, config: JournalConfig) -> Result<Self, OpenError> {
        let (shared, tail) = open::open(disk, config)?;
        let shared = Arc::new(shared);
        let (queue, commands) = std::sync::mpsc::sync_channel(QUEUE_APPENDS);
        let writer = Writer::new(shared.clone(), tail).map_err(OpenError::Thread)?;
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&commands))
            .map_err(OpenError::Thread)?;
        Ok(Self { shared, queue })
    }

    pub(super) async fn append(&self, envelopes: &[Envelope]) -> Result<Vec<Position>, AppendError> {
        if envelopes.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = envelopes.iter().map(|envelope| frame::size(envelope) + 4).sum();
        if bytes > MAX_APPEND_BYTES {
            return Err(AppendError::TooLarge { bytes, limit_bytes: MAX_APPEND_BYTES });
        }
        let reserved = Reserved::take(&self.shared, bytes)?;
        let (reply, answer) = oneshot::channel();
        let job = Job { encoded: Encoded::new(envelopes), reply, _reserved: reserved };
        self.queue.try_send(Command::Append(job)).map_err(|error| match error {
            TrySendError::Full(_) => AppendError::Backpressure,
            TrySendError::Disconnected(_) => AppendError::Failed("it is closed".into()),
        })?;
        let stopped = |_| AppendError::Failed("its writer has stopped".into());
        let first = answer.await.map_err(stopped)??;
        let offsets = (first..).take(envelopes.len());
        Ok(offsets.map(|offset| Position { partition: PARTITION, offset }).collect())
    }

    pub(super) fn reader(&self, name: &str, from: &Positions) -> Result<JournalReader, LogError> {
        self.shared.checkpoints.register(name, from)?;
        let from = from.next(PARTITION);
        if from > self.shared.end.borrow().next {
            // records it has seen are gone; their numbers must not be used again
            let _ = self.queue.try_send(Command::SkipTo(from));
        }
        Ok(JournalReader::new(self.shared.clone(), from))
    }

    pub(super) async fn checkpoint(&self, name: &str, positions: &Positions) -> Result<(), LogError> {
        let (shared, name, positions) = (self.shared.clone(), name.to_owned(), positions.clone());
        blocking(move || shared.checkpoints.store(&*shared.disk, &name, &positions)).await
    }

    pub(super) fn checkpointed(&self, name: &str) -> Positions {
        self.shared.checkpoints.stored(name)
    }

    pub(super) fn end(&self) -> Positions {
        position(self.shared.end.borrow().next)
    }

    pub(super) fn recent_ids(&self, since: Timestamp, limit: usize) -> Result<RecentIds, LogError> {
        recent::recent_ids(&self.shared, since, limit)
    }

    pub(super) async fn retain(&self, now: Timestamp) -> Result<(), LogError> {
        // beside the writer, whom nothing may hold up
        let shared = self.shared.clone();
        blocking(move || retention::retain(&shared, now)).await
    }

    pub(super) fn status(&self) -> LogStatus {
        let segments = self.shared.segments();
        let end = self.shared.end.borrow().next;
        LogStatus {
            state: self.shared.state().clone(),
            bytes: segments.iter().map(|segment| segment.len).sum(),
            oldest: position(segments.first().map_or(end, |segment| segment.first)),
            end: position(end),
            corruptions: self.shared.damage.reports(),
        }
    }

    pub(super) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.clone();
        if let Ok(Ok(())) = tokio::task::spawn_blocking(move || queue.send(Command::Close(reply))).await {
            let _ = answer.await;
        }
        let shared = self.shared.clone();
        let _ = tokio::task::spawn_blocking(move || drop(shared.retaining())).await;
    }
}

impl Shared {
    fn segments(&self) -> MutexGuard<'_, Vec<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retaining(&self) -> MutexGuard<'_, ()> {
        self.retaining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a segment and walks it from its start.
    fn walk(&self, segment: Segment) -> Result<segment::Walk, LogError> {
        let name = segment::name(segment.first);
        let file = self.disk.open(&name).map_err(|source| io_error("open", &name, source))?;
        Ok(segment::Walk::new(file, segment.len, Some(self.marker), segment.first))
    }
}

/// Bytes in the queue, given back when this is dropped.
struct Reserved {
    queued: Arc<AtomicUsize>,
    bytes: usize,
}

impl Reserved {
    fn take(shared: &Shared, bytes: usize) -> Result<Self, AppendError> {
        let limit = shared.config.queue_bytes;
        let queued = shared.queued_bytes.clone();
        let fits = |before: usize| (before == 0 || before + bytes <= limit).then_some(before + bytes);
        match queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(Self { queued, bytes }),
            Err(_) => {
                metrics::counter!("watchbell_log_backpressure_total").increment(1);
                Err(AppendError::Backpressure)
            }
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn position(next: u64) -> Positions {
    let mut positions = Positions::default();
    positions.set_next(PARTITION, next);
    positions
}

fn io_error(action: &'static str, file: &str, source: std::io::Error) -> LogError {
    LogError::Io { action, file: file.to_owned(), source }
}

/// Runs file operations beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(LogError::Closed))
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]
mod tests;
