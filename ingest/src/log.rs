//! The log: durable, ordered, in partitions. It is the only hand-over between receiving and everything
//! else; all later stages see only what is in this module.

mod ahead;
mod joined;
mod journal;
pub mod kafka;
mod memory;

use std::sync::Arc;

use watchbell_event::stored::Packed;
use watchbell_event::{Envelope, EventId, Position, Positions, Record, Timestamp};

pub use ahead::ReadAhead;
pub use joined::{Joined, JoinedReader};
pub use journal::{
    Broken, CorruptionReport, Journal, JournalConfig, JournalReader, OpenError, VerifyReport, recover_bytes,
    verify,
};
pub use memory::{MemoryLog, MemoryReader};

/// A log. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub enum Log {
    /// On disk, with one partition.
    Disk(Journal),
    /// On disk, beside topics that others fill.
    Joined(Joined),
    /// A topic of Kafka that this server writes, beside topics that others fill.
    Kafka(kafka::KafkaLog),
    /// In memory, with two partitions, for tests: nothing after it may assume one.
    Memory(MemoryLog),
}

/// Why records were not appended. None of them is in the log then, unless the error is
/// [`AppendError::Failed`], after which it is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No room until something is deleted or space is made.
    #[error("the log is full: {0}")]
    Full(FullReason),
    /// Too much waits to be written; soon there is room again.
    #[error("too many bytes wait to be written to the log")]
    Backpressure,
    /// More than the log takes at once.
    #[error("{bytes} bytes are more than the {limit_bytes} that can be appended at once")]
    TooLarge {
        /// What was to be appended.
        bytes: usize,
        /// What is possible.
        limit_bytes: usize,
    },
    /// The log is closed or its disk failed.
    #[error("failed to append to the log: {0}")]
    Failed(Arc<str>),
}

/// What binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FullReason {
    /// The configured size of the log.
    #[error("it has reached its size limit")]
    SizeLimit,
    /// Less space is free on its disk than is to be kept free.
    #[error("its disk is nearly full")]
    LowDisk,
    /// The disk took no more bytes.
    #[error("its disk is full")]
    NoSpace,
}

/// Why records could not be read, or a position not kept.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk.
    #[error("failed to {action} {file}")]
    Io {
        /// Such as "read".
        action: &'static str,
        /// The file's name within the log's directory.
        file: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Not a name for a reader.
    #[error("reader {0:?} is not named by 1 to 32 of the characters a-z, 0-9 and '-'")]
    ReaderName(String),
    /// [`MAX_READERS`]
    #[error("the log has no room for another reader beside {MAX_READERS}")]
    TooManyReaders,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// Kafka's client could not be used.
    #[error("failed to {action}: {reason}")]
    Kafka {
        /// Such as "make a Kafka client".
        action: &'static str,
        /// What it said.
        reason: String,
    },
    /// Topics have more partitions than can be told apart.
    #[error("topics have more than {0} partitions, those that are gone included")]
    TooManyPartitions(usize),
    /// What could not be decoded could not be kept, so reading does not go on.
    #[error("failed to keep what cannot be decoded")]
    Quarantine(#[from] crate::quarantine::QuarantineError),
}

/// Readers whose positions one log keeps.
pub const MAX_READERS: usize = 32;

/// Records read at once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In the order of their partition. Empty if what was there is lost, or a copy, or in quarantine.
    pub records: Vec<Record>,
    /// The same records as the log keeps them, if they are just what it keeps together.
    pub packed: Option<Packed>,
    /// Where reading goes on; this is what to give to [`Log::checkpoint`] once they are processed.
    pub next: Positions,
}

/// Whether a log takes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogState {
    /// It does.
    Open,
    /// It will again once there is room.
    Full(FullReason),
    /// It does not at the moment; what it holds can be read.
    Refusing(Arc<str>),
    /// It will not until it is opened anew.
    Failed(Arc<str>),
}

/// How a log is.
#[derive(Clone, Debug)]
pub struct LogStatus {
    /// Whether it takes records.
    pub state: LogState,
    /// Bytes it occupies.
    pub bytes: u64,
    /// Offsets of the oldest records.
    pub oldest: Positions,
    /// Offsets after the newest durable records.
    pub end: Positions,
    /// Damage found since it was opened, newest last.
    pub corruptions: Vec<CorruptionReport>,
}

