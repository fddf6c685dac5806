//! What correlations know, on disk: a snapshot and the positions in the log up to which it counts.
//!
//! ```text
//! file = one line of JSON {"positions", "blake3"}, then the snapshot
//! ```
//!
//! It is written after the detections up to those positions were committed, so it is never ahead of the
//! alerts: a start goes on from it and reads again what lies between, and the alert store recognises what it
//! has already.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use watchbell_event::Positions;
use watchbell_rules::{Correlator, Snapshot};

use crate::files;

/// Name below the data directory.
const FILE: &str = "correlation-state";
/// Largest file that is read: more than the snapshot of all the memory that correlations may take.
const MAX_BYTES: u64 = 3 << 30;
/// How often the file is written, at most.
const EVERY: Duration = Duration::from_secs(20);
/// Making and writing a snapshot takes at most this part of the time.
const SHARE: u32 = 50;
/// So much of a snapshot is copied between two batches of events, which takes about a millisecond: alerts must not
/// wait for it.
const PART_BYTES: usize = 256 << 10;

/// Where the state of correlations is kept.
pub(super) struct StateFile {
    path: PathBuf,
    due: Instant,
    step: Step,
    /// The positions that the file counts up to, if this process wrote it.
    written: Option<Positions>,
}

/// How far the next file is.
enum Step {
    /// There is nothing to do until it is due.
    Waiting,
    /// The snapshot counts up to these positions and is being made, which took so long until now.
    Copying { positions: Positions, spent: Duration },
    /// A thread of its own puts it together and writes it.
    Writing { positions: Positions, spent: Duration, thread: JoinHandle<Result<Duration>> },
}

#[derive(Serialize, Deserialize)]
struct Header {
    positions: Positions,
    /// Over the positions and the snapshot.
    blake3: String,
}

impl StateFile {
    /// Below this data directory.
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE), due: Instant::now(), step: Step::Waiting, written: None }
    }

    /// Where to read on, and the snapshot that counts up to there; none if correlations begin anew, where
    /// alerts were committed last.
    pub(super) fn resume(&self, committed: &Positions) -> (Positions, Option<Vec<u8>>) {
        if !self.path.exists() {
            if *committed != Positions::default() {
                tracing::error!(
                    file = %self.path.display(),
                    "the file is missing; correlations begin anew, and what they had counted is lost"
                );
            }
            return (committed.clone(), None);
        }
        match self.load(committed) {
            Ok((positions, snapshot)) => (positions, Some(snapshot)),
            Err(error) => {
                tracing::error!(
                    error = &*error as &dyn std::error::Error,
                    "failed to restore correlations; what they had counted is lost"
                );
                (committed.clone(), None)
            }
        }
    }

    /// Whether it is time for a snapshot of what counts up to these positions.
    pub(super) fn is_due(&self, positions: &Positions) -> bool {
        matches!(self.step, Step::Waiting)
            && Instant::now() >= self.due
            && self.written.as_ref() != Some(positions)
    }

    /// Gives up a snapshot that is not done, to make a newer one.
    pub(super) fn give_up_copying(&mut self) {
        if self.is_copying() {
            self.step = Step::Waiting;
        }
    }

    /// Whether a snapshot is being made.
    pub(super) fn is_copying(&self) -> bool {
        matches!(self.step, Step::Copying { .. })
    }

    /// Begins a snapshot of what counts up to these positions.
    pub(super) fn begin(&mut self, correlator: &mut Correlator, positions: &Positions) {
        correlator.begin_snapshot();
        self.step = Step::Copying { positions: positions.clone(), spent: Duration::ZERO };
    }

    /// Does the next part of what was begun, or if asked to, all of it. Returns the positions that the file counts
    /// up to, once it is written; it replaces the one before.
    ///
    /// # Errors
    /// If it cannot be written; then the one before stays.
    pub(super) fn go_on(&mut self, correlator: &mut Correlator, finish: bool) -> Result<Option<Positions>> {
        if let Step::Copying { positions, spent } = &mut self.step {
            let started = Instant::now();
            let snapshot = correlator.copy(if finish { usize::MAX } else { PART_BYTES });
            *spent += started.elapsed();
            match snapshot {
                Some(snapshot) => {
                    let (positions, spent) = (std::mem::take(positions), *spent);
                    self.write(positions, spent, snapshot)?;
                }
                None if correlator.is_copying() => {}
                // The rules changed.
                None => self.step = Step::Waiting,
            }
        }
        let Step::Writing { thread, .. } = &self.step else { return Ok(None) };
        if !finish && !thread.is_finished() {
            return Ok(None);
        }
        match std::mem::replace(&mut self.step, Step::Waiting) {
            Step::Writing { positions, spent, thread } => {
                self.due = Instant::now() + EVERY;
                let written =
                    thread.join().unwrap_or_else(|_| bail!("the thread that keeps correlations panicked"));
                self.due = Instant::now() + EVERY.max((spent + written?) * SHARE);
                self.written = Some(positions.clone());
                Ok(Some(positions))
            }
            _ => Ok(None),
        }
    }

    /// # Errors
    /// If the system gives no thread.
    fn write(&mut self, positions: Positions, spent: Duration, snapshot: Snapshot) -> Result<()> {
        self.step = Step::Waiting;
        self.due = Instant::now() + EVERY;
        let (path, of) = (self.path.clone(), positions.clone());
        let thread = std::thread::Builder::new()
            .name("correlations".to_owned())
            .spawn(move || {
                let started = Instant::now();
                write(&path, &of, &snapshot.into_bytes()).map(|()| started.elapsed())
            })
            .context("failed to start the thread that keeps correlations")?;
        self.step = Step::Writing { positions, spent, thread };
        Ok(())
    }

    fn load(&self, committed: &Positions) -> Result<(Positions, Vec<u8>)> {
        let mut bytes = files::read(&self.path, MAX_BYTES)?;
        let end = bytes.iter().position(|byte| *byte == b'\n').context("the file has no header")?;
        let header: Header = serde_json::from_slice(&bytes[..end]).context("the file has no sound header")?;
        let snapshot = bytes.split_off(end + 1);
        if checksum(&header.positions, &snapshot)? != header.blake3 {
            bail!("the file is damaged");
        }
        if header.positions.iter().any(|(partition, next)| next > committed.next(partition)) {
            bail!("the file is ahead of the alerts, which were replaced by older ones");
        }
        Ok((header.positions, snapshot))
    }
}

