use std::collections::VecDeque;

use bytes::Bytes;
use watchbell_event::stored::Packed;

use super::frame::ROW_BYTES;

/// The newest frames, decompressed and as they were written, so that readers at the end touch no disk.
pub(super) struct Cache {
    frames: VecDeque<Cached>,
    bytes: usize,
    limit_bytes: usize,
}

#[derive(Clone)]
pub(super) struct Cached {
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) raw: Bytes,
    pub(super) packed: Packed,
}

impl Cached {
    /// The packed form is a part of the whole frame, whose table has a row for each record.
    fn bytes(&self) -> usize {
        self.raw.len() + self.packed.payload.len() + self.count as usize * ROW_BYTES
    }
}

impl Cache {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, limit_bytes }
    }

    /// Adds the newest frame. The oldest go until all fit; a frame longer than the cache empties it.
    pub(super) fn push(&mut self, frame: Cached) {
        self.bytes += frame.bytes();
        self.frames.push_back(frame);
        while self.bytes > self.limit_bytes
            && let Some(oldest) = self.frames.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
        metrics::gauge!("watchbell_log_cache_bytes").set(self.bytes as f64);
    }

    /// The frame that holds the record at `offset`.
    pub(super) fn get(&self, offset: u64) -> Option<Cached> {
        let after = self.frames.partition_point(|frame| frame.first <= offset);
        let frame = self.frames.get(after.checked_sub(1)?)?;
        (offset < frame.first + u64::from(frame.count)).then(|| frame.clone())
    }
}
