//! Log files of containers and nodes, followed as they grow.
//!
//! ```text
//! paths ──find──► files ──turn by turn──► lines ──join──► records ──decode──► batch of envelopes
//!                   ▲                                                             │ append, durable
//!                   └──────────────── commit: this far is done ◄──────────────────┘
//! ```
//!
//! Sizes are looked at a few times per second: that works on every file system, and costs one system call per file.
//!
//! A file is known by device, inode and a hash of its first line (inodes are used again), counted up when the same
//! file is emptied. A record is known by its file and the byte at which it begins. What is read becomes done only by
//! [`Tail::commit`], and the caller keeps [`Tail::state`] on disk; what was appended after the last time it did so is
//! read again after a crash, gives the same records with the same identities, and is recognised. Where that would
//! not be so (time ended a record, a file began anew) the batch asks for the state to be kept *before* it is appended.
//!
//! # Limits
//! [`TailConfig::max_files`] are open at one time, others wait until some are gone. A batch holds at most
//! [`TailConfig::batch_bytes`] and one turn of one file. Files take turns. Records that wait for what follows have
//! [`TailConfig::open_bytes`] together; beyond that they end early.

mod container;
mod discover;
mod file;
mod joining;
mod lines;
mod pattern;
mod round;
mod state;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use watchbell_event::{Envelope, Timestamp};

use self::discover::Unreadable;
use self::file::{FileKey, Followed};
use self::lines::Progress;
use self::round::Round;
use self::state::FileState;
use crate::decode::Origin;
use crate::decode::logs::{LineFormat, LogLimits};
use crate::redact::Redactor;

pub use self::container::Container;
pub use self::lines::LineLimits;
pub use self::pattern::{PathPattern, PatternError};
pub use self::state::TailState;

/// Bytes that one file may read in one turn; a line that is longer is cut.
const TURN_BYTES: usize = 512 << 10;
/// Files that are not followed any more but remembered, because another one may get their numbers.
const REMEMBERED_FILES: usize = 10_000;

/// What to follow, and bounds.
#[derive(Clone, Debug)]
pub struct TailConfig {
    /// Which files; the first that takes a file counts.
    pub sources: Vec<TailSource>,
    /// The pod that this process runs in, whose files are left alone: what it says of a line would be another line.
    pub own: OwnPod,
    /// Bounds of records.
    pub lines: LineLimits,
    /// Bounds of decoding.
    pub logs: LogLimits,
    /// Files that are open at one time.
    pub max_files: usize,
    /// Bytes of files in one batch.
    pub batch_bytes: usize,
    /// Memory of records that wait for what follows.
    pub open_bytes: usize,
    /// How often new files are looked for, in microseconds.
    pub discover_micros: i64,
}

impl Default for TailConfig {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            own: OwnPod::default(),
            lines: LineLimits::default(),
            logs: LogLimits::default(),
            max_files: 4_096,
            batch_bytes: 4 << 20,
            open_bytes: 64 << 20,
            discover_micros: 1_000_000,
        }
    }
}

/// Files that are treated alike.
#[derive(Clone, Debug)]
pub struct TailSource {
    /// Which files. Compressed ones are left alone.
    pub pattern: PathPattern,
    /// Which of them are not meant.
    pub exclude: Vec<PathPattern>,
    /// The name of the source in records.
    pub source: Arc<str>,
    /// The cluster they belong to.
    pub cluster: Arc<str>,
    /// What their lines are; by default each is recognised by its content.
    pub format: Option<LineFormat>,
}

impl TailSource {
    fn origin(&self, received_at: Timestamp) -> Origin {
        let (source, cluster) = (Arc::from(&*self.source), Arc::from(&*self.cluster));
        Origin { source, cluster, peer: None, received_at, history: false }
    }
}

/// A pod, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct OwnPod {
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its uid.
    pub uid: Option<String>,
}

