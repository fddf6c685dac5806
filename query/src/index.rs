//! The index on disk: partitions by day of arrival, each a tantivy index.
//!
//! ```text
//! DIR/manifest.json                     what is known of each partition; a cache, rebuilt if it is missing
//! DIR/cursor.key                        signs search cursors
//! DIR/partitions/NUMBER-YYYY-MM-DD/     one tantivy index, and `events` and `blocks`: what the log packed
//! DIR/partitions/gone-…                 a partition past retention, half deleted
//! ```
//!
//! One partition is open for writing. It is sealed when a record of a later day arrives or when it is full.
//! Every commit carries, in tantivy's own commit record, how far the log is indexed, the next `seq` and how many blocks
//! of packed events there are, so all of it becomes durable together: after a crash the newest partition says where to
//! go on, and what was not committed is read from the log again. Files of unfinished segments are removed on open, and
//! blocks that were not committed are cut off.

mod events;
mod manifest;
mod partition;
mod payload;
mod retention;
mod writer;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use watchbell_event::stored::Packed;
use watchbell_event::{Positions, Record, Timestamp};

use crate::IndexError;
use crate::document::DocumentBuilder;
use crate::queue::Queue;
use crate::schema::Columns;
use crate::search::{Published, Searcher, Shared};
use manifest::Manifest;
pub(crate) use partition::{Partition, Segment, Span, View};
use writer::Writer;

/// How the index is kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// Memory of the indexing thread, in bytes; at least 15 MB. When it is full a segment is written.
    pub heap_bytes: usize,
    /// How much may wait for the indexing thread, in bytes of events.
    pub queue_bytes: usize,
    /// A partition with this many documents is full.
    pub partition_documents: u64,
    /// A partition with events of this size is full, in bytes before compression.
    pub partition_bytes: u64,
    /// A partition is removed this many days after its newest event arrived; 0 keeps everything.
    pub retention_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heap_bytes: 64 << 20,
            queue_bytes: 8 << 20,
            partition_documents: 10_000_000,
            partition_bytes: 16 << 30,
            retention_days: 90,
        }
    }
}

/// The index. It has one owner, which feeds it the log.
#[derive(Debug)]
pub struct Index {
    config: Config,
    dir: PathBuf,
    manifest: Manifest,
    documents: DocumentBuilder,
    queue: Arc<Queue>,
    writer: Option<Writer>,
    sealing: Vec<Sealing>,
    /// How far the log is indexed durably, and how far with what is not committed.
    positions: Positions,
    added: Positions,
    next_seq: u64,
    /// The next `seq` when the last commit was made.
    committed_seq: u64,
    published: BTreeMap<String, Arc<Partition>>,
    shared: Arc<Shared>,
    failed: bool,
}

/// A partition whose last merges run.
#[derive(Debug)]
struct Sealing {
    name: String,
    merges: JoinHandle<tantivy::Result<()>>,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Partitions, the open one included.
    pub partitions: usize,
    /// Segments of the open partition; above about 40 the indexing is ahead of the merges.
    pub open_segments: usize,
    /// Committed documents.
    pub documents: u64,
    /// Documents that a crash would have to read from the log again.
    pub uncommitted: u64,
    /// When the newest committed event happened.
    pub newest_event: Option<Timestamp>,
}

