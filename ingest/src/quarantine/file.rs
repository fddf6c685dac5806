use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use watchbell_event::{EventId, Timestamp};

use super::{QuarantineError, QuarantinedEntry, StoredBytes, error};

const NEWER: &str = "quarantine.jsonl";
const OLDER: &str = "quarantine.old.jsonl";
/// Longest line that is read; a longer one counts as damaged.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// The two files and the keys of what they hold.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    newer: File,
    newer_bytes: u64,
    max_file_bytes: u64,
    newer_keys: HashSet<EventId>,
    older_keys: HashSet<EventId>,
}

impl Files {
    /// Opens the files and reads the keys of the newest `known_bytes` of entries.
    pub(super) fn open(
        directory: &Path,
        max_file_bytes: u64,
        known_bytes: u64,
    ) -> Result<Self, QuarantineError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(error("create", directory))?;
        let path = directory.join(NEWER);
        let newer = open_newer(&path)?;
        let mut files = Self {
            directory: directory.to_owned(),
            newer_bytes: 0,
            newer,
            max_file_bytes,
            newer_keys: HashSet::new(),
            older_keys: HashSet::new(),
        };
        let Snapshot { newer, older } = files.snapshot()?;
        let (newer, unknown_bytes) = newer.last_bytes(known_bytes);
        if let Some(older) = older {
            older.last_bytes(unknown_bytes).0.read(|line| match Keyed::read(line) {
                Some(Keyed { key, done_at: None }) => drop(files.older_keys.insert(key)),
                Some(Keyed { key, .. }) => files.forget(key),
                None => {}
            })?;
        }
        files.newer_bytes = newer.read(|line| match Keyed::read(line) {
            Some(Keyed { key, done_at: None }) => drop(files.newer_keys.insert(key)),
            Some(Keyed { key, .. }) => files.forget(key),
            None => {}
        })?;
        // a line that a crash cut short
        files.newer.set_len(files.newer_bytes).map_err(error("cut", &path))?;
        files.sync_directory()?;
        Ok(files)
    }

    pub(super) fn knows(&self, key: EventId) -> bool {
        self.newer_keys.contains(&key) || self.older_keys.contains(&key)
    }

    /// The entries with these keys are in the newer file.
    pub(super) fn remember(&mut self, keys: &HashSet<EventId>) {
        self.newer_keys.extend(keys);
    }

    /// The entry with this key is to be kept again if it comes again.
    pub(super) fn forget(&mut self, key: EventId) {
        self.newer_keys.remove(&key);
        self.older_keys.remove(&key);
    }

    /// Adds whole lines, durably.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), QuarantineError> {
        if self.newer_bytes > 0 && self.newer_bytes + lines.len() as u64 > self.max_file_bytes {
            self.rotate()?;
        }
        let path = self.directory.join(NEWER);
        let written = self.newer.write_all(lines).and_then(|()| self.newer.sync_data());
        if let Err(source) = written {
            // so that the next line does not follow half a line
            self.newer.set_len(self.newer_bytes).map_err(error("cut", &path))?;
            return Err(error("write", &path)(source));
        }
        self.newer_bytes += lines.len() as u64;
        Ok(())
    }

    /// Both files as they are now, to be read without holding anybody up.
    pub(super) fn snapshot(&self) -> Result<Snapshot, QuarantineError> {
        let open = |name| Part::open(self.directory.join(name));
        let newer = open(NEWER)?.ok_or(ErrorKind::NotFound.into());
        let newer = newer.map_err(error("open", &self.directory.join(NEWER)))?;
        Ok(Snapshot { newer, older: open(OLDER)? })
    }

    fn rotate(&mut self) -> Result<(), QuarantineError> {
        let (newer, older) = (self.directory.join(NEWER), self.directory.join(OLDER));
        fs::rename(&newer, &older).map_err(error("rename", &newer))?;
        self.newer = open_newer(&newer)?;
        self.newer_bytes = 0;
        self.sync_directory()?;
        let gone = std::mem::replace(&mut self.older_keys, std::mem::take(&mut self.newer_keys));
        if !gone.is_empty() {
            metrics::counter!("watchbell_ingest_quarantine_rotated_out_total").increment(gone.len() as u64);
            tracing::warn!(entries = gone.len(), "the quarantine is full; its oldest entries are gone");
        }
        Ok(())
    }

    fn sync_directory(&self) -> Result<(), QuarantineError> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(error("sync", &self.directory))
    }
}

