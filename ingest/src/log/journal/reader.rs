//! Reads durable records, from memory near the end and from the segments before.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use watchbell_event::stored::Packed;
use watchbell_event::{Positions, Record};

use super::damage::CorruptionReport;
use super::segment::{self, Depth, Step, Walk};
use super::{End, Segment, Shared, frame, io_error, position};
use crate::log::{Batch, LogError};

/// Reads a journal from some record on.
pub struct JournalReader {
    shared: Arc<Shared>,
    /// The next record to be returned.
    at: u64,
    /// Records from `at` on that are read already.
    pending: VecDeque<Record>,
    /// All of these as the frame holds them, if it holds no others.
    packed: Option<Packed>,
    /// Where the last frame that came from disk ended.
    cursor: Option<Cursor>,
    /// The reading from `at` on that was begun. Whoever stops waiting for it finds it done later: begun
    /// anew each time, on a slow disk it would never come to an end.
    running: Option<JoinHandle<Result<Fetched, LogError>>>,
    changed: watch::Receiver<End>,
}

impl std::fmt::Debug for JournalReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalReader").field("at", &self.at).finish_non_exhaustive()
    }
}

impl JournalReader {
    pub(super) fn new(shared: Arc<Shared>, at: u64) -> Self {
        let changed = shared.end.subscribe();
        Self { shared, at, pending: VecDeque::new(), packed: None, cursor: None, running: None, changed }
    }

    pub(crate) fn positions(&self) -> Positions {
        position(self.at)
    }

    pub(crate) async fn next(&mut self, max_events: usize, max_bytes: usize) -> Result<Batch, LogError> {
        loop {
            if !self.pending.is_empty() {
                return Ok(self.take(max_events.max(1), max_bytes));
            }
            let end = *self.changed.borrow_and_update();
            if self.at < end.next {
                let before = self.at;
                self.fetch(end.next).await?;
                if self.pending.is_empty() && self.at > before {
                    return Ok(Batch { next: self.positions(), ..Batch::default() });
                }
            } else if end.closed || self.changed.changed().await.is_err() {
                return Err(LogError::Closed);
            }
        }
    }

    fn take(&mut self, max_events: usize, max_bytes: usize) -> Batch {
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < max_events && (bytes < max_bytes || records.is_empty()) {
            let Some(record) = self.pending.pop_front() else { break };
            bytes += record.envelope.bytes.len();
            self.at = record.position.offset + 1;
            records.push(record);
        }
        let packed = self.packed.take().filter(|_| self.pending.is_empty());
        Batch { records, packed, next: self.positions() }
    }

    /// Reads the frame that holds the next record. Changes nothing before all is read.
    async fn fetch(&mut self, end: u64) -> Result<(), LogError> {
        if self.running.is_none()
            && let Some(cached) = self.shared.cache().get(self.at)
            && let Some(records) = frame::records(cached.first, cached.count, &cached.raw, self.at)
        {
            self.packed = (self.at == cached.first).then_some(cached.packed);
            self.pending = records.into();
            return Ok(());
        }
        let running = self.running.get_or_insert_with(|| {
            let (shared, at, cursor) = (self.shared.clone(), self.at, self.cursor.clone());
            tokio::task::spawn_blocking(move || fetch(&shared, at, end, cursor))
        });
        let fetched = running.await;
        self.running = None;
        let fetched = fetched.unwrap_or(Err(LogError::Closed))?;
        self.at = fetched.at;
        self.cursor = fetched.cursor;
        self.pending = fetched.records.into();
        self.packed = fetched.packed;
        Ok(())
    }
}

/// A place in a segment.
#[derive(Clone)]
struct Cursor {
    segment: Segment,
    walk: Walk,
}

struct Fetched {
    records: Vec<Record>,
    packed: Option<Packed>,
    /// Offset of the first record, or where reading goes on if there are none.
    at: u64,
    cursor: Option<Cursor>,
}

/// Records of a frame; packed if they are all of its records.
struct Found {
    records: Vec<Record>,
    packed: Option<Packed>,
}

/// Reads the first good frame with records at `at` or later, and reports what is damaged before it.
fn fetch(shared: &Shared, mut at: u64, end: u64, cursor: Option<Cursor>) -> Result<Fetched, LogError> {
    let mut cursor = cursor.filter(|cursor| cursor.walk.expect() <= at);
    while at < end {
        let Some((segment, after)) = segment_at(shared, at) else { break };
        let mut walk = match cursor.take().filter(|cursor| cursor.segment.first == segment.first) {
            Some(cursor) => cursor.walk,
            None => shared.walk(segment)?,
        };
        walk.extend_to(segment.len);
        at = at.max(segment.first);
        let until = after.unwrap_or(end);
        if let Some(Found { records, packed }) = read_segment(shared, segment, &mut walk, at, until)? {
            let at = records.first().map_or(at, |record| record.position.offset);
            return Ok(Fetched { records, packed, at, cursor: Some(Cursor { segment, walk }) });
        }
        at = until;
    }
    Ok(Fetched { records: Vec::new(), packed: None, at: at.max(end), cursor: None })
}

/// The segment that holds the record at `at`, or the oldest one if `at` lies before it; and where the next
/// one begins.
fn segment_at(shared: &Shared, at: u64) -> Option<(Segment, Option<u64>)> {
    let segments = shared.segments();
    let after = segments.partition_point(|segment| segment.first <= at);
    let index = after.saturating_sub(1);
    Some((*segments.get(index)?, segments.get(index + 1).map(|next| next.first)))
}

/// The records of the first good frame with any at `at` or later; none if the segment has none.
fn read_segment(
    shared: &Shared,
    segment: Segment,
    walk: &mut Walk,
    at: u64,
    until: u64,
) -> Result<Option<Found>, LogError> {
    let name = segment::name(segment.first);
    let report = |report| shared.damage.report(&*shared.disk, shared.config.damage_copy_bytes, report);
    // every record below this is read, reported as lost, or not wanted
    let mut accounted = walk.expect().max(at);
    loop {
        let depth = |header: &frame::Header| if header.end() > at { Depth::Body } else { Depth::Header };
        match walk.step(depth).map_err(|error| io_error("read", &name, error))? {
            Step::Frame { header, .. } if header.end() <= at => {}
            Step::Frame { at: byte, header, body } => {
                if header.first > accounted {
                    report(CorruptionReport::missing(segment.first, byte, accounted..header.first));
                }
                accounted = header.end();
                let raw = header.decompress(&body);
                match raw.and_then(|raw| frame::records(header.first, header.count, &raw, at)) {
                    Some(records) => {
                        let packed = (header.first >= at).then(|| header.packed(&body.into()));
                        return Ok(Some(Found { records, packed }));
                    }
                    None => report(CorruptionReport::unreadable(segment.first, byte, &header)),
                }
            }
            Step::Damage(damage) => {
                let damage = CorruptionReport::of(segment.first, damage, until);
                accounted = accounted.max(damage.records.end);
                report(damage);
            }
            Step::End => {
                if accounted < until {
                    report(CorruptionReport::missing(segment.first, segment.len, accounted..until));
                }
                return Ok(None);
            }
        }
    }
}
