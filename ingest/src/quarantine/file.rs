use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
    pub(super) fn open(directory: &Path, max_file_bytes: u64) -> Result<Self, QuarantineError> {
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
        files.newer_bytes = read_file(&path, |entry| files.newer_keys.extend([entry.key]))?;
        read_file(&directory.join(OLDER), |entry| files.older_keys.extend([entry.key]))?;
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

    /// Reads all entries, the oldest first.
    pub(super) fn read(&self, mut entry: impl FnMut(QuarantinedEntry)) -> Result<(), QuarantineError> {
        read_file(&self.directory.join(OLDER), &mut entry)?;
        read_file(&self.directory.join(NEWER), &mut entry).map(|_| ())
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

/// Reads the entries of a file and returns the length of its complete lines. Damaged lines are passed over.
fn read_file(path: &Path, mut entry: impl FnMut(QuarantinedEntry)) -> Result<u64, QuarantineError> {
    let file = match File::open(path) {
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(error("open", path))?,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut complete = 0;
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
        let read = read.map_err(error("read", path))? as u64;
        if read == 0 || (!line.ends_with(b"\n") && read < MAX_LINE_BYTES) {
            return Ok(complete);
        }
        complete += read;
        if let Ok(parsed) = serde_json::from_slice(&line) {
            entry(parsed);
        }
    }
}