impl OwnPod {
    fn is(&self, container: &Container) -> bool {
        if self.uid.is_some() && container.pod_uid.is_some() {
            return self.uid == container.pod_uid;
        }
        let is_same_namespace = self.namespace.is_none() || self.namespace == container.namespace;
        self.name.is_some() && self.name == container.pod && is_same_namespace
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct TailBatch {
    /// To be appended.
    pub envelopes: Vec<Envelope>,
    /// The state must be kept before the envelopes are appended.
    pub keep_state_first: bool,
    /// Some of the envelopes may have been appended by a run before.
    pub may_be_known: bool,
    /// Bytes of files.
    pub bytes: u64,
    /// The same, by cluster.
    pub cluster_bytes: BTreeMap<Arc<str>, u64>,
    /// More can be read at once.
    pub more: bool,
    /// How far files are done with it.
    marks: HashMap<FileKey, Progress>,
}

impl TailBatch {
    /// True if nothing was read and nothing has to be committed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

/// Files that are followed.
pub struct Tail {
    config: TailConfig,
    files: Vec<Followed>,
    /// Files of which something is known that are not followed.
    remembered: Vec<FileState>,
    /// A run before may have appended more than it kept.
    had_state: bool,
    discovered_at: Option<Timestamp>,
    unreadable: Unreadable,
    /// Whose turn it is.
    next: usize,
    buffer: Vec<u8>,
    /// As many as the last batch had are made room for.
    records: usize,
}

impl Tail {
    /// Goes on from a state; without one, all files are read from their beginning.
    #[must_use]
    pub fn new(config: TailConfig, state: Option<TailState>) -> Self {
        Self {
            config,
            files: Vec::new(),
            had_state: state.is_some(),
            remembered: state.unwrap_or_default().files,
            discovered_at: None,
            unreadable: Unreadable::default(),
            next: 0,
            buffer: vec![0; TURN_BYTES],
            records: 0,
        }
    }

    /// Reads what can be read now. The batch must be committed before the next one is read; if that cannot be, this
    /// tail must be given up.
    pub fn read(&mut self, now: Timestamp, redactor: &Redactor) -> TailBatch {
        let is_due = |at| now.micros_since(at) >= self.config.discover_micros || now < at;
        if self.discovered_at.is_none_or(is_due) {
            self.discover(now);
            self.discovered_at = Some(now);
        }
        let origins: Vec<Origin> = self.config.sources.iter().map(|source| source.origin(now)).collect();
        let mut round = Round::new(&self.config, &origins, &mut self.buffer, redactor, now);
        round.batch.envelopes.reserve(self.records);
        self.next = round.take_turns(&mut self.files, self.next, &mut self.unreadable);
        round.end_waiting(&mut self.files, &mut self.unreadable);
        let mut batch = round.batch;
        self.records = batch.envelopes.len();
        for file in &self.files {
            let progress = file.progress();
            if progress != file.durable || file.is_finished() {
                // a file of which nothing is kept could not be found again if it were renamed
                batch.keep_state_first |= file.durable == Progress::default();
                batch.marks.insert(file.key, progress);
            }
        }
        self.publish();
        batch
    }

    /// What the batch holds is durable now.
    pub fn commit(&mut self, batch: &TailBatch) {
        for file in &mut self.files {
            if let Some(progress) = batch.marks.get(&file.key) {
                file.durable = *progress;
            }
        }
        for file in self.files.extract_if(.., |file| file.is_finished()) {
            self.remembered.extend(file.state());
        }
        let surplus = self.remembered.len().saturating_sub(REMEMBERED_FILES);
        self.remembered.drain(..surplus);
    }

    /// How far everything is durable, to be kept.
    #[must_use]
    pub fn state(&self) -> TailState {
        let followed = self.files.iter().filter_map(Followed::state);
        TailState { files: self.remembered.iter().cloned().chain(followed).collect() }
    }

    /// Bytes that are not read yet, by cluster.
    #[must_use]
    pub fn lag_bytes(&self) -> BTreeMap<Arc<str>, u64> {
        let mut lag: BTreeMap<_, u64> =
            self.config.sources.iter().map(|source| (Arc::clone(&source.cluster), 0)).collect();
        for file in &self.files {
            let cluster = &self.config.sources[file.about.source].cluster;
            *lag.entry(Arc::clone(cluster)).or_default() += file.lag_bytes();
        }
        lag
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
    fn publish(&self) {
        let lag: u64 = self.files.iter().map(Followed::lag_bytes).sum();
        metrics::gauge!("watchbell_tail_lag_bytes").set(lag as f64);
        metrics::gauge!("watchbell_tail_files", "state" => "followed").set(self.files.len() as f64);
        metrics::gauge!("watchbell_tail_files", "state" => "unreadable").set(self.unreadable.len() as f64);
    }
}

#[cfg(test)]
mod tests;
