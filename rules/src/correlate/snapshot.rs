//! The state of all correlations as bytes.
//!
//! ```text
//! snapshot = magic "WBCS", version u16, BLAKE3 of the body (32 bytes), body
//! body     = lanes (cluster, history, watermark, partitions, floor), late events, correlations
//! correlation = key, fingerprint, evictions, length in bytes, groups (each with when it was used last)
//! ```
//!
//! Numbers are little-endian. A correlation whose definition, or that of a rule below it, has changed since is
//! skipped by its length. At most [`MAX_SNAPSHOT_BYTES`] are read.

use std::collections::VecDeque;
use std::sync::Arc;

use watchbell_event::{EventId, Position, Timestamp};

use super::engine::{Engine, EventRef};
use super::fields::Value;
use super::groups::{Content, Copied, Group, Scope};
use super::model::{Correlation, Kind};
use super::novelty::Novelty;
use super::plan::Plan;
use super::state::State;
use super::watermark::{Clock, Lane, Progress, Watermark};
use super::window::{Chained, Entry, Window};
use super::wire::{Broken, Reader, Writer};

const MAGIC: &[u8; 4] = b"WBCS";
const VERSION: u16 = 2;
const HEADER_BYTES: usize = 4 + 2 + 32;
/// Least size of an entry.
const ENTRY_BYTES: usize = 55;
/// Largest snapshot that is read.
const MAX_SNAPSHOT_BYTES: usize = 2 << 30;

/// Why a snapshot was not restored; then there is no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It was not made here, or by a version that writes it differently.
    #[error(
        "failed to restore correlations: version {found} of the snapshot is not the known one, {VERSION}"
    )]
    Version {
        /// What it says.
        found: u16,
    },
    /// It was damaged, or is none.
    #[error("failed to restore correlations: the snapshot is damaged")]
    Damaged,
    /// It is too large.
    #[error(
        "failed to restore correlations: the snapshot has {bytes} bytes; at most {MAX_SNAPSHOT_BYTES} are read"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// What became of the state of each correlation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Correlations that go on from where they were.
    pub kept: Vec<Arc<str>>,
    /// Correlations that changed or went; their state was dropped.
    pub dropped: Vec<Arc<str>>,
}

/// All that is known at one moment; its bytes are still to be put together.
#[derive(Debug, Default)]
pub struct Snapshot {
    clocks: Writer,
    correlations: Vec<(Writer, Copied)>,
}

impl Snapshot {
    /// Puts the bytes together, with a version and a checksum. That takes a while for a large snapshot, and can be
    /// done on another thread.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Writer::default();
        bytes.bytes(MAGIC);
        bytes.u16(VERSION);
        let checksum = bytes.0.len();
        bytes.bytes(&[0; 32]);
        bytes.bytes(&self.clocks.0);
        bytes.count(self.correlations.len());
        for (head, groups) in self.correlations {
            bytes.bytes(&head.0);
            bytes.count(size_of::<u64>() + groups.bytes.0.len());
            bytes.count(groups.count);
            bytes.bytes(&groups.bytes.0);
        }
        let hash = blake3::hash(bytes.0.get(HEADER_BYTES..).unwrap_or_default());
        if let Some(place) = bytes.0.get_mut(checksum..HEADER_BYTES) {
            place.copy_from_slice(hash.as_bytes());
        }
        bytes.0
    }
}

impl Engine {
    /// Begins a snapshot of all that is known now. [`Self::copy`] goes on with it, while the state may change.
    pub(crate) fn begin_snapshot(&mut self) {
        let mut snapshot = Snapshot::default();
        let clocks = &mut snapshot.clocks;
        clocks.count(self.clocks.lanes.len());
        for (lane, clock) in &self.clocks.lanes {
            write_lane(clocks, lane);
            write_watermark(clocks, &clock.watermark);
            clocks.i64(clock.floor);
        }
        clocks.u64(self.late);
        for (planned, state) in self.plan.correlations.iter().zip(&mut self.states) {
            let mut head = Writer::default();
            head.text(&planned.key);
            head.bytes(&planned.fingerprint);
            head.u64(state.evicted_groups);
            head.u64(state.evicted_entries);
            snapshot.correlations.push((head, Copied::default()));
            state.groups.begin_copy();
        }
        self.copying = Some(snapshot);
    }

    /// Goes on with the snapshot until about so many bytes were copied; the snapshot once it is done.
    pub(crate) fn copy(&mut self, most_bytes: usize) -> Option<Snapshot> {
        let snapshot = self.copying.as_mut()?;
        let mut copied = 0;
        for ((_, groups), state) in snapshot.correlations.iter_mut().zip(&mut self.states) {
            copied += state.groups.copy(most_bytes.saturating_sub(copied));
            if let Some(done) = state.groups.take_copy() {
                *groups = done;
            }
            if copied >= most_bytes {
                return None;
            }
        }
        self.copying.take()
    }

