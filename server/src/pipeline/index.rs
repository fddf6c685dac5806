//! The index stage: reads the log, adds documents, commits them with the position, retires old partitions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use watchbell_event::{Format, Positions, Record};
use watchbell_ingest::log::{Batch, Log, LogReader};
use watchbell_query::{Config, Index, IndexError, Searcher};

use super::stage::{self, Checkpoints, READER_INDEX};
use crate::{clock, self_audit};

/// What the log keeps together should come together.
const MAX_EVENTS: usize = 5_000;
const MAX_BYTES: usize = 8 << 20;
const RETIRE_EVERY: Duration = Duration::from_secs(60);
/// An event that arrives so much later than it happened may have been stored when it came for the first time.
const LATE_MICROS: i64 = 10_000_000;
/// Clusters whose audit events are counted.
const MAX_CLUSTERS: usize = 1_000;

/// What others see of the index; replaced when it had to be opened again.
pub(crate) struct IndexView {
    searcher: ArcSwap<Searcher>,
    positions: ArcSwap<Positions>,
    audit_totals: Mutex<BTreeMap<String, u64>>,
}

impl IndexView {
    pub(super) fn new(index: &Index) -> Self {
        Self {
            searcher: ArcSwap::from_pointee(index.searcher()),
            positions: ArcSwap::from_pointee(index.positions().clone()),
            audit_totals: Mutex::default(),
        }
    }

    pub(crate) fn searcher(&self) -> Searcher {
        Searcher::clone(&self.searcher.load())
    }

    /// Up to where the log can be searched.
    pub(crate) fn positions(&self) -> Arc<Positions> {
        self.positions.load_full()
    }

    /// How many live audit events were read of each cluster, if others receive them.
    pub(super) fn audit_totals(&self) -> BTreeMap<String, u64> {
        self.audit_totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, records: &[Record]) {
        let mut totals = self.audit_totals.lock().unwrap_or_else(PoisonError::into_inner);
        for Record { envelope, .. } in records {
            let is_audit = envelope.format == Format::KubernetesAudit && !envelope.history;
            if !is_audit || *envelope.cluster == *self_audit::CLUSTER {
                continue;
            }
            if let Some(total) = totals.get_mut(&*envelope.cluster) {
                *total += 1;
            } else if totals.len() < MAX_CLUSTERS {
                totals.insert(envelope.cluster.to_string(), 1);
            }
        }
    }
}

/// The stage before it runs.
pub(super) struct Indexing {
    pub(super) log: Log,
    pub(super) index: Index,
    pub(super) view: Arc<IndexView>,
    pub(super) config: Config,
    pub(super) dir: PathBuf,
    pub(super) commit_interval: Duration,
    /// Whether other processes receive: then what they cannot know is found out here, which events come again late and
    /// how many come from each cluster.
    pub(super) others_receive: bool,
}

impl Indexing {
    /// Runs until told to stop. When the index fails (a full disk, mostly) it is opened again, and what was
    /// not committed is read from the log again.
    pub(super) fn run(self, stopping: &watch::Receiver<bool>) {
        let Self { log, index, view, config, dir, commit_interval, others_receive } = self;
        let mut checkpoints = Checkpoints::new(log.clone(), READER_INDEX);
        let mut index = Some(index);
        loop {
            let opened = index.take().map_or_else(
                || stage::until_done("open the index again", stopping, || Index::open(config.clone(), &dir)),
                Some,
            );
            let Some(opened) = opened else { return };
            view.searcher.store(Arc::new(opened.searcher()));
            let reader = || log.reader(READER_INDEX, opened.positions());
            let Some(reader) = stage::until_done("read the log", stopping, reader) else { return };
            let mut running =
                Running { index: opened, reader, view: &view, checkpoints: &mut checkpoints, others_receive };
            match running.run(commit_interval, stopping) {
                Ok(()) => return,
                Err(error) => {
                    metrics::counter!("watchbell_index_failures_total").increment(1);
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the index failed; it is opened again and continues from its last commit"
                    );
                }
            }
            if !stage::pause(stopping) {
                return;
            }
        }
    }
}

struct Running<'a> {
    index: Index,
    reader: LogReader,
    view: &'a IndexView,
    checkpoints: &'a mut Checkpoints,
    others_receive: bool,
}

impl Running<'_> {
    fn run(&mut self, commit_interval: Duration, stopping: &watch::Receiver<bool>) -> Result<(), IndexError> {
        let (mut committed, mut retired, mut dirty) = (Instant::now(), Instant::now(), false);
        while let Some(batch) =
            stage::next(&mut self.reader, MAX_EVENTS, MAX_BYTES, commit_interval / 2, stopping)
        {
            dirty |= self.add(batch)?;
            if dirty && committed.elapsed() >= commit_interval {
                self.commit()?;
                (committed, dirty) = (Instant::now(), false);
            }
            if !dirty {
                self.show_positions();
                self.checkpoints.keep(self.index.positions());
            }
            if retired.elapsed() >= RETIRE_EVERY {
                self.index.apply_retention(clock::now())?;
                retired = Instant::now();
            }
        }
        if dirty { self.commit() } else { Ok(()) }
    }

    /// True if there is something to commit.
    fn add(&mut self, mut batch: Batch) -> Result<bool, IndexError> {
        if self.others_receive {
            self.view.count(&batch.records);
            self.drop_late_copies(&mut batch);
        }
        match &batch.packed {
            Some(packed) => self.index.add_packed(&batch.records, packed)?,
            None => self.index.add(&batch.records)?,
        }
        metrics::counter!("watchbell_index_events_total").increment(batch.records.len() as u64);
        let passed_over = self.index.pass_over(&batch.next);
        Ok(passed_over || !batch.records.is_empty())
    }

    /// What comes again soon is recognised by whoever reads the log. What comes late, such as a file that is sent again,
    /// is looked up.
    fn drop_late_copies(&self, batch: &mut Batch) {
        let records = &mut batch.records;
        let is_late = |record: &Record| {
            let Record { envelope, .. } = record;
            envelope.received_at.micros_since(envelope.event_time) > LATE_MICROS
        };
        let late = records.iter().filter(|record| is_late(record));
        let late: Vec<_> =
            late.map(|record| (record.envelope.id, Some(record.envelope.event_time))).collect();
        if late.is_empty() {
            return;
        }
        let stored = match self.view.searcher().contains(&late) {
            Ok(stored) => stored,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "failed to look up late events; those that were stored are stored twice"
                );
                return;
            }
        };
        let mut stored = stored.into_iter();
        let before = records.len();
        records.retain(|record| !is_late(record) || !stored.next().unwrap_or(false));
        let dropped = before - records.len();
        if dropped > 0 {
            batch.packed = None;
        }
        metrics::counter!("watchbell_index_late_duplicates_total").increment(dropped as u64);
    }

    fn commit(&mut self) -> Result<(), IndexError> {
        let started = Instant::now();
        self.index.commit()?;
        metrics::histogram!("watchbell_index_commit_seconds").record(started.elapsed().as_secs_f64());
        self.show_positions();
        self.checkpoints.keep(self.index.positions());
        Ok(())
    }

    fn show_positions(&self) {
        if **self.view.positions.load() != *self.index.positions() {
            self.view.positions.store(Arc::new(self.index.positions().clone()));
        }
    }
}
