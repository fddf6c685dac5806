//! The one thread that writes: what waits becomes one frame, which is synced before its appends are
//! answered.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::cache::Cached;
use super::disk::DiskFile;
use super::frame::{Compressor, Encoded, HEADER_BYTES};
use super::merkle::Hash;
use super::open::Tail;
use super::{Reserved, Segment, Shared, segment};
use crate::log::{AppendError, FullReason, LogState};

/// What the writer is asked to do.
pub(super) enum Command {
    Append(Job),
    /// Number the next record at least this.
    SkipTo(u64),
    Close(oneshot::Sender<()>),
}

/// One append.
pub(super) struct Job {
    pub(super) encoded: Encoded,
    /// Told the offset of the first record.
    pub(super) reply: oneshot::Sender<Result<u64, AppendError>>,
    pub(super) _reserved: Reserved,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    compressor: Compressor,
    active: Option<Active>,
    next: u64,
    previous: Hash,
}

/// The segment that takes new frames.
#[derive(Clone)]
struct Active {
    file: Arc<dyn DiskFile>,
    segment: Segment,
    /// It was made just now, so its name is not durable.
    new: bool,
}

/// Why a frame was not written.
enum WriteError {
    /// The journal is as it was before; the next append is tried again.
    Refused(AppendError),
    /// What is on the disk is unknown, so nothing may be appended any more.
    Fatal(AppendError),
}

impl From<FullReason> for WriteError {
    fn from(reason: FullReason) -> Self {
        Self::Refused(AppendError::Full(reason))
    }
}

impl Writer {
    /// # Errors
    /// If there is no memory for it.
    pub(super) fn new(shared: Arc<Shared>, tail: Tail) -> io::Result<Self> {
        let active = tail.active.map(|(file, segment)| Active { file, segment, new: false });
        let compressor = Compressor::new()?;
        Ok(Self { shared, compressor, active, next: tail.next, previous: tail.previous })
    }

