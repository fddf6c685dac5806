//! One receiver's worker: waits until something is due and a permit is there, begins an attempt in the
//! database, sends, notes the outcome.

use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, RateLimiter};
use metrics::{counter, gauge, histogram};
use tokio::sync::watch;
use watchbell_event::Timestamp;

use super::{DispatchConfig, blocking, retry};
use crate::AlertStore;
use crate::notify::{Context, Outcome, Receiver};
use crate::store::{Attempt, Due, StoreError, Verdict};

/// How many failed messages of a receiver may wait for another attempt before pending alerts stay where they
/// are, to be merged into one message when the receiver works again.
const MAX_OPEN: u64 = 8;
/// The longest sleep, so that a clock that was set is noticed.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// The wait after the database failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Worker<C> {
    receiver: Receiver,
    store: AlertStore,
    config: Arc<DispatchConfig>,
    clock: C,
    limiter: DefaultDirectRateLimiter,
    /// Nothing is sent before this time, because the receiver fails or asked for a pause.
    paused_until: Timestamp,
    /// Whether the last attempt repeated a failed message; they take turns with new ones.
    retried_last: bool,
}

/// What a worker does next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Fresh,
    Retry,
    Sleep(Timestamp),
    Wait,
}

/// Whether the receiver still takes messages.
#[derive(PartialEq, Eq)]
enum Standing {
    Active,
    Gone,
}

impl<C: Fn() -> Timestamp + Send + Sync + 'static> Worker<C> {
    pub(super) fn new(receiver: Receiver, store: AlertStore, config: Arc<DispatchConfig>, clock: C) -> Self {
        let limiter = RateLimiter::direct(receiver.quota);
        let paused_until = Timestamp::from_micros(i64::MIN);
        Self { receiver, store, config, clock, limiter, paused_until, retried_last: false }
    }

    /// Sends until told to stop. An attempt that was begun is finished.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut queued = self.store.subscribe();
        while !*stopped.borrow() {
            queued.mark_unchanged();
            let sleep = match self.step().await {
                Ok((Standing::Active, sleep)) => sleep,
                Ok((Standing::Gone, _)) => {
                    gauge!("watchbell_alerting_receiver_disabled", "receiver" => self.receiver.name.clone())
                        .set(1);
                    tracing::error!(
                        receiver = self.receiver.name,
                        "the receiver says it is gone; it is sent nothing until the next start"
                    );
                    return;
                }
                Err(error) => {
                    let receiver = self.receiver.name.as_str();
                    tracing::error!(receiver, error = &error as &dyn std::error::Error, "the outbox failed");
                    STORE_PAUSE
                }
            };
            if sleep.is_zero() {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(sleep.min(MAX_SLEEP)) => {}
                Ok(()) = queued.changed() => {}
                _ = stopped.changed() => return,
            }
        }
    }

    /// Makes at most one attempt and says how long nothing else is to be done.
    async fn step(&mut self) -> Result<(Standing, Duration), StoreError> {
        let due = self.due().await?;
        let now = (self.clock)();
        let next = choose(&due, self.paused_until, self.retried_last, now);
        match next {
            Next::Wait => return Ok((Standing::Active, MAX_SLEEP)),
            Next::Sleep(until) => {
                let micros = u64::try_from(until.micros_since(now)).unwrap_or(0);
                return Ok((Standing::Active, Duration::from_micros(micros.max(1))));
            }
            Next::Fresh | Next::Retry => {}
        }
        if let Err(exceeded) = self.limiter.check() {
            counter!("watchbell_alerting_quota_waits_total", "receiver" => self.receiver.name.clone())
                .increment(1);
            let wait = exceeded.wait_time_from(DefaultClock::default().now());
            return Ok((Standing::Active, wait.max(Duration::from_millis(1))));
        }
        self.retried_last = next == Next::Retry;
        match self.begin(next == Next::Retry, now).await? {
            Some(attempt) => Ok((self.attempt(attempt).await?, Duration::ZERO)),
            None => Ok((Standing::Active, Duration::ZERO)),
        }
    }

    async fn due(&self) -> Result<Due, StoreError> {
        let (store, name, wait) =
            (self.store.clone(), self.receiver.name.clone(), self.receiver.group_wait_ms);
        blocking(move || store.due(&name, wait)).await
    }

    async fn begin(&self, retry: bool, now: Timestamp) -> Result<Option<Attempt>, StoreError> {
        let (store, name, max) =
            (self.store.clone(), self.receiver.name.clone(), self.receiver.notifier.max_alerts());
        blocking(move || match retry {
            true => store.begin_retry(&name, now),
            false => store.begin_fresh(&name, max, now),
        })
        .await
    }

    async fn attempt(&mut self, attempt: Attempt) -> Result<Standing, StoreError> {
        let (store, listed, begun) =
            (self.store.clone(), self.receiver.notifier.max_listed(), attempt.clone());
        let message = blocking(move || store.message(&begun, listed)).await?;
        let context = Context {
            receiver: &self.receiver.name,
            external_url: self.config.external_url.as_deref(),
            now: (self.clock)(),
        };
        let outcome = self.receiver.notifier.send(&message, context).await;
        let gone = matches!(outcome, Outcome::Gone(_));
        let now = (self.clock)();
        let verdict = retry::verdict(&self.config, &attempt, outcome, now);
        self.note(&attempt, &verdict, now);
        self.paused_until = match &verdict {
            Verdict::Retry { not_before, .. } => *not_before,
            Verdict::Sent { .. } | Verdict::Dead { .. } => now,
        };
        let store = self.store.clone();
        blocking(move || store.finish(&attempt, &verdict, now)).await?;
        Ok(if gone { Standing::Gone } else { Standing::Active })
    }

    fn note(&self, attempt: &Attempt, verdict: &Verdict, now: Timestamp) {
        let receiver = self.receiver.name.as_str();
        let (delivery, attempts) = (attempt.id.to_string(), attempt.number);
        let name = match verdict {
            Verdict::Sent { .. } => {
                #[expect(clippy::cast_precision_loss, reason = "a delay in seconds")]
                let seconds = now.micros_since(attempt.created_at) as f64 / 1e6;
                histogram!("watchbell_alerting_delivery_seconds", "receiver" => receiver.to_owned())
                    .record(seconds);
                tracing::debug!(receiver, delivery, attempts, "message sent");
                "sent"
            }
            Verdict::Retry { outcome, not_before } => {
                tracing::warn!(receiver, delivery, attempts, outcome, %not_before, "message failed for now");
                "retry"
            }
            Verdict::Dead { outcome } => {
                tracing::error!(receiver, delivery, attempts, outcome, "message became a dead letter");
                "dead"
            }
        };
        counter!("watchbell_alerting_attempts_total", "receiver" => receiver.to_owned(), "outcome" => name)
            .increment(1);
    }
}

