//! Which log partition stands for which partition of a topic, on disk.
//!
//! Readers' positions name log partitions by number: 0 is the journal, the others are given out here, once and
//! for good. A topic that was deleted and made anew begins again at offset 0, which must not be taken for what
//! was read before: its partitions get new numbers, and the old ones end.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::log::LogError;

/// Name below the data directory.
const FILE: &str = "kafka-partitions.json";
/// Largest file that is read.
const MAX_BYTES: u64 = 16 << 20;
/// Partitions that are told apart, ended ones included.
const MAX_PARTITIONS: usize = 4_095;
const VERSION: u32 = 1;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The log partition.
    pub(super) number: u32,
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Where reading begins for whoever has no position.
    pub(super) first: i64,
    /// The topic is another one now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) ended: bool,
}

/// All partitions there ever were.
#[derive(Debug)]
pub(super) struct Registry {
    path: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    partitions: Vec<Entry>,
}

impl Registry {
    /// Reads the file, or begins without any partition.
    ///
    /// # Errors
    /// If the file cannot be read: going on without it would read topics from their beginning again.
    pub(super) fn open(data_dir: &Path) -> Result<Self, LogError> {
        let path = data_dir.join(FILE);
        if !path.exists() {
            return Ok(Self { path, entries: Vec::new() });
        }
        let read = || -> std::io::Result<File> {
            let file = std::fs::File::open(&path)?;
            if file.metadata()?.len() > MAX_BYTES {
                return Err(std::io::Error::other("it is too large"));
            }
            let file: File = serde_json::from_reader(std::io::BufReader::new(file))?;
            match file.version {
                VERSION => Ok(file),
                other => Err(std::io::Error::other(format!("its version {other} is not known"))),
            }
        };
        let entries = read().map_err(|error| io_error("read", error))?.partitions;
        Ok(Self { path, entries })
    }

    /// The partitions that are read.
    pub(super) fn current(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.ended)
    }

    /// The number of a partition of a topic.
    pub(super) fn find(&self, topic: &str, partition: i32) -> Option<&Entry> {
        self.current().find(|entry| entry.topic == topic && entry.partition == partition)
    }

    /// True if any partition of the topic was ever met.
    pub(super) fn knows(&self, topic: &str) -> bool {
        self.entries.iter().any(|entry| entry.topic == topic)
    }

    /// Gives a partition a number, durably. If it has one, that ends: it is another partition now.
    ///
    /// # Errors
    /// If there are too many, or the file cannot be written; then nothing changed.
    pub(super) fn add(&mut self, topic: &str, partition: i32, first: i64) -> Result<Entry, LogError> {
        if self.entries.len() >= MAX_PARTITIONS {
            return Err(LogError::TooManyPartitions(MAX_PARTITIONS));
        }
        let number = self.entries.iter().map(|entry| entry.number).max().unwrap_or(0) + 1;
        let entry = Entry { number, topic: topic.to_owned(), partition, first, ended: false };
        let mut entries = self.entries.clone();
        let before = entries.iter_mut().filter(|entry| entry.topic == topic && entry.partition == partition);
        before.for_each(|entry| entry.ended = true);
        entries.push(entry.clone());
        self.write(&entries).map_err(|error| io_error("write", error))?;
        self.entries = entries;
        Ok(entry)
    }

    fn write(&self, entries: &[Entry]) -> std::io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&File { version: VERSION, partitions: entries.to_vec() })?;
        text.push(b'\n');
        let draft = self.path.with_extension("tmp");
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&draft, &self.path)?;
        self.path.parent().map_or(Ok(()), |directory| std::fs::File::open(directory)?.sync_all())
    }
}

fn io_error(action: &'static str, source: std::io::Error) -> LogError {
    LogError::Io { action, file: FILE.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_are_never_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let mut registry = Registry::open(dir.path()).unwrap();
        assert_eq!(registry.add("a", 0, 7).unwrap().number, 1);
        assert_eq!(registry.add("a", 1, 0).unwrap().number, 2);
        let mut registry = Registry::open(dir.path()).unwrap();
        let found = registry.find("a", 0).map(|entry| (entry.number, entry.first));
        assert_eq!((found, registry.knows("a"), registry.knows("b")), (Some((1, 7)), true, false));
        assert_eq!(registry.add("a", 0, 0).unwrap().number, 3);
        let registry = Registry::open(dir.path()).unwrap();
        assert_eq!(registry.find("a", 0).map(|entry| entry.number), Some(3));
        assert_eq!(registry.current().map(|entry| entry.number).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn what_cannot_be_read_is_not_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{}", r#"{"version":2,"partitions":[]}"#] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert!(matches!(Registry::open(dir.path()), Err(LogError::Io { .. })), "{text}");
        }
    }
}