/// The identity of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentId {
    /// Itself.
    pub id: EventId,
    /// When the record arrived.
    pub received_at: Timestamp,
    /// When it happened, or a later time.
    pub event_time: Timestamp,
}

/// Identities of the newest records, from which the window of known events is rebuilt.
#[derive(Debug)]
pub struct RecentIds {
    /// In no order.
    pub ids: Vec<RecentId>,
    /// Every record that arrived at this time or later is among them; none if all records are.
    pub complete_since: Option<Timestamp>,
}

impl Log {
    /// Appends records and returns once they are durable, with their positions in the same order. All of
    /// them become durable, or none. If the future is dropped, they may still be appended.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append(&self, envelopes: &[Envelope]) -> Result<Vec<Position>, AppendError> {
        match self {
            Self::Disk(journal) | Self::Joined(Joined { journal, .. }) => journal.append(envelopes).await,
            Self::Kafka(kafka) => kafka.append(envelopes).await,
            Self::Memory(memory) => memory.append(envelopes),
        }
    }

    /// What it means that an append was answered.
    #[must_use]
    pub fn durability(&self) -> &'static str {
        match self {
            Self::Disk(_) | Self::Joined(_) => "fsync",
            Self::Kafka(kafka) => kafka.durability(),
            Self::Memory(_) => "memory",
        }
    }

    /// A reader that begins at `from`. Until its first checkpoint, its segments are kept from `from` on.
    ///
    /// # Errors
    /// If the name is not one, or there are too many readers.
    pub fn reader(&self, name: &str, from: &Positions) -> Result<LogReader, LogError> {
        check_reader_name(name)?;
        match self {
            Self::Disk(journal) => journal.reader(name, from).map(LogReader::Disk),
            Self::Joined(joined) => {
                joined.reader(name, from).map(|reader| LogReader::Joined(Box::new(reader)))
            }
            Self::Kafka(kafka) => {
                kafka.topics.reader(name, from).map(|reader| LogReader::Topics(Box::new(reader)))
            }
            Self::Memory(memory) => Ok(LogReader::Memory(memory.reader(name, from))),
        }
    }

    /// Keeps durably that the reader needs nothing before `positions` any more.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn checkpoint(&self, name: &str, positions: &Positions) -> Result<(), LogError> {
        check_reader_name(name)?;
        match self {
            Self::Disk(journal) => journal.checkpoint(name, positions).await,
            Self::Joined(joined) => joined.checkpoint(name, positions).await,
            Self::Kafka(kafka) => {
                kafka.topics.checkpoint(name, positions);
                Ok(())
            }
            Self::Memory(memory) => {
                memory.checkpoint(name, positions);
                Ok(())
            }
        }
    }

    /// The last checkpoint of a reader; the beginning if it has none.
    #[must_use]
    pub fn checkpointed(&self, name: &str) -> Positions {
        match self {
            Self::Disk(journal) | Self::Joined(Joined { journal, .. }) => journal.checkpointed(name),
            Self::Kafka(kafka) => kafka.topics.checkpointed(name),
            Self::Memory(memory) => memory.checkpointed(name),
        }
    }

    /// Offsets after the newest durable records; topics, which others fill, are not among them.
    #[must_use]
    pub fn end(&self) -> Positions {
        match self {
            Self::Disk(journal) | Self::Joined(Joined { journal, .. }) => journal.end(),
            Self::Kafka(kafka) => kafka.end(),
            Self::Memory(memory) => memory.end(),
        }
    }

    /// Number of durable records that a reader at `at` has yet to read; of topics, the number of messages as
    /// far as is known.
    #[must_use]
    pub fn lag(&self, at: &Positions) -> u64 {
        let records = |end: &Positions| {
            end.iter().map(|(partition, end)| end.saturating_sub(at.next(partition))).sum::<u64>()
        };
        match self {
            Self::Kafka(kafka) => kafka.topics.lag(at),
            Self::Joined(joined) => records(&joined.journal.end()) + joined.topics.lag(at),
            Self::Disk(_) | Self::Memory(_) => records(&self.end()),
        }
    }

    /// The topics that are read, if there are any.
    #[must_use]
    pub fn topics(&self) -> Option<&kafka::Topics> {
        match self {
            Self::Joined(joined) => Some(&joined.topics),
            Self::Kafka(kafka) => Some(&kafka.topics),
            Self::Disk(_) | Self::Memory(_) => None,
        }
    }

    /// The identities of records that arrived at `since` or later, at most `limit`, the newest first.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn recent_ids(&self, since: Timestamp, limit: usize) -> Result<RecentIds, LogError> {
        match self {
            Self::Disk(journal) | Self::Joined(Joined { journal, .. }) => journal.recent_ids(since, limit),
            Self::Kafka(kafka) => Ok(kafka.recent_ids(since)),
            Self::Memory(memory) => Ok(memory.recent_ids(since, limit)),
        }
    }

    /// Deletes what is past retention and below every reader's checkpoint. To be called from time to time.
    ///
    /// # Errors
    /// If a file cannot be read, written or removed.
    pub async fn retain(&self, now: Timestamp) -> Result<(), LogError> {
        match self {
            Self::Disk(journal) | Self::Joined(Joined { journal, .. }) => journal.retain(now).await,
            Self::Kafka(_) | Self::Memory(_) => Ok(()),
        }
    }

    /// How the log is.
    #[must_use]
    pub fn status(&self) -> LogStatus {
        match self {
            Self::Disk(journal) | Self::Joined(Joined { journal, .. }) => journal.status(),
            Self::Kafka(kafka) => kafka.status(),
            Self::Memory(memory) => memory.status(),
        }
    }

    /// Writes what waits and takes no more. Readers get [`LogError::Closed`] once they have read all.
    pub async fn close(&self) {
        match self {
            Self::Disk(journal) => journal.close().await,
            Self::Joined(joined) => joined.close().await,
            Self::Kafka(kafka) => kafka.close().await,
            Self::Memory(memory) => memory.close(),
        }
    }
}

