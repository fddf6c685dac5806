//! Goes through all partitions of all topics.
//!
//! Partitions take turns by the time of their next message, so that after an outage, or at a first start with
//! long backlogs, what happened at one time is seen at about one time, as correlations need it. A partition that is
//! known to have more, but has nothing fetched yet, is waited for if it is seconds behind the others, but not for long,
//! for its leader may be away. Partitions that are filled by detection elsewhere are waited for at their ends, too, while
//! that catches up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use tokio::sync::watch;
use watchbell_event::{Position, Positions, Record};

use super::config::{Contents, TopicConfig};
use super::context::Ends;
use super::partition::{Cursor, Reading, Rescue};
use super::recent::Recent;
use super::registry::Entry;
use super::status::Tally;
use super::{Topics, client, position, serve, status};
use crate::log::{Batch, LogError};
use crate::quarantine::QuarantineEntry;

/// How often the client's errors are answered while nothing arrives.
const TICK: Duration = Duration::from_millis(250);
/// Of each partition at least so many messages are looked at again after a start.
const LEAST_RECENT: u64 = 100;

/// Reads topics from some place on.
pub struct TopicReader {
    reading: Reading,
    cursors: Vec<Cursor>,
    /// Where reading goes on: after what was handed out.
    at: Positions,
    recent: Recent,
    /// What was decoded and waits to be handed out.
    ready: VecDeque<Step>,
    /// What is handed out once what was rejected is in quarantine.
    batch: Batch,
    rejected: Vec<QuarantineEntry>,
    changed: watch::Receiver<()>,
    waiting_since: Option<Instant>,
}

