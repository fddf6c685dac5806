//! Carries the outbox to the receivers: one worker each, so that a receiver that fails or is slow holds up
//! nobody else.

mod retry;
mod worker;

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;
use tokio::task::JoinSet;
use watchbell_event::Timestamp;

use crate::notify::Receiver;
use crate::store::{AlertStore, StoreError};
use worker::Worker;

/// How often the gauges of what waits are renewed.
const MEASURE_INTERVAL: Duration = Duration::from_secs(15);

/// How messages are sent and for how long it is tried.
#[derive(Clone, Debug)]
pub struct DispatchConfig {
    /// Where people reach this server; links in messages begin with it.
    pub external_url: Option<String>,
    /// The wait after the first failed attempt; it doubles with each further one.
    pub retry_min_ms: u64,
    /// The longest wait between attempts, unless a receiver asks for more.
    pub retry_max_ms: u64,
    /// How long a message is tried, at least eight times, before it becomes a dead letter.
    pub give_up_after_ms: u64,
    /// How many attempts a message gets before it becomes a dead letter.
    pub max_attempts: u64,
    /// How long attempts in flight may take to finish once the process is to stop.
    pub drain_timeout_ms: u64,
    /// How often old alerts are removed.
    pub prune_interval_ms: u64,
}

impl Default for DispatchConfig {
    fn default() -> Self {
        Self {
            external_url: None,
            retry_min_ms: 1_000,
            retry_max_ms: 5 * 60 * 1000,
            give_up_after_ms: 48 * 60 * 60 * 1000,
            max_attempts: 2_000,
            drain_timeout_ms: 5_000,
            prune_interval_ms: 60 * 60 * 1000,
        }
    }
}

/// Sends what the store's outbox holds.
#[derive(Debug)]
pub struct Dispatcher {
    store: AlertStore,
    config: Arc<DispatchConfig>,
    receivers: Vec<Receiver>,
}

impl Dispatcher {
    /// Prepares a worker for each receiver; nothing runs yet.
    #[must_use]
    pub fn new(store: AlertStore, config: DispatchConfig, receivers: Vec<Receiver>) -> Self {
        Self { store, config: Arc::new(config), receivers }
    }

    /// Sends until `shutdown` resolves, then lets attempts in flight finish within the drain time. What did
    /// not finish is due again at the next start, under its old id.
    ///
    /// # Errors
    /// If the outbox cannot be left in order at the end; opening the store again repairs that.
    pub async fn run<C>(self, clock: C, shutdown: impl Future<Output = ()>) -> Result<(), StoreError>
    where
        C: Fn() -> Timestamp + Clone + Send + Sync + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        self.warn_of_orphans().await;
        for receiver in self.receivers {
            let worker = Worker::new(receiver, self.store.clone(), Arc::clone(&self.config), clock.clone());
            workers.spawn(worker.run(stopped.clone()));
        }
        // Sets end their tasks when they are dropped, also if this future is.
        let mut housekeeping = JoinSet::new();
        housekeeping.spawn(housekeep(self.store.clone(), self.config.prune_interval_ms, clock));
        housekeeping.spawn(measure(self.store.clone()));
        shutdown.await;
        stop.send_replace(true);
        drop(housekeeping);
        let drain = Duration::from_millis(self.config.drain_timeout_ms);
        let drained =
            tokio::time::timeout(drain, async { while workers.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!(
                attempts = workers.len(),
                "stopped while attempts were in flight; they are due again"
            );
            workers.shutdown().await;
        }
        let store = self.store;
        blocking(move || store.interrupt()).await
    }

    /// Says which receivers are gone from the configuration while alerts still wait for them.
    async fn warn_of_orphans(&self) {
        let store = self.store.clone();
        let backlog = match blocking(move || store.backlog()).await {
            Ok(backlog) => backlog,
            Err(error) => return tracing::error!(error = &error as &dyn Error, "failed to read the backlog"),
        };
        for (receiver, notices) in backlog.pending {
            if !self.receivers.iter().any(|known| known.name == receiver) {
                tracing::warn!(receiver, notices, "alerts wait for a receiver that is not configured");
            }
        }
    }
}

/// Keeps the gauges of what waits.
async fn measure(store: AlertStore) {
    let mut interval = tokio::time::interval(MEASURE_INTERVAL);
    let mut seen = HashSet::new();
    loop {
        interval.tick().await;
        let store = store.clone();
        let Ok(backlog) = blocking(move || store.backlog()).await else { continue };
        let pending: HashMap<String, u64> = backlog.pending.into_iter().collect();
        seen.extend(pending.keys().cloned());
        for receiver in &seen {
            let notices = pending.get(receiver).copied().unwrap_or(0);
            gauge!("watchbell_alerting_pending", "receiver" => receiver.clone()).set(as_gauge(notices));
        }
        gauge!("watchbell_alerting_dead_letters").set(as_gauge(backlog.dead));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn as_gauge(count: u64) -> f64 {
    count as f64
}

/// Removes old alerts now and then.
async fn housekeep(store: AlertStore, interval_ms: u64, clock: impl Fn() -> Timestamp) {
    let mut interval = tokio::time::interval(Duration::from_millis(interval_ms.max(1000)));
    loop {
        interval.tick().await;
        let (store, now) = (store.clone(), clock());
        match blocking(move || store.prune(now)).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed alerts past their retention"),
            Err(error) => {
                tracing::error!(error = &error as &dyn Error, "failed to remove old alerts")
            }
        }
    }
}

/// Runs a call of the store where it may block.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Stopping),
        },
    }
}