/// # Errors
/// Names the file.
fn write(path: &Path, positions: &Positions, snapshot: &[u8]) -> Result<()> {
    let header = Header { positions: positions.clone(), blake3: checksum(positions, snapshot)? };
    files::write_private_parts(path, &[&serde_json::to_vec(&header)?, b"\n", snapshot])
}

fn checksum(positions: &Positions, snapshot: &[u8]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&serde_json::to_vec(positions)?).update(snapshot);
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use watchbell_event::Position;
    use watchbell_rules::{CorrelationConfig, RuleSet};

    use super::*;

    fn positions(next: u64) -> Positions {
        let mut positions = Positions::default();
        positions.advance_past(Position { partition: 0, offset: next - 1 });
        positions
    }

    #[test]
    fn what_was_saved_is_resumed_unless_it_is_damaged_or_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = StateFile::new(dir.path());
        assert_eq!(file.resume(&positions(9)), (positions(9), None));
        let set = Arc::new(RuleSet::compile(Vec::new()));
        let mut correlator = Correlator::new(set, CorrelationConfig::default());
        assert!(file.is_due(&positions(7)));
        file.begin(&mut correlator, &positions(7));
        assert!(file.is_copying() && !file.is_due(&positions(7)));
        assert_eq!(file.go_on(&mut correlator, true).unwrap(), Some(positions(7)));
        file.due = Instant::now();
        assert!(!file.is_due(&positions(7)) && file.is_due(&positions(8)));
        assert!(file.go_on(&mut correlator, true).unwrap().is_none());
        let saved = Some(correlator.snapshot());
        assert_eq!(file.resume(&positions(9)), (positions(7), saved.clone()));
        assert_eq!(file.resume(&positions(7)), (positions(7), saved));
        assert_eq!(file.resume(&positions(6)), (positions(6), None));
        let mut bytes = std::fs::read(&file.path).unwrap();
        for at in [bytes.len() - 1, bytes.iter().position(|byte| *byte == b'7').unwrap()] {
            bytes[at] ^= 1;
            std::fs::write(&file.path, &bytes).unwrap();
            assert_eq!(file.resume(&positions(9)), (positions(9), None));
            bytes[at] ^= 1;
        }
    }
}
