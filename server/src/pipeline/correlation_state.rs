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

use crate::files;

/// Name below the data directory.
const FILE: &str = "correlation-state";
/// Largest file that is read: more than the snapshot of all the memory that correlations may take.
const MAX_BYTES: u64 = 3 << 30;
/// How often the file is written, at most.
const EVERY: Duration = Duration::from_secs(10);
/// Making and writing a snapshot takes at most this part of the time: while a large one is made, alerts wait,
/// which no more than one in so many should notice.
const SHARE: u32 = 200;

/// Where the state of correlations is kept.
pub(super) struct StateFile {
    path: PathBuf,
    due: Instant,
    writing: Option<Writing>,
}

/// A snapshot on its way to the disk, in a thread of its own: alerts do not wait for it.
struct Writing {
    positions: Positions,
    started: Instant,
    thread: JoinHandle<Result<()>>,
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
        Self { path: data_dir.join(FILE), due: Instant::now(), writing: None }
    }

    /// Where to read on, and the snapshot that counts up to there; none if correlations begin anew, where
    /// alerts were committed last.
    pub(super) fn resume(&self, committed: &Positions) -> (Positions, Option<Vec<u8>>) {
        if !self.path.exists() {
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

    /// Whether it is time to write.
    pub(super) fn is_due(&self) -> bool {
        self.writing.is_none() && Instant::now() >= self.due
    }

    /// Begins to write a snapshot that counts up to these positions. It replaces the one before or, if that
    /// fails, leaves it. Making the snapshot began at `started`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn begin(&mut self, positions: &Positions, snapshot: Vec<u8>, started: Instant) -> Result<()> {
        let (path, of) = (self.path.clone(), positions.clone());
        let thread = std::thread::Builder::new()
            .name("correlations".to_owned())
            .spawn(move || write(&path, &of, &snapshot))
            .context("failed to start the thread that keeps correlations")?;
        self.writing = Some(Writing { positions: positions.clone(), started, thread });
        Ok(())
    }

    /// The positions that the file counts up to now, once it is written; waits for that if asked to.
    pub(super) fn finish(&mut self, wait: bool) -> Option<Result<Positions>> {
        let Writing { positions, started, thread } =
            self.writing.take_if(|writing| wait || writing.thread.is_finished())?;
        self.due = Instant::now() + EVERY.max(started.elapsed() * SHARE);
        let written = thread.join().unwrap_or_else(|_| bail!("the thread that keeps correlations panicked"));
        Some(written.map(|()| positions))
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
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(snapshot);
    files::write_private(path, &bytes)
}

fn checksum(positions: &Positions, snapshot: &[u8]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&serde_json::to_vec(positions)?).update(snapshot);
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use watchbell_event::Position;

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
        file.begin(&positions(7), b"state\nof correlations".to_vec(), Instant::now()).unwrap();
        assert_eq!(file.finish(true).unwrap().unwrap(), positions(7));
        assert!(!file.is_due() && file.finish(true).is_none());
        let saved = Some(b"state\nof correlations".to_vec());
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
