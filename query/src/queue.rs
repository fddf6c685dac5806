//! How much waits for the indexing thread. tantivy bounds only the number of documents.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::IndexError;

/// How long an event may wait for room, in seconds, before the indexing thread counts as dead.
const MAX_WAIT_SECS: u64 = 60;

/// The bytes that wait, and their bound.
#[derive(Debug)]
pub(crate) struct Queue {
    limit_bytes: usize,
    waiting_bytes: Mutex<usize>,
    room: Condvar,
}

/// A part of the queue's room, given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    queue: Arc<Queue>,
    bytes: usize,
}

impl Queue {
    pub(crate) fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, waiting_bytes: Mutex::new(0), room: Condvar::new() })
    }

    /// Waits until `bytes` fit. What is bigger than the whole queue waits until the queue is empty.
    pub(crate) fn enter(self: &Arc<Self>, bytes: usize) -> Result<Room, IndexError> {
        let full = |waiting: &mut usize| *waiting > 0 && *waiting + bytes > self.limit_bytes;
        let mut waiting = self.waiting();
        if full(&mut waiting) {
            metrics::counter!("watchbell_index_queue_full_total").increment(1);
            let timeout = Duration::from_secs(MAX_WAIT_SECS);
            let (guard, result) =
                self.room.wait_timeout_while(waiting, timeout, full).unwrap_or_else(PoisonError::into_inner);
            if result.timed_out() {
                return Err(IndexError::Stuck(MAX_WAIT_SECS));
            }
            waiting = guard;
        }
        *waiting += bytes;
        Ok(Room { queue: Arc::clone(self), bytes })
    }

    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting();
        *waiting = waiting.saturating_sub(self.bytes);
        self.queue.room.notify_all();
    }
}