fn open_newer(path: &Path) -> Result<File, QuarantineError> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(path).map_err(error("open", path))
}

/// What the files held at one time.
pub(super) struct Snapshot {
    newer: Part,
    older: Option<Part>,
}

impl Snapshot {
    /// The newest entries that are older than `before`, the newest first.
    pub(super) fn newest(
        self,
        limit: usize,
        before: Option<EventId>,
    ) -> Result<Vec<QuarantinedEntry>, QuarantineError> {
        let mut newest: VecDeque<QuarantinedEntry> = VecDeque::new();
        let mut done = HashMap::new();
        let mut reached = false;
        self.read(|line| {
            if let Ok(entry) = serde_json::from_slice::<QuarantinedEntry>(line) {
                // what came again is open again
                done.remove(&entry.key);
                reached |= before == Some(entry.key);
                if !reached {
                    newest.push_back(entry);
                    newest.drain(..newest.len().saturating_sub(limit));
                }
            } else if let Some(Keyed { key, done_at: Some(at) }) = Keyed::read(line) {
                done.insert(key, at);
            }
        })?;
        let marked = newest.into_iter().rev();
        Ok(marked.map(|entry| QuarantinedEntry { done_at: done.get(&entry.key).copied(), ..entry }).collect())
    }

    /// The entry with this key, and its bytes.
    pub(super) fn find(self, key: EventId) -> Result<Option<(QuarantinedEntry, Bytes)>, QuarantineError> {
        let mut found: Option<(QuarantinedEntry, Bytes)> = None;
        self.read(|line| {
            let Some(keyed) = Keyed::read(line).filter(|keyed| keyed.key == key) else { return };
            if keyed.done_at.is_none() {
                let bytes = serde_json::from_slice::<StoredBytes>(line).map(StoredBytes::into_bytes);
                found = serde_json::from_slice(line).ok().zip(bytes.ok());
            } else if let Some((entry, _)) = &mut found {
                entry.done_at = keyed.done_at;
            }
        })?;
        Ok(found)
    }

    /// Hands out all lines, the oldest first.
    fn read(self, mut line: impl FnMut(&[u8])) -> Result<(), QuarantineError> {
        if let Some(older) = self.older {
            older.read(&mut line)?;
        }
        self.newer.read(line).map(drop)
    }
}

/// A part of a file.
struct Part {
    file: File,
    path: PathBuf,
    start: u64,
    end: u64,
}

/// Says that something could be made of an entry.
#[derive(Serialize)]
pub(super) struct Mark {
    pub(super) key: EventId,
    pub(super) done_at: Timestamp,
}

/// Of an entry its key, or a [`Mark`].
#[derive(Deserialize)]
struct Keyed {
    key: EventId,
    #[serde(default)]
    done_at: Option<Timestamp>,
}

impl Keyed {
    fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

impl Part {
    /// All that the file holds now; none if there is no file.
    fn open(path: PathBuf) -> Result<Option<Self>, QuarantineError> {
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Err(missing) if missing.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(error("open", &path)(source)),
            Ok((end, file)) => Ok(Some(Self { file, path, start: 0, end })),
        }
    }

    /// The end of this part, at most so long; and how much shorter it is.
    fn last_bytes(self, limit: u64) -> (Self, u64) {
        let len = self.end.saturating_sub(self.start).min(limit);
        (Self { start: self.end - len, ..self }, limit - len)
    }

    /// Hands out the lines and returns where the complete ones end.
    fn read(self, mut each: impl FnMut(&[u8])) -> Result<u64, QuarantineError> {
        let Self { mut file, path, start, end } = self;
        file.seek(SeekFrom::Start(start)).map_err(error("read", &path))?;
        let mut reader = BufReader::new(file.take(end - start));
        let mut line = Vec::new();
        let mut complete = start;
        loop {
            line.clear();
            let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            let read = read.map_err(error("read", &path))? as u64;
            if read == 0 || (!line.ends_with(b"\n") && read < MAX_LINE_BYTES) {
                return Ok(complete);
            }
            complete += read;
            each(&line);
        }
    }
}