/// Reads a log from some place on.
#[derive(Debug)]
pub enum LogReader {
    /// Of a journal.
    Disk(JournalReader),
    /// Of a journal and topics.
    Joined(Box<JoinedReader>),
    /// Of topics.
    Topics(Box<kafka::TopicReader>),
    /// Of a log in memory.
    Memory(MemoryReader),
    /// Of any of these, one batch ahead.
    Ahead(ReadAhead),
}

impl LogReader {
    /// Reads one batch of at most `max_events` ahead, and no more after `max_bytes` of events are reached, in a thread of
    /// its own. These bounds count then, whatever [`Self::next`] is given. Must be called within a runtime.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn ahead(self, max_events: usize, max_bytes: usize) -> std::io::Result<Self> {
        ReadAhead::start(self, max_events, max_bytes).map(Self::Ahead)
    }

    /// Waits for durable records and returns at least one of them (unless what was there is lost), at most
    /// `max_events`, and no more after `max_bytes` of events are reached. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the log cannot be read, or is closed and all is read. Reading may be tried again.
    pub async fn next(&mut self, max_events: usize, max_bytes: usize) -> Result<Batch, LogError> {
        match self {
            Self::Disk(reader) => reader.next(max_events, max_bytes).await,
            Self::Joined(reader) => reader.next(max_events, max_bytes).await,
            Self::Topics(reader) => reader.next(max_events, max_bytes).await,
            Self::Memory(reader) => reader.next(max_events, max_bytes).await,
            Self::Ahead(reader) => reader.next().await,
        }
    }

    /// Where reading goes on.
    #[must_use]
    pub fn positions(&self) -> Positions {
        match self {
            Self::Disk(reader) => reader.positions(),
            Self::Joined(reader) => reader.positions(),
            Self::Topics(reader) => reader.positions().clone(),
            Self::Memory(reader) => reader.positions().clone(),
            Self::Ahead(reader) => reader.positions().clone(),
        }
    }
}

fn check_reader_name(name: &str) -> Result<(), LogError> {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 32 || !name.bytes().all(is_good) {
        return Err(LogError::ReaderName(name.chars().take(64).collect()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
