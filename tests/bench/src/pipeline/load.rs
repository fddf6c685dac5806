//! Sends batches over a few connections at a given rate.
//!
//! Senders take turns: each takes the next place in the schedule, waits for its time, and sends. A late
//! answer therefore delays no other batch until all connections are busy, and the time of an answer counts
//! from the place in the schedule, not from when a connection became free.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::task::JoinSet;

use super::client::Connection;
use super::server::Server;
use crate::clock;
use crate::generator::Generator;
use crate::stats::Times;

pub(crate) const INGEST_PATH: &str = "/ingest/audit/bench";
/// As many as a few API servers hold.
const CONNECTIONS: usize = 8;
/// A batch that is refused is sent again after this long.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// A running load.
pub(crate) struct Load {
    shared: Arc<Shared>,
    senders: JoinSet<Result<()>>,
}

/// What became of the events that were sent.
#[derive(Default)]
pub(crate) struct Tally {
    /// Answered as durable.
    pub(crate) answered: u64,
    /// Batches that carried them.
    pub(crate) batches: u64,
    /// Bytes of these events.
    pub(crate) event_bytes: u64,
    /// Batches answered 429 or 503, and sent again.
    pub(crate) refused: u64,
    /// Time to answer of each batch.
    pub(crate) times: Times,
}

struct Shared {
    generator: Arc<Mutex<Generator>>,
    pace: Mutex<Pace>,
    tally: Mutex<Tally>,
}

/// The schedule.
struct Pace {
    next: Instant,
    events_per_second: f64,
    batch_events: f64,
    /// A schedule that is further behind than this is given up; none keeps it whatever happens.
    max_behind: Option<Duration>,
    stopped: bool,
}

impl Tally {
    /// Adds the counts of a later time; its times are left out.
    pub(crate) fn add(&mut self, later: &Self) {
        self.answered += later.answered;
        self.batches += later.batches;
        self.event_bytes += later.event_bytes;
        self.refused += later.refused;
    }
}

impl Load {
    /// Starts sending. With `max_behind` the rate bends to what the server answers; without it lateness
    /// shows in the answer times.
    pub(crate) async fn start(
        server: &Server,
        generator: Arc<Mutex<Generator>>,
        events_per_second: f64,
        max_behind: Option<Duration>,
    ) -> Result<Self> {
        let batch_events = lock(&generator).mean_batch_events();
        let pace = Pace { next: Instant::now(), events_per_second, batch_events, max_behind, stopped: false };
        let shared = Arc::new(Shared { generator, pace: Mutex::new(pace), tally: Mutex::default() });
        let mut senders = JoinSet::new();
        for _ in 0..CONNECTIONS {
            senders.spawn(send(server.connect().await?, Arc::clone(&shared)));
        }
        Ok(Self { shared, senders })
    }

    pub(crate) fn set_rate(&self, events_per_second: f64) {
        lock(&self.shared.pace).events_per_second = events_per_second;
    }

    /// Takes what was sent so far, and counts from zero.
    pub(crate) fn take_tally(&self) -> Tally {
        std::mem::take(&mut lock(&self.shared.tally))
    }

    /// Fails if a sender has.
    pub(crate) async fn check(&mut self) -> Result<()> {
        match self.senders.try_join_next() {
            Some(ended) => ended?.and_then(|()| bail!("a sender ended early")),
            None => Ok(()),
        }
    }

    /// Waits for the answers to what was sent; nothing new is.
    pub(crate) async fn stop(mut self) -> Result<Tally> {
        lock(&self.shared.pace).stopped = true;
        while let Some(ended) = self.senders.join_next().await {
            ended??;
        }
        Ok(self.take_tally())
    }
}

async fn send(mut connection: Connection, shared: Arc<Shared>) -> Result<()> {
    loop {
        let due = lock(&shared.pace).take();
        tokio::time::sleep_until(due.into()).await;
        if lock(&shared.pace).stopped {
            return Ok(());
        }
        let (body, events, event_bytes) = {
            let mut generator = lock(&shared.generator);
            let load = generator.next(clock::now());
            let (events, event_bytes) = (load.len() as u64, load.event_bytes() as u64);
            (Bytes::from(load.body), events, event_bytes)
        };
        post(&mut connection, &shared, body, events).await?;
        let mut tally = lock(&shared.tally);
        tally.answered += events;
        tally.batches += 1;
        tally.event_bytes += event_bytes;
        tally.times.push(due.elapsed());
    }
}

/// Sends until it is taken: what is refused under pressure comes back, as from an API server.
async fn post(connection: &mut Connection, shared: &Shared, body: Bytes, events: u64) -> Result<()> {
    loop {
        let (status, answer) = connection.send(Method::POST, INGEST_PATH, body.clone()).await?;
        match status {
            StatusCode::OK => return all_stored(&answer, events),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                lock(&shared.tally).refused += 1;
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            other => bail!("a batch was answered {other}: {}", String::from_utf8_lossy(&answer)),
        }
    }
}

/// The figures mean nothing if events were taken for duplicates or refused.
fn all_stored(answer: &[u8], events: u64) -> Result<()> {
    let answer: serde_json::Value = serde_json::from_slice(answer).context("the answer is not JSON")?;
    if answer["stored"].as_u64() != Some(events) {
        bail!("{events} new events were sent, but the server answered {answer}");
    }
    Ok(())
}

impl Pace {
    /// The time of the next batch.
    fn take(&mut self) -> Instant {
        let now = Instant::now();
        if let Some(max_behind) = self.max_behind
            && let Some(earliest) = now.checked_sub(max_behind)
        {
            self.next = self.next.max(earliest);
        }
        let due = self.next;
        self.next += Duration::from_secs_f64(self.batch_events / self.events_per_second.max(1.0));
        due
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_spaces_batches_and_is_given_up_only_if_told_so() {
        let start = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let pace = |max_behind| Pace {
            next: start,
            events_per_second: 4_000.0,
            batch_events: 400.0,
            max_behind,
            stopped: false,
        };
        let mut kept = pace(None);
        assert_eq!((kept.take() - start, kept.take() - start), (Duration::ZERO, Duration::from_millis(100)));
        let mut bent = pace(Some(Duration::ZERO));
        assert!(bent.take() >= start + Duration::from_secs(10));
    }

    #[test]
    fn an_answer_that_did_not_store_everything_is_an_error() {
        assert!(all_stored(br#"{"stored":5,"duplicates":0}"#, 5).is_ok());
        assert!(all_stored(br#"{"stored":4,"duplicates":1}"#, 5).is_err());
        assert!(all_stored(b"ok", 5).is_err());
    }
}
