use watchbell_event::Positions;

use super::kafka::{TopicReader, Topics};
use super::{Batch, Journal, JournalReader, LogError};

/// A journal, which is appended to, and topics, which others fill. Partition 0 is the journal.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The own log.
    pub journal: Journal,
    /// The others' logs.
    pub topics: Topics,
}

impl Joined {
    pub(super) fn reader(&self, name: &str, from: &Positions) -> Result<JoinedReader, LogError> {
        let journal = self.journal.reader(name, from)?;
        Ok(JoinedReader { journal, topics: self.topics.reader(name, from)? })
    }

    pub(super) async fn checkpoint(&self, name: &str, positions: &Positions) -> Result<(), LogError> {
        self.topics.checkpoint(name, positions);
        self.journal.checkpoint(name, positions).await
    }

    pub(super) async fn close(&self) {
        self.topics.close();
        self.journal.close().await;
    }
}

/// Reads both; whichever has records.
#[derive(Debug)]
pub struct JoinedReader {
    journal: JournalReader,
    topics: TopicReader,
}

impl JoinedReader {
    pub(super) async fn next(&mut self, max_events: usize, max_bytes: usize) -> Result<Batch, LogError> {
        let batch = tokio::select! {
            batch = self.journal.next(max_events, max_bytes) => batch,
            batch = self.topics.next(max_events, max_bytes) => batch,
        };
        let batch = match batch {
            // what the journal still holds is read to its end
            Err(LogError::Closed) => self.journal.next(max_events, max_bytes).await?,
            batch => batch?,
        };
        Ok(Batch { next: self.positions(), ..batch })
    }

    pub(super) fn positions(&self) -> Positions {
        let mut positions = self.topics.positions().clone();
        for (partition, next) in self.journal.positions().iter() {
            positions.set_next(partition, next);
        }
        positions
    }
}
