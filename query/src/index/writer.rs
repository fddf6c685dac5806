//! The open partition: adding, committing, sealing, and finding it again after a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tantivy::indexer::UserOperation;
use tantivy::{IndexReader, IndexWriter};
use watchbell_event::Record;
use watchbell_event::stored::Packed;

use super::events::{self, EventsWriter};
use super::partition::{self, View};
use super::payload::{self, Payload};
use super::{Config, Index, Partition, Sealing};
use crate::IndexError;
use crate::bare::{self, EventDocument};

/// Documents handed over together; each time, threads wait for one another.
const BATCH_DOCUMENTS: usize = 256;
/// Bytes of events handed over together, unless one event alone is bigger.
const BATCH_BYTES: usize = 1 << 20;

/// The partition that is written to.
pub(super) struct Writer {
    pub(super) name: String,
    day: i64,
    writer: IndexWriter<EventDocument>,
    pub(super) reader: IndexReader,
    events: EventsWriter,
    documents: u64,
    bytes: u64,
    pub(super) uncommitted: u64,
}

impl Writer {
    /// True if nothing may be added on this day.
    pub(super) fn is_full(&self, config: &Config, day: i64) -> bool {
        day > self.day || self.documents >= config.partition_documents || self.bytes >= config.partition_bytes
    }
}

impl Index {
    /// Keeps records as the log does, if that is worth it and all of them are new, in order and of one day. They must be
    /// added next, to the same partition.
    pub(super) fn keep(&mut self, records: &[Record], packed: &Packed) -> Result<bool, IndexError> {
        let Some(first) = records.first().filter(|_| events::is_worth_keeping(packed)) else {
            return Ok(false);
        };
        let day = first.envelope.received_at.day();
        let fits =
            |record: &Record| record.envelope.received_at.day() == day && !self.added.covers(record.position);
        let follows = |pair: &[Record]| match pair {
            [one, next] => {
                one.position.partition == next.position.partition
                    && one.position.offset < next.position.offset
            }
            _ => true,
        };
        if !records.iter().all(fits) || !records.windows(2).all(follows) {
            return Ok(false);
        }
        self.seal_full(day)?;
        let seq = self.next_seq;
        self.open_partition(day)?.events.add(seq, records.len(), packed)?;
        Ok(true)
    }

    /// Adds the first records of a run that belong into the open partition, and returns how many. Their bytes may be
    /// `kept` already.
    pub(super) fn add_run(&mut self, records: &[Record], day: i64, kept: bool) -> Result<usize, IndexError> {
        let run = run(records, day);
        let new: Vec<&Record> = run.iter().filter(|record| !self.added.covers(record.position)).collect();
        if new.is_empty() {
            return Ok(run.len());
        }
        let bytes = new.iter().map(|record| record.envelope.bytes.len()).sum();
        let room = Arc::new(self.queue.enter(bytes)?);
        let mut operations = Vec::with_capacity(new.len());
        for record in new {
            let room = Some(Arc::clone(&room));
            let document = self.documents.build_in(&record.envelope, self.next_seq, kept, room);
            operations.push(UserOperation::Add(document));
            self.added.advance_past(record.position);
            self.next_seq += 1;
        }
        let added = operations.len() as u64;
        let writer = self.open_partition(day)?;
        writer.writer.run(operations).map_err(IndexError::tantivy("add events to the index"))?;
        writer.documents += added;
        writer.uncommitted += added;
        writer.bytes += bytes as u64;
        Ok(run.len())
    }

    /// The open partition; begun if there is none.
    fn open_partition(&mut self, day: i64) -> Result<&mut Writer, IndexError> {
        match &mut self.writer {
            Some(writer) => Ok(writer),
            none => Ok(none.insert(begin(&mut self.manifest, &self.dir, &self.config, day)?)),
        }
    }

    /// Ends the open partition if nothing may be added to it on this day.
    pub(super) fn seal_full(&mut self, day: i64) -> Result<(), IndexError> {
        let is_full = |writer: &Writer| writer.is_full(&self.config, day);
        if self.writer.as_ref().is_some_and(is_full) { self.seal() } else { Ok(()) }
    }

