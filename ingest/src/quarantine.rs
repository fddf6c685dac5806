//! Keeps what could not be decoded, so that no event is lost without a trace.
//!
//! # Limits
//! Two files of [`QuarantineConfig::max_bytes`] / 2 each; when the newer one is full it replaces the older
//! one, whose entries are gone then, and counted. Of each entry at most [`QuarantineConfig::entry_bytes`]
//! are kept. Of one body at most 1000 entries are kept singly; what follows becomes one entry.
//!
//! # Files
//! `quarantine.jsonl` and, older, `quarantine.old.jsonl`: one [`QuarantinedEntry`] with its bytes (`text`, or
//! `base64` where they are no text) as JSON per line, or `{"key":…,"done_at":…}` for an entry further up of
//! which something could be made in the end. What is not JSON cannot be redacted, so **these files may hold
//! secrets**: only their owner may read them (mode 0600), and their content belongs into no log.

mod file;

use std::borrow::Cow;
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use watchbell_event::{EventId, Timestamp};

use file::{Files, Mark, Snapshot};

/// Entries that are kept singly of those that are appended at once, that is, of one body.
const SINGLE_ENTRIES: usize = 1000;

/// Bounds of the quarantine.
#[derive(Clone, Debug)]
pub struct QuarantineConfig {
    /// Bytes of both files.
    pub max_bytes: u64,
    /// Bytes that are kept of one entry.
    pub entry_bytes: usize,
    /// Bytes of the newest entries that are recognised after a start, so that it does not take long; older
    /// ones may be kept a second time.
    pub known_bytes: u64,
}

impl Default for QuarantineConfig {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, entry_bytes: 8 << 20, known_bytes: 64 << 20 }
    }
}

/// What is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineEntry {
    /// When it arrived.
    pub time: Timestamp,
    /// The configured source it came through.
    pub source: String,
    /// The cluster it came from.
    pub cluster: String,
    /// The address that sent it.
    pub peer: Option<IpAddr>,
    /// Where it stood, such as "event 3 at byte 1200".
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
    /// The event was kept in a repaired form, which the bytes are.
    pub repaired: bool,
    /// What is not JSON as it was received, and everything else without secrets.
    pub bytes: Bytes,
}

/// What was kept, but for the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedEntry {
    /// Hash of source, cluster and bytes; the same bytes are kept once.
    pub key: EventId,
    /// When it arrived first.
    pub time: Timestamp,
    /// The configured source it came through.
    pub source: String,
    /// The cluster it came from.
    pub cluster: String,
    /// The address that sent it.
    pub peer: Option<IpAddr>,
    /// Where it stood.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
    /// The event was kept in a repaired form, which the bytes are.
    pub repaired: bool,
    /// Length of what was to be kept; more than what is kept if that was cut.
    pub total_bytes: usize,
    /// When something could be made of it in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Timestamp>,
}

/// The bytes as they stand in a line.
#[derive(Serialize, Deserialize)]
struct StoredBytes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// A line.
#[derive(Serialize)]
struct Stored {
    #[serde(flatten)]
    entry: QuarantinedEntry,
    #[serde(flatten)]
    bytes: StoredBytes,
}

/// The quarantine's files could not be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {path}")]
pub struct QuarantineError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The store of what could not be decoded. Its calls block on the disk.
#[derive(Debug)]
pub struct Quarantine {
    files: Mutex<Files>,
    config: QuarantineConfig,
}

impl Quarantine {
    /// Opens the quarantine in a directory, or makes a new one.
    ///
    /// # Errors
    /// If the files cannot be read or made.
    pub fn open(directory: &Path, config: QuarantineConfig) -> Result<Self, QuarantineError> {
        let files = Files::open(directory, config.max_bytes / 2, config.known_bytes)?;
        Ok(Self { files: Mutex::new(files), config })
    }

    /// Bytes that are kept of one entry.
    #[must_use]
    pub fn entry_bytes(&self) -> usize {
        self.config.entry_bytes
    }