    /// Works until it is told to close, or all handles on the journal are gone.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut closing = None;
        while let Ok(command) = commands.recv() {
            let mut command = Some(command);
            while let Some(now) = command.take() {
                match self.handle(now, commands) {
                    ControlFlow::Continue(next) => command = next,
                    ControlFlow::Break(reply) => closing = Some(reply),
                }
            }
            if closing.is_some() {
                break;
            }
        }
        self.shared.end.send_modify(|end| end.closed = true);
        // the lock on the directory is given up before anybody hears that the journal is closed
        drop(self);
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
    }

    /// Returns the command that ended a group of appends, if one did.
    fn handle(
        &mut self,
        command: Command,
        commands: &Receiver<Command>,
    ) -> ControlFlow<oneshot::Sender<()>, Option<Command>> {
        match command {
            Command::Append(job) => {
                let (jobs, next) = self.collect(job, commands);
                self.commit(jobs);
                return ControlFlow::Continue(next);
            }
            Command::SkipTo(offset) if offset > self.next => {
                tracing::error!(
                    end = self.next,
                    reader = offset,
                    "a reader has come further than the journal"
                );
                self.next = offset;
                self.shared.end.send_modify(|end| end.next = offset);
            }
            Command::SkipTo(_) => {}
            Command::Close(reply) => return ControlFlow::Break(reply),
        }
        ControlFlow::Continue(None)
    }

    /// Waits a moment for further appends, so that they share one sync.
    fn collect(&self, first: Job, commands: &Receiver<Command>) -> (Vec<Job>, Option<Command>) {
        let config = &self.shared.config;
        let deadline = Instant::now() + Duration::from_micros(config.group_wait_micros);
        let mut bytes = first.encoded.raw.len();
        let mut jobs = vec![first];
        while bytes < config.frame_bytes {
            match commands.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Command::Append(job)) => {
                    bytes += job.encoded.raw.len();
                    jobs.push(job);
                }
                Ok(other) => return (jobs, Some(other)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        (jobs, None)
    }

    /// Writes the appends as one frame and answers them.
    fn commit(&mut self, mut jobs: Vec<Job>) {
        let started = Instant::now();
        let mut counts = Vec::with_capacity(jobs.len());
        let mut all = Encoded::default();
        for job in &mut jobs {
            counts.push(u64::from(job.encoded.count()));
            all.append(std::mem::take(&mut job.encoded));
        }
        let mut first = self.next;
        let written = self.write(all);
        self.note_state(&written);
        let written = written.map_err(|(WriteError::Refused(error) | WriteError::Fatal(error))| error);
        for (job, count) in jobs.into_iter().zip(counts) {
            let _ = job.reply.send(written.clone().map(|()| first));
            first += count;
        }
        metrics::histogram!("watchbell_log_commit_seconds").record(started.elapsed());
    }

    fn note_state(&self, written: &Result<(), WriteError>) {
        let mut state = self.shared.state();
        match written {
            Err(WriteError::Refused(AppendError::Full(reason))) => *state = LogState::Full(*reason),
            Err(WriteError::Fatal(error)) if !matches!(*state, LogState::Failed(_)) => {
                tracing::error!(%error, "the journal takes no more records until it is opened anew");
                *state = LogState::Failed(error.to_string().into());
            }
            Err(WriteError::Refused(error)) if !matches!(*state, LogState::Failed(_)) => {
                tracing::error!(%error, "the journal did not take an append; the next is tried again");
                metrics::counter!("watchbell_log_refused_frames_total").increment(1);
            }
            Ok(()) if matches!(*state, LogState::Full(_)) => *state = LogState::Open,
            _ => {}
        }
        let full = matches!(*state, LogState::Full(_));
        let failed = matches!(*state, LogState::Failed(_));
        drop(state);
        metrics::gauge!("watchbell_log_full").set(f64::from(u8::from(full)));
        metrics::gauge!("watchbell_log_failed").set(f64::from(u8::from(failed)));
    }

    /// Writes one frame durably and shows it to readers.
    fn write(&mut self, records: Encoded) -> Result<(), WriteError> {
        if let LogState::Failed(reason) = &*self.shared.state() {
            return Err(WriteError::Refused(AppendError::Failed(reason.clone())));
        }
        let (header, bytes) = records
            .frame(&mut self.compressor, self.shared.marker, self.next, self.previous)
            .map_err(|error| WriteError::Refused(failed("compress", &error)))?;
        self.check_room(bytes.len() as u64)?;
        let mut active = self.segment_for(bytes.len() as u64)?;
        self.write_at_end(&active, &bytes)?;
        active.file.sync().map_err(|error| fatal("sync", &error))?;
        if active.new {
            self.shared.disk.sync_dir().map_err(|error| fatal("sync the directory of", &error))?;
        }
        active.segment.len += bytes.len() as u64;
        active.segment.newest = active.segment.newest.max(Some(header.newest));
        self.publish(&active);
        self.active = Some(Active { new: false, ..active });
        (self.next, self.previous) = (header.end(), header.hash());
        let packed = header.packed(&Bytes::from(bytes).slice(HEADER_BYTES..));
        let raw = records.raw.into();
        self.shared.cache().push(Cached { first: header.first, count: header.count, raw, packed });
        self.shared.end.send_modify(|end| end.next = header.end());
        metrics::counter!("watchbell_log_appended_records_total").increment(u64::from(header.count));
        metrics::counter!("watchbell_log_written_bytes_total").increment(header.frame_len());
        Ok(())
    }

    fn check_room(&self, len: u64) -> Result<(), WriteError> {
        let config = &self.shared.config;
        let total: u64 = self.shared.segments().iter().map(|segment| segment.len).sum();
        metrics::gauge!("watchbell_log_bytes").set(total as f64);
        if total + len > config.max_bytes {
            return Err(FullReason::SizeLimit.into());
        }
        let free = self.shared.disk.free_bytes();
        let free = free.map_err(|error| WriteError::Refused(failed("find the free space of", &error)))?;
        if free < config.keep_free_bytes.saturating_add(len) {
            return Err(FullReason::LowDisk.into());
        }
        Ok(())
    }

    /// The segment that takes a frame of this length; a new one if the newest is long enough.
    fn segment_for(&self, len: u64) -> Result<Active, WriteError> {
        let limit = self.shared.config.segment_bytes;
        match &self.active {
            Some(active) if active.segment.len == 0 || active.segment.len + len <= limit => {
                Ok(active.clone())
            }
            _ => {
                let name = segment::name(self.next);
                // nothing was written, so a process that is out of file handles, for one, may try again
                let file = self.shared.disk.create(&name).map_err(|error| match no_space(&error) {
                    Some(full) => full,
                    None => WriteError::Refused(failed("create a segment of", &error)),
                })?;
                Ok(Active { file, segment: Segment { first: self.next, len: 0, newest: None }, new: true })
            }
        }
    }

    /// Writes a frame behind the last one. What is written of it is cut off again if it does not fit.
    fn write_at_end(&self, active: &Active, bytes: &[u8]) -> Result<(), WriteError> {
        let Err(error) = active.file.write_at(bytes, active.segment.len) else { return Ok(()) };
        let undone = match active.new {
            true => self.shared.disk.remove(&segment::name(active.segment.first)),
            false => active.file.truncate(active.segment.len),
        };
        undone.map_err(|error| fatal("undo an incomplete write to", &error))?;
        Err(no_space(&error).unwrap_or_else(|| fatal("write", &error)))
    }

    fn publish(&self, active: &Active) {
        let mut segments = self.shared.segments();
        match segments.last_mut() {
            Some(last) if last.first == active.segment.first => *last = active.segment,
            _ => segments.push(active.segment),
        }
    }
}

/// The answer to a disk that took no more bytes.
fn no_space(error: &io::Error) -> Option<WriteError> {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    full.then(|| FullReason::NoSpace.into())
}

fn fatal(action: &str, error: &io::Error) -> WriteError {
    WriteError::Fatal(failed(action, error))
}

fn failed(action: &str, error: &io::Error) -> AppendError {
    AppendError::Failed(format!("failed to {action} the journal: {error}").into())
}
