//! What both readers of the log have in common. Each is an ordinary thread: the work between two reads is
//! computation or blocking I/O.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Handle;
use tokio::sync::watch;
use watchbell_event::Positions;
use watchbell_ingest::log::{Batch, Log, LogError, LogReader};

/// Names under which the log keeps the readers' positions.
pub(super) const READER_DETECT: &str = "detect";
pub(super) const READER_INDEX: &str = "index";

const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Starts a stage's thread. Should it panic, `failed` says which one it was: a server that goes on answering
/// while it no longer detects would be worse than none.
///
/// # Errors
/// If the system gives no thread.
pub(super) fn spawn(
    name: &'static str,
    failed: watch::Sender<Option<&'static str>>,
    run: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>> {
    let handle = Handle::current();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _runtime = handle.enter();
        if std::panic::catch_unwind(AssertUnwindSafe(run)).is_err() {
            failed.send_replace(Some(name));
        }
    });
    thread.with_context(|| format!("failed to start the {name} thread"))
}

/// Waits for records, but not longer than `patience`; an empty batch says that there were none. Nothing if
/// it is time to stop.
pub(super) fn next(
    reader: &mut LogReader,
    max_events: usize,
    max_bytes: usize,
    patience: Duration,
    stopping: &watch::Receiver<bool>,
) -> Option<Batch> {
    let mut stop = stopping.clone();
    let next = async {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            batch = reader.next(max_events, max_bytes) => Some(batch),
            () = tokio::time::sleep(patience) => Some(Ok(Batch::default())),
        }
    };
    match Handle::current().block_on(next)? {
        Ok(batch) => Some(batch),
        Err(LogError::Closed) => None,
        Err(error) => {
            tracing::error!(error = &error as &dyn Error, "failed to read the log; trying again");
            pause(stopping).then(Batch::default)
        }
    }
}

/// Does something again and again until it works; gives up only when it is time to stop, because then the
/// next start repeats it.
pub(super) fn until_done<T, E: Error + 'static>(
    what: &'static str,
    stopping: &watch::Receiver<bool>,
    mut work: impl FnMut() -> Result<T, E>,
) -> Option<T> {
    loop {
        match work() {
            Ok(done) => return Some(done),
            Err(error) => {
                metrics::counter!("watchbell_stage_retries_total", "stage" => what).increment(1);
                tracing::error!(error = &error as &dyn Error, "failed to {what}; trying again");
            }
        }
        if !pause(stopping) {
            return None;
        }
    }
}

/// Tells the log what a reader no longer needs, so that it may delete segments. That is not urgent, and
/// each time costs an fsync; a checkpoint that is late only keeps segments longer.
pub(super) struct Checkpoints {
    log: Log,
    reader: &'static str,
    kept: Positions,
    kept_at: Option<Instant>,
}

impl Checkpoints {
    pub(super) fn new(log: Log, reader: &'static str) -> Self {
        Self { log, reader, kept: Positions::default(), kept_at: None }
    }

    pub(super) fn keep(&mut self, positions: &Positions) {
        if self.kept == *positions || self.kept_at.is_some_and(|at| at.elapsed() < CHECKPOINT_EVERY) {
            return;
        }
        self.kept_at = Some(Instant::now());
        self.kept = positions.clone();
        if let Err(error) = Handle::current().block_on(self.log.checkpoint(self.reader, positions)) {
            tracing::warn!(
                error = &error as &dyn Error,
                reader = self.reader,
                "failed to keep a position in the log"
            );
        }
    }
}

/// Says so if a reader has come further than the log goes: its end was damaged, or the journal was deleted or
/// restored from a backup. The log goes on with the numbers after those, so that nothing new is passed over;
/// refusing to start would only lose more.
pub(super) fn report_missing(log: &Log, reader: &'static str, positions: &Positions) {
    for (partition, end) in log.end().iter() {
        let missing = positions.next(partition).saturating_sub(end);
        if missing > 0 {
            metrics::counter!("watchbell_log_missing_records_total", "reader" => reader).increment(missing);
            tracing::error!(
                reader,
                missing,
                first_missing = end,
                end_missing = positions.next(partition),
                "the journal ends before records that were read from it already: its end was damaged, or it was \
                 deleted or restored; these records are no longer in it, and readers that are behind miss them"
            );
        }
    }
}

/// Waits a moment; false if it is time to stop.
pub(super) fn pause(stopping: &watch::Receiver<bool>) -> bool {
    let mut stop = stopping.clone();
    let stopped = async { tokio::time::timeout(RETRY_AFTER, stop.wait_for(|stop| *stop)).await.is_ok() };
    !Handle::current().block_on(stopped)
}