    /// Keeps what is not there yet, durably, and returns how many entries that were.
    ///
    /// # Errors
    /// If they cannot be written; then some may be there.
    pub fn append(&self, entries: &[QuarantineEntry]) -> Result<usize, QuarantineError> {
        let keyed: Vec<_> = bounded(entries).into_iter().map(|entry| (key(&entry), entry)).collect();
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        let mut keys = HashSet::new();
        for (key, entry) in keyed {
            if !files.knows(key) && keys.insert(key) {
                serde_json::to_writer(&mut lines, &self.stored(key, &entry)).unwrap_or_default();
                lines.push(b'\n');
            }
        }
        if !keys.is_empty() {
            files.append(&lines)?;
            files.remember(&keys);
        }
        metrics::counter!("watchbell_ingest_quarantined_total").increment(keys.len() as u64);
        Ok(keys.len())
    }

    /// The newest entries that are older than `before`, the newest first. Reads all that is kept.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn list(
        &self,
        limit: usize,
        before: Option<EventId>,
    ) -> Result<Vec<QuarantinedEntry>, QuarantineError> {
        self.snapshot()?.newest(limit, before)
    }

    /// An entry with what is kept of its bytes, if there is one. Reads all that is kept.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn get(&self, key: EventId) -> Result<Option<(QuarantinedEntry, Bytes)>, QuarantineError> {
        self.snapshot()?.find(key)
    }

    /// Notes, durably, that something could be made of an entry in the end. The same bytes are kept again
    /// should they come again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn mark_done(&self, key: EventId, now: Timestamp) -> Result<(), QuarantineError> {
        let mut line = serde_json::to_vec(&Mark { key, done_at: now }).unwrap_or_default();
        line.push(b'\n');
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.append(&line)?;
        files.forget(key);
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot, QuarantineError> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).snapshot()
    }

    fn stored(&self, key: EventId, entry: &QuarantineEntry) -> Stored {
        let kept = entry.bytes.get(..self.config.entry_bytes).unwrap_or(&entry.bytes);
        let text = match str::from_utf8(kept) {
            Ok(text) => Some(text.to_owned()),
            // a character that was cut in two does not make it other than text
            Err(error) if error.error_len().is_none() && kept.len() < entry.bytes.len() => {
                Some(String::from_utf8_lossy(&kept[..error.valid_up_to()]).into_owned())
            }
            Err(_) => None,
        };
        let bytes = StoredBytes { base64: text.is_none().then(|| STANDARD.encode(kept)), text };
        let entry = QuarantinedEntry {
            key,
            time: entry.time,
            source: entry.source.clone(),
            cluster: entry.cluster.clone(),
            peer: entry.peer,
            place: entry.place.clone(),
            reason: entry.reason.clone(),
            repaired: entry.repaired,
            total_bytes: entry.bytes.len(),
            done_at: None,
        };
        Stored { entry, bytes }
    }
}

impl StoredBytes {
    fn into_bytes(self) -> Bytes {
        let decoded = self.base64.and_then(|base64| STANDARD.decode(base64).ok());
        self.text.map(String::into_bytes).or(decoded).unwrap_or_default().into()
    }
}

/// The entries, those beyond the bound as one that holds their bytes one after another.
fn bounded(entries: &[QuarantineEntry]) -> Vec<Cow<'_, QuarantineEntry>> {
    let (single, rest) = entries.split_at(entries.len().min(SINGLE_ENTRIES));
    let mut bounded: Vec<_> = single.iter().map(Cow::Borrowed).collect();
    match rest {
        [] => {}
        [only] => bounded.push(Cow::Borrowed(only)),
        [first, ..] => {
            let bytes: Vec<&[u8]> = rest.iter().map(|entry| &*entry.bytes).collect();
            bounded.push(Cow::Owned(QuarantineEntry {
                place: format!("{} and what follows", first.place),
                reason: format!("{} of one body, the first of them: {}", rest.len(), first.reason),
                repaired: rest.iter().all(|entry| entry.repaired),
                bytes: bytes.join(&b'\n').into(),
                ..first.clone()
            }));
        }
    }
    bounded
}

fn key(entry: &QuarantineEntry) -> EventId {
    let mut hasher = blake3::Hasher::new();
    for part in [entry.source.as_bytes(), entry.cluster.as_bytes(), &entry.bytes] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    EventId::from_hash(&hasher.finalize())
}

fn error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> QuarantineError {
    let path = path.to_owned();
    move |source| QuarantineError { action, path, source }
}

#[cfg(test)]
mod tests;
