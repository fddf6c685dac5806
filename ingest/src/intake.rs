//! The way into the log: events that are known already are dropped, and success means durable.

mod window;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use watchbell_event::{Envelope, EventId, Positions, Timestamp};

use crate::log::{AppendError, Log, LogError};
use window::{Known, Outcome, Window};

/// Bounds of the window of known events.
#[derive(Clone, Debug)]
pub struct IntakeConfig {
    /// How long the identities of events are remembered, in seconds.
    pub window_seconds: u64,
    /// How many are remembered at most, at 20 to 40 bytes each.
    pub window_ids: usize,
}

impl Default for IntakeConfig {
    fn default() -> Self {
        // the most that fit into the hash tables of 36 MB that hold a little less
        Self { window_seconds: 15 * 60, window_ids: 1_835_008 }
    }
}

/// What became of the events of one append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// New, and durable now.
    pub stored: usize,
    /// Durable before.
    pub duplicates: usize,
}

/// An event that may have been stored before the window of known events begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OlderEvent {
    /// Its identity.
    pub id: EventId,
    /// The time under which it was stored if it was; none if that depends on when it arrived.
    pub time: Option<Timestamp>,
}

/// Older events could not be looked up.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LookupError {
    /// Not everything that the window forgot can be found yet.
    #[error("older events cannot be looked up yet")]
    Behind,
    /// Looking failed.
    #[error("failed to look up older events: {0}")]
    Failed(String),
}

impl From<LookupError> for AppendError {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Behind => Self::Backpressure,
            LookupError::Failed(_) => Self::Failed(error.to_string().into()),
        }
    }
}

/// Appends events to a log, each only once. Clones share the window.
#[derive(Clone, Debug)]
pub struct Intake {
    log: Log,
    window: Arc<Mutex<Window>>,
}

impl Intake {
    /// Begins with the identities of the newest records of the log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn open(log: Log, config: &IntakeConfig, now: Timestamp) -> Result<Self, LogError> {
        let window_micros =
            i64::try_from(config.window_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let recent = log.recent_ids(now.plus_micros(window_micros.saturating_neg()), config.window_ids)?;
        let window = Window::new(config.window_ids, window_micros, recent, &log.end());
        Ok(Self { log, window: Arc::new(Mutex::new(window)) })
    }

    /// Appends the events that are new and returns when all of them, old and new, are durable.
    ///
    /// Events that may be older than what the window remembers are looked up: `older` is given them and says
    /// for each whether it is stored, which it can only after having read the log as far as
    /// [`Self::forgotten_end`]. It is not called when there are none.
    ///
    /// If the future is dropped, the events may still be appended, and are known then.
    ///
    /// # Errors
    /// As of [`Log::append`]; also if an append of another caller fails that holds one of these events.
    pub async fn append<F, L>(&self, envelopes: Vec<Envelope>, older: F) -> Result<Receipt, AppendError>
    where
        F: FnOnce(Vec<OlderEvent>) -> L,
        L: Future<Output = Result<Vec<bool>, LookupError>>,
    {
        let total = envelopes.len();
        let (mut claim, in_flight) = self.claim(envelopes);
        let old = std::mem::take(&mut claim.older);
        if !old.is_empty() {
            let stored = older(old.clone()).await?;
            claim.release_stored(&old, &stored);
        }
        let stored = claim.envelopes.len();
        if stored > 0 {
            // a caller who goes away must not leave it open whether its events are known
            let appended = tokio::spawn(claim.append());
            appended.await.unwrap_or_else(|error| Err(AppendError::Failed(error.to_string().into())))?;
        }
        for mut other in in_flight {
            wait(&mut other).await?;
        }
        metrics::counter!("watchbell_ingest_duplicate_events_total").increment((total - stored) as u64);
        Ok(Receipt { stored, duplicates: total - stored })
    }

    /// Offsets after the newest records whose identities may be forgotten. Whoever looks up older events
    /// can say that one is not stored only after having read as far as this.
    #[must_use]
    pub fn forgotten_end(&self) -> Positions {
        lock(&self.window).forgotten_end().clone()
    }

    /// The log behind.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Takes the events that nobody else has taken, and gives the outcomes to wait for of the others that
    /// are in flight.
    fn claim(&self, envelopes: Vec<Envelope>) -> (Claim, Vec<watch::Receiver<Outcome>>) {
        let (outcome, _) = watch::channel(None);
        let mut claim = Claim {
            window: self.window.clone(),
            log: self.log.clone(),
            outcome,
            envelopes: Vec::new(),
            older: Vec::new(),
        };
        let mut in_flight: Vec<watch::Receiver<Outcome>> = Vec::new();
        let mut window = lock(&self.window);
        if let Some(now) = envelopes.iter().map(|envelope| envelope.received_at).max() {
            window.forget_before(now);
        }
        for envelope in envelopes {
            match window.claim(envelope.id, &claim.outcome) {
                Known::New => {
                    claim.older.extend(window.may_have_forgotten(&envelope));
                    claim.envelopes.push(envelope);
                }
                Known::InFlight(other) => {
                    let own = claim.outcome.subscribe();
                    if !other.same_channel(&own) && !in_flight.iter().any(|known| known.same_channel(&other))
                    {
                        in_flight.push(other);
                    }
                }
                Known::Stored => {}
            }
        }
        (claim, in_flight)
    }
}

/// Events that are being appended. Whoever sends them meanwhile waits for the outcome.
struct Claim {
    window: Arc<Mutex<Window>>,
    log: Log,
    outcome: watch::Sender<Outcome>,
    envelopes: Vec<Envelope>,
    /// Those that may have been stored before the window begins.
    older: Vec<OlderEvent>,
}

impl Claim {
    /// Gives up the events that were found to be stored.
    fn release_stored(&mut self, older: &[OlderEvent], stored: &[bool]) {
        let end = self.log.end();
        let mut window = lock(&self.window);
        let found = older.iter().zip(stored).filter(|(_, stored)| **stored).map(|(event, _)| event.id);
        let found: std::collections::HashSet<EventId> = found.collect();
        for envelope in self.envelopes.extract_if(.., |envelope| found.contains(&envelope.id)) {
            window.settle(&envelope, Some(&end));
        }
        drop(window);
        if self.envelopes.is_empty() {
            // all of them are durable, which is what whoever waits for them wants to hear
            self.settle(Ok(()));
        }
    }

    async fn append(mut self) -> Result<(), AppendError> {
        let result = self.log.append(&self.envelopes).await.map(|_| ());
        self.settle(result.clone());
        result
    }

    /// Says what became of the events.
    fn settle(&mut self, result: Result<(), AppendError>) {
        let end = result.is_ok().then(|| self.log.end());
        let mut window = lock(&self.window);
        for envelope in self.envelopes.drain(..) {
            window.settle(&envelope, end.as_ref());
        }
        drop(window);
        self.outcome.send_replace(Some(result));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.outcome.borrow().is_none() {
            self.settle(Err(AppendError::Failed("the request that brought the event was given up".into())));
        }
    }
}

async fn wait(outcome: &mut watch::Receiver<Outcome>) -> Result<(), AppendError> {
    match outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
        Ok(Some(result)) => result,
        _ => Err(AppendError::Failed("the request that brought the event was given up".into())),
    }
}

fn lock(window: &Mutex<Window>) -> MutexGuard<'_, Window> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