/// Decides what comes next: failed messages and new ones take turns, so that a message which the receiver
/// never takes does not hold up the others.
fn choose(due: &Due, paused_until: Timestamp, retried_last: bool, now: Timestamp) -> Next {
    let fresh = due.fresh.filter(|_| due.open < MAX_OPEN);
    let Some(earliest) = fresh.into_iter().chain(due.retry).min() else {
        return Next::Wait;
    };
    let earliest = earliest.max(paused_until);
    if earliest > now {
        return Next::Sleep(earliest);
    }
    let is_due = |time: Option<Timestamp>| time.is_some_and(|time| time <= now);
    match (is_due(fresh), is_due(due.retry)) {
        (true, false) => Next::Fresh,
        (false, _) => Next::Retry,
        (true, true) if retried_last => Next::Fresh,
        (true, true) => Next::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn failed_and_new_messages_take_turns_within_pauses() {
        let due = |retry: Option<i64>, fresh: Option<i64>, open| Due {
            retry: retry.map(at),
            fresh: fresh.map(at),
            open,
        };
        let long_ago = at(-1000);
        for (due, paused_until, retried_last, expect) in [
            (due(None, None, 0), long_ago, false, Next::Wait),
            (due(None, Some(0), 0), long_ago, false, Next::Fresh),
            (due(None, Some(20), 0), long_ago, false, Next::Sleep(at(20))),
            (due(Some(15), Some(20), 1), long_ago, false, Next::Sleep(at(15))),
            (due(Some(0), None, 1), long_ago, true, Next::Retry),
            (due(Some(0), Some(0), 1), long_ago, false, Next::Retry),
            (due(Some(0), Some(0), 1), long_ago, true, Next::Fresh),
            (due(Some(15), Some(0), 1), long_ago, false, Next::Fresh),
            (due(Some(15), Some(0), 1), at(12), false, Next::Sleep(at(12))),
            (due(Some(15), Some(0), MAX_OPEN), long_ago, true, Next::Sleep(at(15))),
            (due(Some(0), Some(0), MAX_OPEN), long_ago, true, Next::Retry),
        ] {
            assert_eq!(choose(&due, paused_until, retried_last, at(10)), expect, "{due:?}");
        }
    }
}