    /// Goes on from a snapshot, in place of all that is known.
    pub(crate) fn restore(&mut self, snapshot: &[u8]) -> Result<Restored, SnapshotError> {
        if snapshot.len() > MAX_SNAPSHOT_BYTES {
            return Err(SnapshotError::TooLarge { bytes: snapshot.len() });
        }
        let mut header = Reader(snapshot);
        let damaged = |Broken| SnapshotError::Damaged;
        if header.array().map_err(damaged)? != *MAGIC {
            return Err(SnapshotError::Damaged);
        }
        match header.u16().map_err(damaged)? {
            VERSION => {}
            found => return Err(SnapshotError::Version { found }),
        }
        let checksum: [u8; 32] = header.array().map_err(damaged)?;
        if *blake3::hash(header.0).as_bytes() != checksum {
            return Err(SnapshotError::Damaged);
        }
        let plan = Arc::clone(&self.plan);
        let mut restored = Engine::new(plan, self.config.clone());
        let outcome = restored.read_body(&mut header).map_err(damaged)?;
        *self = restored;
        self.recount();
        Ok(outcome)
    }

    /// Runs another set: what did not change goes on from where it was.
    pub(crate) fn reload(&mut self, plan: Arc<Plan>) -> Restored {
        let mut renewed = Engine::new(plan, self.config.clone());
        renewed.clocks = self.clocks.clone();
        renewed.late = self.late;
        let mut outcome = Restored::default();
        let states = std::mem::take(&mut self.states);
        for (planned, mut state) in self.plan.correlations.iter().zip(states) {
            state.groups.cancel_copy();
            let known = find(&renewed.plan, &planned.key, &planned.fingerprint);
            match known.and_then(|index| renewed.states.get_mut(index)) {
                Some(place) => {
                    *place = state;
                    outcome.kept.push(Arc::clone(&planned.key));
                }
                None => outcome.dropped.push(Arc::clone(&planned.key)),
            }
        }
        *self = renewed;
        self.recount();
        outcome
    }

    fn read_body(&mut self, body: &mut Reader<'_>) -> Result<Restored, Broken> {
        for (lane, clock) in body.list(33, read_clock)? {
            *self.clocks.of(&lane) = clock;
        }
        self.late = body.u64()?;
        let mut outcome = Restored::default();
        for _ in 0..body.count(1)? {
            let (key, fingerprint) = (body.text()?, body.array()?);
            let (evicted_groups, evicted_entries) = (body.u64()?, body.u64()?);
            let bytes = body.count(1)?;
            let mut groups = Reader(body.bytes(bytes)?);
            let Some(index) = find(&self.plan, &key, &fingerprint) else {
                outcome.dropped.push(key);
                continue;
            };
            let mut state = State::new(self.config.listed_events);
            (state.evicted_groups, state.evicted_entries) = (evicted_groups, evicted_entries);
            let planned = self.plan.correlations.get(index).ok_or(Broken)?;
            let mut groups = groups.list(1, |groups| read_group(groups, &planned.definition))?;
            groups.sort_unstable_by_key(|(used, ..)| *used);
            for (_, key, group) in groups {
                state.restore(key, group);
            }
            *self.states.get_mut(index).ok_or(Broken)? = state;
            outcome.kept.push(key);
        }
        Ok(outcome)
    }
}

fn find(plan: &Plan, key: &str, fingerprint: &[u8; 32]) -> Option<usize> {
    plan.correlations.iter().position(|planned| *planned.key == *key && planned.fingerprint == *fingerprint)
}

fn write_lane(writer: &mut Writer, lane: &Lane) {
    writer.text(&lane.cluster);
    writer.flag(lane.history);
}

fn read_lane(reader: &mut Reader<'_>) -> Result<Lane, Broken> {
    Ok(Lane { cluster: reader.text()?, history: reader.flag()? })
}

fn read_clock(reader: &mut Reader<'_>) -> Result<(Lane, Clock), Broken> {
    let (lane, watermark) = (read_lane(reader)?, read_watermark(reader)?);
    Ok((lane, Clock { watermark, floor: reader.i64()?, ..Clock::default() }))
}

fn write_watermark(writer: &mut Writer, watermark: &Watermark) {
    writer.i64(watermark.now);
    writer.i64(watermark.heard);
    writer.count(watermark.partitions.len());
    for (partition, progress) in &watermark.partitions {
        writer.u32(*partition);
        writer.i64(progress.event_time);
        writer.i64(progress.heard);
    }
}