    /// Commits the open partition, if there is one.
    pub(super) fn commit_writer(&mut self) -> Result<(), IndexError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let failed = || IndexError::tantivy("commit the index");
        writer.events.sync()?;
        let payload = Payload {
            positions: self.added.clone(),
            next_seq: self.next_seq,
            documents: writer.documents,
            bytes: writer.bytes,
            blocks: writer.events.blocks(),
        };
        let payload = serde_json::to_string(&payload).map_err(|error| failed()(error.into()))?;
        let mut commit = writer.writer.prepare_commit().map_err(failed())?;
        commit.set_payload(&payload);
        commit.commit().map_err(failed())?;
        writer.uncommitted = 0;
        self.committed_seq = self.next_seq;
        self.positions = self.added.clone();
        self.reload()
    }

    /// Shows searches what merges made of the committed segments, and so lets go of the files of those that
    /// are gone. Commits do this too, but there may be none for hours.
    pub(super) fn show_merged(&mut self) -> Result<(), IndexError> {
        self.reload()?;
        self.publish();
        Ok(())
    }

    /// Looks at the open partition as it was committed last.
    fn reload(&mut self) -> Result<(), IndexError> {
        let Some(writer) = &self.writer else { return Ok(()) };
        writer.reader.reload().map_err(IndexError::tantivy("read the last commit of the index"))?;
        let view = View::new(&writer.reader, Arc::clone(writer.events.events()))?;
        self.manifest.partitions.insert(writer.name.clone(), view.entry());
        let partition = Partition::opened(&writer.name, partition_dir(&self.dir, &writer.name), view);
        self.published.insert(partition.name.clone(), Arc::new(partition));
        Ok(())
    }

    /// Commits and closes the open partition; its last merges go on in the background.
    pub(super) fn seal(&mut self) -> Result<(), IndexError> {
        self.commit_writer()?;
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let (name, writer) = (writer.name, writer.writer);
        let merges = std::thread::Builder::new()
            .name("index-seal".to_owned())
            .spawn(move || writer.wait_merging_threads())
            .map_err(IndexError::io("start a thread for", &self.dir))?;
        self.sealing.push(Sealing { name, merges });
        self.manifest.save(&self.dir)
    }

    /// Notes the partitions whose merges are finished; waits for them if asked to.
    pub(super) fn finish_sealing(&mut self, wait: bool) -> Result<(), IndexError> {
        let ready = |sealing: &mut Sealing| wait || sealing.merges.is_finished();
        let finished: Vec<Sealing> = self.sealing.extract_if(.., ready).collect();
        if finished.is_empty() {
            return Ok(());
        }
        for Sealing { name, merges } in finished {
            match merges.join() {
                Ok(Ok(())) => self.note_sealed(&name),
                // Nothing is lost: the partition is complete, only in more segments. The next start tries again.
                Ok(Err(error)) => tracing::warn!(partition = name, %error, "failed to merge a partition"),
                Err(_) => tracing::warn!(partition = name, "the merging of a partition panicked"),
            }
        }
        self.manifest.save(&self.dir)?;
        self.publish();
        Ok(())
    }

    fn note_sealed(&mut self, name: &str) {
        self.manifest.positions = self.positions.clone();
        self.manifest.next_seq = self.next_seq;
        if let Some(entry) = self.manifest.partitions.get_mut(name) {
            entry.sealed = true;
            // Searches open it anew, with the merged segments.
            let partition = Partition::closed(name, partition_dir(&self.dir, name), entry);
            self.published.insert(name.to_owned(), Arc::new(partition));
        }
    }

    /// Finds an unsealed partition again. The files of unfinished segments are removed.
    pub(super) fn reopen(&mut self, name: &str, newest: bool) -> Result<(), IndexError> {
        let path = self.partition_dir(name);
        let Some(index) = open_committed(&path)? else {
            self.manifest.partitions.remove(name);
            self.published.remove(name);
            return fs::remove_dir_all(&path).map_err(IndexError::io("remove", &path));
        };
        let failed = || IndexError::tantivy("reopen a partition of the index");
        let (writer, payload) = open_writer(&index, &path, name, &self.config)?;
        remove_drafts(&path)?;
        writer.writer.garbage_collect_files().wait().map_err(failed())?;
        super::advance(&mut self.positions, &payload.positions);
        self.added = self.positions.clone();
        self.next_seq = self.next_seq.max(payload.next_seq);
        self.committed_seq = self.next_seq;
        let view = View::new(&writer.reader, Arc::clone(writer.events.events()))?;
        self.manifest.partitions.insert(name.to_owned(), view.entry());
        self.published.insert(name.to_owned(), Arc::new(Partition::opened(name, path, view)));
        self.writer = Some(writer);
        if newest { Ok(()) } else { self.seal() }
    }

    pub(super) fn partition_dir(&self, name: &str) -> PathBuf {
        partition_dir(&self.dir, name)
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("name", &self.name).finish_non_exhaustive()
    }
}