impl Index {
    /// Opens the index in a directory, which is made if it is missing.
    ///
    /// # Errors
    /// If the directory cannot be read and written, is in use, or holds something else.
    pub fn open(config: Config, dir: &Path) -> Result<Self, IndexError> {
        let partitions_dir = dir.join(partition::DIR);
        fs::create_dir_all(&partitions_dir).map_err(IndexError::io("create", &partitions_dir))?;
        sync_dir(dir)?;
        dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)?;
        let found = manifest::load(dir)?;
        let key = crate::search::load_key(dir)?;
        let mut index = Self {
            queue: Queue::new(config.queue_bytes),
            config,
            dir: dir.to_owned(),
            documents: DocumentBuilder::new(Columns::build().1),
            writer: None,
            sealing: Vec::new(),
            positions: found.manifest.positions.clone(),
            added: found.manifest.positions.clone(),
            published: BTreeMap::new(),
            next_seq: found.manifest.next_seq,
            committed_seq: found.manifest.next_seq,
            manifest: found.manifest,
            shared: Arc::new(Shared::new(key)),
            failed: false,
        };
        for (name, entry) in &index.manifest.partitions {
            let partition = Partition::closed(name, index.partition_dir(name), entry);
            index.published.insert(name.clone(), Arc::new(partition));
        }
        for (n, name) in found.unsealed.iter().enumerate() {
            index.reopen(name, n + 1 == found.unsealed.len())?;
        }
        index.manifest.save(dir)?;
        index.publish();
        Ok(index)
    }

    /// Up to where the log is indexed durably. Records from here on must be added (again) after opening.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Searches what was committed.
    #[must_use]
    pub fn searcher(&self) -> Searcher {
        Searcher::new(Arc::clone(&self.shared))
    }

    /// Takes records from the log, in its order. Those already indexed are skipped. Waits while the indexing
    /// thread is behind. Nothing is searchable or durable before [`Self::commit`].
    ///
    /// # Errors
    /// If tantivy fails; then the index must be opened again.
    pub fn add(&mut self, records: &[Record]) -> Result<(), IndexError> {
        self.guarded(|index| index.add_runs(records, false))
    }

    /// The same for records that the log keeps together; this spares compressing them anew.
    ///
    /// # Errors
    /// If tantivy or the disk fails; then the index must be opened again.
    pub fn add_packed(&mut self, records: &[Record], packed: &Packed) -> Result<(), IndexError> {
        self.guarded(|index| {
            let kept = index.keep(records, packed)?;
            index.add_runs(records, kept)
        })
    }

    /// Adds records. If they are `kept` already, all belong into the open partition.
    fn add_runs(&mut self, mut records: &[Record], kept: bool) -> Result<(), IndexError> {
        while let Some(first) = records.first() {
            let day = first.envelope.received_at.day();
            if !kept {
                self.seal_full(day)?;
            }
            let taken = self.add_run(records, day, kept)?;
            records = &records[taken..];
        }
        Ok(())
    }

    /// Goes on behind records that the log has lost: everything before `next` was added or is gone. True if
    /// that is further than before; the next [`Self::commit`] says so in [`Self::positions`].
    pub fn pass_over(&mut self, next: &Positions) -> bool {
        let mut further = false;
        for (partition, next) in next.iter() {
            if next > self.added.next(partition) {
                self.added.set_next(partition, next);
                further = true;
            }
        }
        further
    }

    /// Makes everything added durable and searchable.
    ///
    /// # Errors
    /// If tantivy fails; then the index must be opened again.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        self.guarded(|index| {
            if index.writer.as_mut().is_some_and(|writer| writer.uncommitted > 0) {
                index.commit_writer()?;
                index.publish();
            } else {
                // records that are lost are not read again either
                index.positions = index.added.clone();
            }
            index.finish_sealing(false)
        })
    }

    /// Removes the partitions whose newest event arrived longer ago than the retention.
    ///
    /// # Errors
    /// If a partition cannot be removed.
    pub fn apply_retention(&mut self, now: Timestamp) -> Result<(), IndexError> {
        self.guarded(|index| index.retire(now))
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let uncommitted = self.writer.as_ref().map_or(0, |writer| writer.uncommitted);
        Stats { uncommitted, ..self.shared.stats() }
    }

    /// Shows searches what is committed.
    fn publish(&self) {
        let open_segments = |writer: &Writer| writer.reader.searcher().segment_readers().len();
        self.shared.publish(Published {
            partitions: Arc::new(self.published.values().cloned().collect()),
            open_segments: self.writer.as_ref().map_or(0, open_segments),
            end_seq: self.committed_seq,
        });
    }

    /// Runs `work` unless something failed before; notes if it fails.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<(), IndexError>) -> Result<(), IndexError> {
        if self.failed {
            return Err(IndexError::Closed);
        }
        let result = work(self);
        if result.is_err() {
            self.failed = true;
            self.writer = None;
        }
        result
    }
}

fn advance(positions: &mut Positions, to: &Positions) {
    for (partition, next) in to.iter() {
        positions.set_next(partition, next.max(positions.next(partition)));
    }
}

/// Makes durable which files a directory has.
fn sync_dir(dir: &Path) -> Result<(), IndexError> {
    let synced = File::open(dir).and_then(|file| file.sync_all());
    synced.map_err(IndexError::io("sync", dir))
}

#[cfg(test)]
mod tests;
