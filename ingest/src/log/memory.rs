//! A log in memory with two partitions, for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use watchbell_event::{Envelope, Position, Positions, Record, Timestamp};

use super::{AppendError, Batch, FullReason, LogError, LogState, LogStatus, RecentId, RecentIds};

const PARTITIONS: usize = 2;

/// Keeps records in memory until it is dropped. Records go to one of two partitions by their identity.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    shared: Arc<Mutex<Shared>>,
    /// Changes with every append; true once closed.
    closed: watch::Sender<bool>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Shared {
    partitions: [Vec<Record>; PARTITIONS],
    checkpoints: BTreeMap<String, Positions>,
    bytes: usize,
    closed: bool,
}

impl MemoryLog {
    /// An empty log that holds events of `max_bytes` in all.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { shared: Arc::default(), closed: watch::Sender::new(false), max_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, envelopes: &[Envelope]) -> Result<Vec<Position>, AppendError> {
        let mut shared = self.lock();
        let bytes: usize = envelopes.iter().map(|envelope| envelope.bytes.len()).sum();
        if shared.closed {
            return Err(AppendError::Failed("it is closed".into()));
        }
        if shared.bytes + bytes > self.max_bytes {
            return Err(AppendError::Full(FullReason::SizeLimit));
        }
        shared.bytes += bytes;
        let mut positions = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let partition = u32::from(envelope.id.0[0] & 1);
            let records = &mut shared.partitions[partition as usize];
            let position = Position { partition, offset: records.len() as u64 };
            records.push(Record { position, envelope: envelope.clone() });
            positions.push(position);
        }
        drop(shared);
        self.closed.send_modify(|_| ());
        Ok(positions)
    }

    pub(super) fn reader(&self, name: &str, from: &Positions) -> MemoryReader {
        self.lock().checkpoints.entry(name.to_owned()).or_insert_with(|| from.clone());
        MemoryReader { log: self.clone(), at: from.clone(), turn: 0, changed: self.closed.subscribe() }
    }

    pub(super) fn checkpoint(&self, name: &str, positions: &Positions) {
        self.lock().checkpoints.insert(name.to_owned(), positions.clone());
    }

    pub(super) fn checkpointed(&self, name: &str) -> Positions {
        self.lock().checkpoints.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn end(&self) -> Positions {
        let shared = self.lock();
        let mut end = Positions::default();
        for (partition, records) in (0..).zip(&shared.partitions) {
            end.set_next(partition, records.len() as u64);
        }
        end
    }

    pub(super) fn recent_ids(&self, since: Timestamp, limit: usize) -> RecentIds {
        let shared = self.lock();
        let all = shared.partitions.iter().flatten();
        let mut ids: Vec<RecentId> = all
            .map(|Record { envelope: Envelope { id, received_at, event_time, .. }, .. }| RecentId {
                id: *id,
                received_at: *received_at,
                event_time: *event_time,
            })
            .collect();
        let count = ids.len();
        ids.retain(|id| id.received_at >= since);
        ids.sort_by_key(|id| std::cmp::Reverse(id.received_at));
        let complete_since = match ids.get(limit) {
            Some(id) => Some(id.received_at.plus_micros(1)),
            None => (ids.len() < count).then_some(since),
        };
        ids.truncate(limit);
        RecentIds { ids, complete_since }
    }

    pub(super) fn status(&self) -> LogStatus {
        let end = self.end();
        let shared = self.lock();
        let mut oldest = Positions::default();
        end.iter().for_each(|(partition, _)| oldest.set_next(partition, 0));
        let state = match shared.closed {
            true => LogState::Failed("it is closed".into()),
            false => LogState::Open,
        };
        LogStatus { state, bytes: shared.bytes as u64, oldest, end, corruptions: Vec::new() }
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.closed.send_replace(true);
    }
}

/// Reads a log in memory; partitions take turns.
#[derive(Debug)]
pub struct MemoryReader {
    log: MemoryLog,
    at: Positions,
    turn: usize,
    changed: watch::Receiver<bool>,
}

impl MemoryReader {
    pub(super) async fn next(&mut self, max_events: usize, max_bytes: usize) -> Result<Batch, LogError> {
        loop {
            let closed = *self.changed.borrow_and_update();
            let records = self.take(max_events.max(1), max_bytes);
            if !records.is_empty() {
                records.iter().for_each(|record| self.at.advance_past(record.position));
                return Ok(Batch { records, packed: None, next: self.at.clone() });
            }
            if closed || self.changed.changed().await.is_err() {
                return Err(LogError::Closed);
            }
        }
    }

    pub(super) fn positions(&self) -> &Positions {
        &self.at
    }

    fn take(&mut self, max_events: usize, max_bytes: usize) -> Vec<Record> {
        let shared = self.log.lock();
        self.turn += 1;
        let mut bytes = 0;
        (0..PARTITIONS)
            .map(|index| (index + self.turn) % PARTITIONS)
            .flat_map(|partition| {
                let next = self.at.next(u32::try_from(partition).unwrap_or_default());
                let records = &shared.partitions[partition];
                records.get(usize::try_from(next).unwrap_or(usize::MAX)..).unwrap_or_default()
            })
            .take(max_events)
            .take_while(|record| {
                let fits = bytes < max_bytes || bytes == 0;
                bytes += record.envelope.bytes.len();
                fits
            })
            .cloned()
            .collect()
    }
}