pub(super) fn partition_dir(dir: &Path, name: &str) -> PathBuf {
    dir.join(partition::DIR).join(name)
}

/// The first records that can be handed over together: none of a later day, not too many, not too big.
fn run(records: &[Record], day: i64) -> &[Record] {
    let mut bytes = 0;
    let end = records
        .iter()
        .take(BATCH_DOCUMENTS)
        .position(|record| {
            let first = bytes == 0;
            bytes += record.envelope.bytes.len().max(1);
            !first && (bytes > BATCH_BYTES || record.envelope.received_at.day() > day)
        })
        .unwrap_or(records.len().min(BATCH_DOCUMENTS));
    &records[..end]
}

/// Begins a partition. It is on disk before the manifest knows it.
fn begin(
    manifest: &mut super::Manifest,
    dir: &Path,
    config: &Config,
    day: i64,
) -> Result<Writer, IndexError> {
    let name = partition::name(manifest.next_number, day);
    let path = partition_dir(dir, &name);
    fs::create_dir(&path).map_err(IndexError::io("create", &path))?;
    let index = bare::create(&path).map_err(IndexError::tantivy("begin a partition of the index"))?;
    // tantivy syncs what is in the directory, but not that it exists.
    super::sync_dir(&dir.join(partition::DIR))?;
    manifest.next_number += 1;
    open_writer(&index, &path, &name, config).map(|(writer, _)| writer)
}

/// Opens a partition for writing, and says what its last commit said.
fn open_writer(
    index: &tantivy::Index,
    path: &Path,
    name: &str,
    config: &Config,
) -> Result<(Writer, Payload), IndexError> {
    // First, for this shuts out everybody else.
    let writer = bare::writer(index, config.heap_bytes)
        .map_err(IndexError::tantivy("open a partition of the index for writing"))?;
    let payload = payload::read(index, path)?.unwrap_or_default();
    let writer = Writer {
        name: name.to_owned(),
        day: partition::day(name).unwrap_or_default(),
        writer,
        reader: partition::reader(index)?,
        events: EventsWriter::open(path, payload.blocks)?,
        documents: payload.documents,
        bytes: payload.bytes,
        uncommitted: 0,
    };
    Ok((writer, payload))
}

/// A partition's tantivy index; none if it was begun, but nothing was ever committed to it.
fn open_committed(path: &Path) -> Result<Option<tantivy::Index>, IndexError> {
    if !path.join("meta.json").exists() {
        return Ok(None);
    }
    let index = partition::open_index(path)?;
    Ok(payload::read(&index, path)?.map(|_| index))
}

/// Removes what a crash left of files that were being replaced.
fn remove_drafts(path: &Path) -> Result<(), IndexError> {
    for file in fs::read_dir(path).map_err(IndexError::io("read", path))? {
        let file = file.map_err(IndexError::io("read", path))?;
        if file.file_name().to_string_lossy().starts_with(".tmp") {
            fs::remove_file(file.path()).map_err(IndexError::io("remove", &file.path()))?;
        }
    }
    Ok(())
}