fn read_watermark(reader: &mut Reader<'_>) -> Result<Watermark, Broken> {
    let (now, heard) = (reader.i64()?, reader.i64()?);
    let partitions = reader.list(20, |reader| {
        Ok((reader.u32()?, Progress { event_time: reader.i64()?, heard: reader.i64()? }))
    })?;
    Ok(Watermark { partitions: partitions.into_iter().collect(), heard, now })
}

pub(super) fn write_group(writer: &mut Writer, key: EventId, used: u64, group: &Group) {
    writer.u64(used);
    writer.bytes(&key.0);
    write_lane(writer, &group.scope.lane);
    write_values(writer, &group.scope.values);
    match &group.content {
        Content::Window(window) => write_window(writer, window),
        Content::Novelty(novelty) => {
            writer.i64(novelty.began.unwrap_or(i64::MAX));
            writer.i64(novelty.newest);
            writer.count(novelty.last_seen.len());
            for (value, seen) in &novelty.last_seen {
                writer.u128(*value);
                writer.i64(*seen);
            }
        }
    }
}

fn read_group(reader: &mut Reader<'_>, rule: &Correlation) -> Result<(u64, EventId, Group), Broken> {
    let used = reader.u64()?;
    let key = EventId(reader.array()?);
    let scope = Arc::new(Scope { lane: read_lane(reader)?, values: read_values(reader)? });
    let content = match rule.kind {
        Kind::NewValue => {
            let (began, newest) = (reader.i64()?, reader.i64()?);
            let last_seen = reader.list(24, |reader| Ok((reader.u128()?, reader.i64()?)))?;
            let began = (began != i64::MAX).then_some(began);
            Content::Novelty(Novelty::restore(began, newest, last_seen.into_iter().collect()))
        }
        _ => Content::Window(read_window(reader, rule)?),
    };
    Ok((used, key, Group { scope, content }))
}

fn write_window(writer: &mut Writer, window: &Window) {
    writer.count(window.start);
    writer.count(window.next);
    writer.count(window.fired.len());
    window.fired.iter().for_each(|ended| writer.i64(*ended));
    writer.count(window.entries.len());
    writer.0.reserve(window.entries.len() * ENTRY_BYTES);
    for entry in &window.entries {
        writer.i64(entry.time);
        write_event(writer, &entry.event, entry.position());
        writer.u128(entry.counted());
        writer.u16(entry.member);
        writer.flag(entry.chained.is_some());
        if let Some(chained) = &entry.chained {
            write_values(writer, &chained.carried);
            writer.count(chained.events.len());
            for event in &chained.events {
                writer.i64(event.time.as_micros());
                write_event(writer, &event.id, event.position);
            }
            writer.u64(chained.beyond);
        }
    }
}

fn read_window(reader: &mut Reader<'_>, rule: &Correlation) -> Result<Window, Broken> {
    let at = |number: u64| usize::try_from(number).map_err(|_| Broken);
    let (start, next) = (at(reader.u64()?)?, at(reader.u64()?)?);
    let fired = reader.list(8, Reader::i64)?;
    let entries: VecDeque<Entry> = reader.list(ENTRY_BYTES, read_entry)?.into();
    if start > next || next > entries.len() {
        return Err(Broken);
    }
    Ok(Window::restore(rule, entries, start, next, fired))
}

fn read_entry(reader: &mut Reader<'_>) -> Result<Entry, Broken> {
    let time = Timestamp::from_micros(reader.i64()?);
    let (id, position) = read_event(reader)?;
    let (counted, member) = (reader.u128()?, reader.u16()?);
    let chained = match reader.flag()? {
        false => None,
        true => Some(Arc::new(Chained {
            carried: read_values(reader)?,
            events: reader.list(36, |reader| {
                let time = Timestamp::from_micros(reader.i64()?);
                let (id, position) = read_event(reader)?;
                Ok(EventRef { id, position, time })
            })?,
            beyond: reader.u64()?,
        })),
    };
    let mut entry = Entry::new(&EventRef { id, position, time }, member).counting(counted);
    entry.chained = chained;
    Ok(entry)
}

fn write_event(writer: &mut Writer, id: &EventId, position: Position) {
    writer.bytes(&id.0);
    writer.u32(position.partition);
    writer.u64(position.offset);
}

fn read_event(reader: &mut Reader<'_>) -> Result<(EventId, Position), Broken> {
    let id = EventId(reader.array()?);
    Ok((id, Position { partition: reader.u32()?, offset: reader.u64()? }))
}

fn write_values(writer: &mut Writer, values: &[Value]) {
    writer.count(values.len());
    for value in values {
        writer.flag(value.is_some());
        value.iter().for_each(|value| writer.text(value));
    }
}

fn read_values(reader: &mut Reader<'_>) -> Result<Vec<Value>, Broken> {
    reader.list(1, |reader| if reader.flag()? { reader.text().map(Some) } else { Ok(None) })
}
