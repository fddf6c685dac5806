//! Follows log files: reads a batch, appends it, and only then notes how far the files are done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Handle;
use tokio::sync::watch;
use watchbell_event::Envelope;
use watchbell_ingest::tail::{Tail, TailBatch, TailConfig, TailState};

use super::ingest::{IngestError, IngestPort, Ingested};
use super::stage;
use crate::sources::{Delivery, Lag, Source, Sources};
use crate::{clock, files};

/// Name below the data directory.
const FILE: &str = "file-positions.json";
const MAX_BYTES: u64 = 64 << 20;
/// How long to wait when all was read.
const POLL_EVERY: Duration = Duration::from_millis(250);
/// How often positions are kept; after a crash, what came in later is read again and recognised.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// The stage that follows files.
pub(super) struct Following {
    tail: Tail,
    port: Arc<IngestPort>,
    sources: Arc<Sources>,
    path: PathBuf,
    kept: TailState,
    kept_at: Instant,
}

impl Following {
    /// Goes on where the positions in the data directory say.
    ///
    /// # Errors
    /// If they cannot be read: to read everything again would be worse than to say so.
    pub(super) fn open(
        config: TailConfig,
        data_dir: &std::path::Path,
        port: Arc<IngestPort>,
        sources: Arc<Sources>,
    ) -> Result<Self> {
        let path = data_dir.join(FILE);
        let state: Option<TailState> = if path.exists() {
            let bytes = files::read(&path, MAX_BYTES)?;
            let read = serde_json::from_slice(&bytes);
            Some(read.with_context(|| {
                format!(
                    "failed to read {}; without it, all files are read from their beginning",
                    path.display()
                )
            })?)
        } else {
            None
        };
        let tail = Tail::new(config, state);
        let kept = tail.state();
        let mut following = Self { tail, port, sources, path, kept, kept_at: Instant::now() };
        // from now on a start knows that there was one before
        following.write(following.kept.clone())?;
        Ok(following)
    }

    /// Follows files until it is time to stop.
    pub(super) fn run(mut self, stopping: &watch::Receiver<bool>) {
        while !*stopping.borrow() {
            let mut batch = self.tail.read(clock::now(), self.port.redactor());
            if !batch.is_empty() {
                if batch.keep_state_first && !self.keep(stopping) {
                    break;
                }
                if !self.append(&mut batch, stopping) {
                    break;
                }
                self.tail.commit(&batch);
            }
            if self.kept_at.elapsed() >= KEEP_EVERY && !self.keep(stopping) {
                break;
            }
            if !batch.more && !wait(POLL_EVERY, stopping) {
                break;
            }
        }
        let state = self.tail.state();
        if let Err(error) = self.write(state) {
            tracing::error!(
                error = &*error as &dyn std::error::Error,
                "failed to keep the positions of files"
            );
        }
    }

    /// Appends what was read, cluster by cluster. False if it is time to stop.
    fn append(&self, batch: &mut TailBatch, stopping: &watch::Receiver<bool>) -> bool {
        let mut clusters: BTreeMap<Arc<str>, Vec<Envelope>> = BTreeMap::new();
        for envelope in std::mem::take(&mut batch.envelopes) {
            clusters.entry(Arc::clone(&envelope.cluster)).or_default().push(envelope);
        }
        for (cluster, envelopes) in clusters {
            let Some(ingested) = self.take(&envelopes, batch.may_be_known, stopping) else { return false };
            let bytes = batch.cluster_bytes.get(&cluster).copied().unwrap_or_default();
            let delivery = Delivery { peer: None, bytes, outcome: Ok(&ingested) };
            self.sources.note(&source(&cluster), &delivery, clock::now());
        }
        true
    }

    /// Appends lines; while there is no room, they wait. Nothing if it is time to stop.
    fn take(
        &self,
        envelopes: &[Envelope],
        may_be_known: bool,
        stopping: &watch::Receiver<bool>,
    ) -> Option<Ingested> {
        let mut is_reported = false;
        loop {
            let taken = Handle::current().block_on(self.port.take_lines(envelopes.to_vec(), may_be_known));
            let error = match taken {
                Ok(ingested) => return Some(ingested),
                Err(error) => error,
            };
            metrics::counter!("watchbell_tail_waits_total").increment(1);
            if !is_reported && !matches!(error, IngestError::Busy) {
                is_reported = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to append lines of files; they wait, and are tried again every second"
                );
            }
            if !stage::pause(stopping) {
                return None;
            }
        }
    }

    /// Keeps the positions if they changed. False if it is time to stop.
    fn keep(&mut self, stopping: &watch::Receiver<bool>) -> bool {
        self.kept_at = Instant::now();
        for (cluster, bytes) in self.tail.lag_bytes() {
            self.sources.note_lag(&source(&cluster), Lag::Bytes(bytes), clock::now());
        }
        let state = self.tail.state();
        if state == self.kept {
            return true;
        }
        let mut is_reported = false;
        while let Err(error) = self.write(state.clone()) {
            metrics::counter!("watchbell_tail_waits_total").increment(1);
            if !std::mem::replace(&mut is_reported, true) {
                tracing::error!(
                    error = &*error as &dyn std::error::Error,
                    "failed to keep the positions of files; reading waits, and it is tried again every second"
                );
            }
            if !stage::pause(stopping) {
                return false;
            }
        }
        true
    }

    fn write(&mut self, state: TailState) -> Result<()> {
        files::write_private(&self.path, &serde_json::to_vec(&state)?)?;
        self.kept = state;
        Ok(())
    }
}

/// What is counted as one source.
fn source(cluster: &str) -> Source {
    Source { cluster: cluster.to_owned(), route: "files".into(), credential: None }
}

/// Waits; false if it is time to stop.
fn wait(span: Duration, stopping: &watch::Receiver<bool>) -> bool {
    Handle::current().block_on(super::pause(span, stopping))
}
