use std::collections::{HashSet, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use watchbell_event::EventId;

use super::{QuarantineError, QuarantinedEntry, error};

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
        files.newer_bytes = newer.read(|Keyed { key }| files.newer_keys.extend([key]))?;
        if let Some(older) = older {
            older.last_bytes(unknown_bytes).0.read(|Keyed { key }| files.older_keys.extend([key]))?;
        }
        // a line that a crash cut short
        files.newer.set_len(files.newer_bytes).map_err(error("cut", &path))?;
        files.sync_directory()?;
        Ok(files)
    }

    pub(super) fn knows(&self, key: EventId) -> bool {
        self.newer_keys.contains(&key) || self.older_keys.contains(&key)
    }

    /// Adds whole lines, durably.
    pub(super) fn append(&mut self, lines: &[u8], keys: &HashSet<EventId>) -> Result<(), QuarantineError> {
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
        self.newer_keys.extend(keys);
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
    /// The newest entries, the newest first.
    pub(super) fn newest(self, limit: usize) -> Result<Vec<QuarantinedEntry>, QuarantineError> {
        let mut newest = self.newer.last_entries(limit)?;
        if let (true, Some(older)) = (newest.len() < limit, self.older) {
            newest.extend(older.last_entries(limit - newest.len())?);
        }
        Ok(newest)
    }
}

/// A part of a file.
struct Part {
    file: File,
    path: PathBuf,
    start: u64,
    end: u64,
}

/// Of an entry only its key.
#[derive(Deserialize)]
struct Keyed {
    key: EventId,
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

    fn last_entries(self, limit: usize) -> Result<Vec<QuarantinedEntry>, QuarantineError> {
        let mut last = VecDeque::new();
        self.read(|entry| {
            last.push_back(entry);
            if last.len() > limit {
                last.pop_front();
            }
        })?;
        Ok(last.into_iter().rev().collect())
    }

    /// Reads the entries and returns where the complete lines end. What is no entry is passed over.
    fn read<T: for<'a> Deserialize<'a>>(self, mut entry: impl FnMut(T)) -> Result<u64, QuarantineError> {
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
            if let Ok(parsed) = serde_json::from_slice(&line) {
                entry(parsed);
            }
        }
    }
}