/// One record, and the position after it.
struct Step {
    /// None for a message that gave none.
    record: Option<Record>,
    partition: u32,
    next: u64,
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicReader")
            .field("reader", &self.reading.reader)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl TopicReader {
    pub(super) fn new(topics: Topics, name: &str, from: &Positions) -> Result<Self, LogError> {
        let shared = Arc::clone(&topics.shared);
        let client = client(&shared, topics.partitions().len())?;
        let mut changed = shared.subscribe();
        changed.mark_changed();
        Ok(Self {
            cursors: Vec::new(),
            at: from.clone(),
            recent: Recent::new(shared.config.recent_ids),
            ready: VecDeque::new(),
            batch: Batch::default(),
            rejected: Vec::new(),
            changed,
            waiting_since: None,
            reading: Reading {
                reader: name.into(),
                shared,
                topics,
                client: Arc::new(client),
                nonempty: Arc::default(),
            },
        })
    }

    /// As of [`crate::log::LogReader::next`].
    pub(in crate::log) async fn next(
        &mut self,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Batch, LogError> {
        loop {
            if self.reading.shared.is_closed() {
                return Err(LogError::Closed);
            }
            if self.changed.has_changed().unwrap_or(false) {
                self.changed.mark_unchanged();
                self.follow()?;
            }
            serve(&self.reading.client);
            self.gather(max_events.max(1), max_bytes);
            if let Some(ends) = self.reading.client.context().take_ends() {
                self.pass_over(&ends);
                self.gather(max_events.max(1), max_bytes);
            }
            if let Some(batch) = self.take()? {
                return Ok(batch);
            }
            tokio::select! {
                () = self.reading.nonempty.notified() => {}
                _ = self.changed.changed() => self.changed.mark_changed(),
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    pub(in crate::log) fn positions(&self) -> &Positions {
        &self.at
    }

    /// Begins with new partitions, leaves those that ended, and looks after positions that are in none.
    fn follow(&mut self) -> Result<(), LogError> {
        for cursor in &mut self.cursors {
            if let Rescue::Lost(messages) = cursor.rescue(&self.reading)? {
                report_lost(&self.reading.reader, cursor, messages);
                let partition = cursor.entry.number;
                self.ready.push_back(Step { record: None, partition, next: cursor.next });
            }
        }
        let entries = self.reading.topics.partitions();
        let begun = self.leave_ended(&entries)?;
        let back =
            (self.reading.shared.config.recent_messages / entries.len().max(1) as u64).max(LEAST_RECENT);
        for entry in entries {
            if self.cursors.iter().any(|cursor| cursor.entry.number == entry.number) {
                continue;
            }
            let Some(topic) = self.reading.shared.topic(&entry.topic).cloned() else { continue };
            let next = self.at.next(entry.number).max(begun.next(entry.number));
            self.cursors.push(Cursor::begin(&self.reading, topic, entry, next, back)?);
        }
        Ok(())
    }

    /// If a partition ended, begins anew with all of them, and returns how far they were: a client goes on
    /// believing what it knew of a topic that was made anew under its old name.
    fn leave_ended(&mut self, entries: &[Entry]) -> Result<Positions, LogError> {
        let mut begun = Positions::default();
        let stays = |cursor: &Cursor| entries.iter().any(|entry| entry.number == cursor.entry.number);
        if self.cursors.iter().all(stays) {
            return Ok(begun);
        }
        let client = client(&self.reading.shared, entries.len())?;
        self.count();
        for cursor in self.cursors.drain(..) {
            begun.set_next(cursor.entry.number, cursor.next);
            if !stays(&cursor) {
                self.reading.shared.verdicts.forget(cursor.entry.number);
            }
        }
        self.reading.client = Arc::new(client);
        Ok(begun)
    }

    /// Moves what is ready into the batch, decoding messages as long as there is room and they are there.
    fn gather(&mut self, max_events: usize, max_bytes: usize) {
        let mut bytes: usize = self.batch.records.iter().map(|record| record.envelope.bytes.len()).sum();
        loop {
            while let Some(step) = self.ready.front() {
                let is_record = step.record.is_some();
                let full = bytes >= max_bytes || self.batch.records.len() >= max_events;
                if is_record && full && !self.batch.records.is_empty() {
                    return;
                }
                let Some(Step { record, partition, next }) = self.ready.pop_front() else { return };
                bytes += record.as_ref().map_or(0, |record| record.envelope.bytes.len());
                self.batch.records.extend(record);
                self.batch.next.set_next(partition, next);
            }
            for cursor in &mut self.cursors {
                cursor.fill(&self.reading);
            }
            match self.turn() {
                Some(index) => self.open(index),
                None => return,
            }
        }
    }

    /// Moves positions to the ends of partitions of which everything was taken.
    fn pass_over(&mut self, ends: &Ends) {
        for cursor in &mut self.cursors {
            let Some(end) = ends.of(&cursor.entry.topic, cursor.entry.partition) else { continue };
            if cursor.pass_over(&self.reading, end) {
                let partition = cursor.entry.number;
                self.ready.push_back(Step { record: None, partition, next: cursor.next });
            }
        }
    }

    /// The batch, if there is one. Nothing is handed out, and no position moves, before what was rejected is
    /// kept.
    fn take(&mut self) -> Result<Option<Batch>, LogError> {
        if !self.rejected.is_empty() {
            self.reading.shared.quarantine.append(&self.rejected)?;
            self.rejected.clear();
        }
        self.count();
        let batch = std::mem::take(&mut self.batch);
        for (partition, next) in batch.next.iter() {
            self.at.set_next(partition, next);
        }
        Ok((batch.next != Positions::default()).then_some(batch))
    }

    /// The partition whose turn it is; none if there is nothing, or one that lags has to come first.
    fn turn(&mut self) -> Option<usize> {
        let heads = self.cursors.iter().enumerate();
        let heads = heads.filter_map(|(index, cursor)| Some((cursor.head.as_ref()?.time, index)));
        let (_, index) = heads.min()?;
        let head = self.cursors.get(index)?.head.as_ref()?;
        let holding = self.cursors.iter().enumerate();
        let holding = holding.filter_map(|(at, cursor)| Some((at, cursor.holds_back(head)?)));
        let holding: Vec<(usize, Duration)> = holding.collect();
        if !holding.is_empty() {
            let waited = self.waiting_since.get_or_insert_with(Instant::now).elapsed();
            if holding.iter().any(|(_, patience)| waited < *patience) {
                return None;
            }
            holding.iter().for_each(|(at, _)| self.cursors[*at].given_up = true);
        }
        self.waiting_since = None;
        Some(index)
    }

    /// Decodes the next message of a partition.
    fn open(&mut self, index: usize) {
        let Some(cursor) = self.cursors.get_mut(index) else { return };
        let Some(message) = cursor.head.take() else { return };
        cursor.last_time = cursor.last_time.max(Some(message.time));
        let end = position::at(message.offset + 1);
        let (partition, Reading { reader, shared, .. }) = (cursor.entry.number, &self.reading);
        let decode = || message.open(&cursor.topic, cursor.entry.partition, &shared.config);
        let (opened, reused) = shared.verdicts.open(reader, partition, &message, &cursor.topic, decode);
        let needed = end > cursor.next;
        let (mut duplicates, before) = (0, self.ready.len());
        for (number, envelope) in opened.events {
            let offset = position::pack(message.offset, number);
            let is_new = self.recent.insert(envelope.id);
            if offset < cursor.next {
                continue;
            }
            if !is_new {
                duplicates += 1;
                continue;
            }
            let record = Some(Record { position: Position { partition, offset }, envelope });
            self.ready.push_back(Step { record, partition, next: offset + 1 });
        }
        if !needed {
            return;
        }
        cursor.next = end;
        let tally = Tally {
            messages: 1,
            bytes: message.bytes as u64,
            events: (self.ready.len() - before) as u64,
            duplicates,
            reused: u64::from(reused),
            rejected: opened.rejected.iter().filter(|rejected| !rejected.repaired).count() as u64,
        };
        self.rejected.extend(opened.rejected);
        // the last event of a message ends it
        match self.ready.range_mut(before..).last() {
            Some(last) => last.next = end,
            None => self.ready.push_back(Step { record: None, partition, next: end }),
        }
        cursor.tally.add(&tally);
    }

    /// Tells what was made of messages, once for many of them.
    fn count(&mut self) {
        for cursor in &mut self.cursors {
            let tally = std::mem::take(&mut cursor.tally);
            if tally != Tally::default() {
                count(&self.reading, &cursor.topic, &tally);
            }
        }
    }
}

fn count(reading: &Reading, topic: &TopicConfig, tally: &Tally) {
    tally.count(&reading.reader, &topic.topic);
    if matches!(topic.contents, Contents::Events { .. }) {
        let mut state = reading.shared.lock();
        let of_reader = state.tallies.entry(Arc::clone(&reading.reader)).or_default();
        of_reader.entry(Arc::clone(&topic.topic)).or_default().add(tally);
    }
}

fn report_lost(reader: &str, cursor: &Cursor, messages: u64) {
    let Entry { topic, partition, .. } = &cursor.entry;
    status::report_lost(reader, topic, *partition, messages, position::message(cursor.next));
}
