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
use crate::notify::message::Message;
use crate::notify::{Context, Outcome, Receiver};
use crate::store::{Attempt, Due, StoreError, Verdict, micros};
use crate::{AlertStore, DeliveryId};

/// How many failed messages of a receiver may wait for another attempt before new ones are made only once per
/// longest wait; until then pending alerts stay where they are and are merged.
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
    /// How many attempts failed in a row, whatever the message.
    failures: u64,
    pace: Pace,
    /// How many alerts a new message takes: fewer than the notifier allows once a message was too large.
    max_alerts: u64,
    /// What came of the last attempt, until the database has it.
    unsettled: Option<(Attempt, Verdict, Timestamp)>,
    /// The latest time seen, to notice a clock that was set back.
    latest: Timestamp,
}

/// What holds a receiver's messages back, besides its quota.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Nothing is sent before this time, because the receiver fails or asked for a pause.
    paused_until: Timestamp,
    /// No new message is made before this time while many failed ones wait.
    crowded_until: Timestamp,
    /// Whether the last attempt repeated a failed message; they take turns with new ones.
    retried_last: bool,
}

impl Pace {
    fn none() -> Self {
        let long_ago = Timestamp::from_micros(i64::MIN);
        Self { paused_until: long_ago, crowded_until: long_ago, retried_last: false }
    }
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
        Self {
            max_alerts: receiver.notifier.max_alerts(),
            receiver,
            store,
            config,
            clock,
            limiter,
            failures: 0,
            pace: Pace::none(),
            unsettled: None,
            // The process before this one may have lived in the future.
            latest: Timestamp::from_micros(i64::MAX),
        }
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
        self.settle().await?;
        let now = (self.clock)();
        self.notice_clock(now).await?;
        let due = self.due().await?;
        let next = choose(&due, self.pace, now);
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
        let retry = next == Next::Retry;
        self.pace.retried_last = retry;
        if !retry {
            self.pace.crowded_until = now.plus_micros(micros(self.config.retry_max_ms));
        }
        match self.begin(retry, now).await? {
            Some(attempt) => Ok((self.attempt(attempt).await?, Duration::ZERO)),
            None => Ok((Standing::Active, Duration::ZERO)),
        }
    }

    /// Waits that were set before the clock was set back would last as much longer: they end.
    async fn notice_clock(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if now < self.latest {
            let (store, name) = (self.store.clone(), self.receiver.name.clone());
            blocking(move || store.clock_went_back(&name, now)).await?;
            self.pace = Pace::none();
        }
        self.latest = now;
        Ok(())
    }

    async fn due(&self) -> Result<Due, StoreError> {
        let (store, name, wait) =
            (self.store.clone(), self.receiver.name.clone(), self.receiver.group_wait_ms);
        blocking(move || store.due(&name, wait)).await
    }

    async fn begin(&self, retry: bool, now: Timestamp) -> Result<Option<Attempt>, StoreError> {
        let (store, name, max) = (self.store.clone(), self.receiver.name.clone(), self.max_alerts);
        blocking(move || match retry {
            true => store.begin_retry(&name, now),
            false => store.begin_fresh(&name, max, now),
        })
        .await
    }

    async fn attempt(&mut self, attempt: Attempt) -> Result<Standing, StoreError> {
        let (alerts, outcome) = match self.fitting_message(&attempt).await {
            Ok(message) => (message.total, self.receiver.notifier.send(&message, self.context()).await),
            Err(error) => {
                let receiver = self.receiver.name.as_str();
                tracing::error!(receiver, error = &error as &dyn std::error::Error, "no message to send");
                (1, Outcome::Later { detail: "the message could not be read".to_owned(), not_before: None })
            }
        };
        let gone = matches!(outcome, Outcome::Gone(_));
        let now = (self.clock)();
        self.resize(alerts, &outcome);
        self.pause(attempt.id, &outcome, now);
        let verdict = retry::verdict(&self.config, &attempt, alerts, outcome, now);
        self.note(&attempt, &verdict, now);
        self.unsettled = Some((attempt, verdict, now));
        self.settle().await?;
        Ok(if gone { Standing::Gone } else { Standing::Active })
    }

    /// Writes what came of the last attempt. Until that succeeds nothing else is begun; the message would
    /// count as in flight until the next start.
    async fn settle(&mut self) -> Result<(), StoreError> {
        if let Some((attempt, verdict, at)) = self.unsettled.clone() {
            let store = self.store.clone();
            blocking(move || store.finish(&attempt, &verdict, at)).await?;
            self.unsettled = None;
        }
        Ok(())
    }

    /// Reads a message; alerts that do not fit return to the outbox.
    async fn fitting_message(&self, attempt: &Attempt) -> Result<Message, StoreError> {
        let message = self.message(attempt).await?;
        let keep = self.receiver.notifier.fitting(&message, self.context());
        if keep >= message.total {
            return Ok(message);
        }
        let (store, attempt) = (self.store.clone(), attempt.clone());
        let attempt = blocking(move || store.keep(&attempt, keep).map(|()| attempt)).await?;
        self.count_returned(message.total - keep);
        self.message(&attempt).await
    }

    async fn message(&self, attempt: &Attempt) -> Result<Message, StoreError> {
        let (store, listed, attempt) =
            (self.store.clone(), self.receiver.notifier.max_listed(), attempt.clone());
        blocking(move || store.message(&attempt, listed)).await
    }

    fn context(&self) -> Context<'_> {
        Context {
            receiver: &self.receiver.name,
            external_url: self.config.external_url.as_deref(),
            now: (self.clock)(),
        }
    }

    /// After a message that was too large new ones take half as many alerts; as long as they are taken that
    /// grows again, by an eighth each, should the receiver's limit have been raised.
    fn resize(&mut self, alerts: u64, outcome: &Outcome) {
        match outcome {
            Outcome::TooLarge(_) => {
                self.max_alerts = (alerts / 2).max(1);
                self.count_returned(alerts - self.max_alerts.min(alerts));
            }
            Outcome::Delivered(_) if alerts >= self.max_alerts => {
                let grown = self.max_alerts + self.max_alerts / 8 + 1;
                self.max_alerts = grown.min(self.receiver.notifier.max_alerts());
            }
            _ => {}
        }
    }

    /// Shows when the size of messages is the limit.
    fn count_returned(&self, notices: u64) {
        counter!("watchbell_alerting_returned_notices_total", "receiver" => self.receiver.name.clone())
            .increment(notices);
    }

    /// A receiver that fails gets a pause of its own, which grows with the failures in a row and not with the
    /// attempts of one message that it never takes.
    fn pause(&mut self, id: DeliveryId, outcome: &Outcome, now: Timestamp) {
        let Outcome::Later { not_before, .. } = outcome else {
            self.failures = 0;
            return;
        };
        self.failures += 1;
        let pause = retry::backoff(&self.config, id, self.failures, now);
        self.pace.paused_until = pause.max(not_before.unwrap_or(now));
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
            Verdict::Split { outcome, keep } => {
                tracing::warn!(receiver, delivery, attempts, outcome, keep, "message was too large");
                "split"
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
fn choose(due: &Due, pace: Pace, now: Timestamp) -> Next {
    let crowded = due.open >= MAX_OPEN;
    let fresh = due.fresh.map(|fresh| if crowded { fresh.max(pace.crowded_until) } else { fresh });
    let Some(earliest) = fresh.into_iter().chain(due.retry).min() else {
        return Next::Wait;
    };
    let earliest = earliest.max(pace.paused_until);
    if earliest > now {
        return Next::Sleep(earliest);
    }
    let is_due = |time: Option<Timestamp>| time.is_some_and(|time| time <= now);
    match (is_due(fresh), is_due(due.retry)) {
        (true, false) => Next::Fresh,
        (false, _) => Next::Retry,
        (true, true) if pace.retried_last => Next::Fresh,
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
        let pace =
            |paused, retried_last| Pace { paused_until: at(paused), crowded_until: at(100), retried_last };
        for (due, pace, now, expect) in [
            (due(None, None, 0), pace(0, false), 10, Next::Wait),
            (due(None, Some(0), 0), pace(0, false), 10, Next::Fresh),
            (due(None, Some(20), 0), pace(0, false), 10, Next::Sleep(at(20))),
            (due(Some(15), Some(20), 1), pace(0, false), 10, Next::Sleep(at(15))),
            (due(Some(0), None, 1), pace(0, true), 10, Next::Retry),
            (due(Some(0), Some(0), 1), pace(0, false), 10, Next::Retry),
            (due(Some(0), Some(0), 1), pace(0, true), 10, Next::Fresh),
            (due(Some(15), Some(0), 1), pace(0, false), 10, Next::Fresh),
            (due(Some(15), Some(0), 1), pace(12, false), 10, Next::Sleep(at(12))),
            (due(Some(15), Some(0), MAX_OPEN), pace(0, true), 10, Next::Sleep(at(15))),
            (due(Some(0), Some(0), MAX_OPEN), pace(0, true), 10, Next::Retry),
            (due(Some(0), Some(0), MAX_OPEN), pace(0, true), 100, Next::Fresh),
            (due(Some(200), Some(0), MAX_OPEN), pace(0, true), 10, Next::Sleep(at(100))),
        ] {
            assert_eq!(choose(&due, pace, at(now)), expect, "{due:?} {pace:?}");
        }
    }
}
