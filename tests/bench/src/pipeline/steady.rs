//! Finds the highest rate at which nothing falls behind, and measures there.
//!
//! The rate rises until the index falls behind. From then on it follows what the index takes in, a little
//! more while the lag is below the target and less above. So the lag stays bounded whatever limits the
//! server, and the rate settles where everything that is answered is also indexed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::load::{Load, Tally};
use super::process::{cpu_seconds, machine_cpu_seconds};
use super::server::{Progress, Server};
use crate::generator::Generator;
use crate::stats::{per_second, ratio};

const OBSERVE_EVERY: Duration = Duration::from_millis(250);
/// The rate is taken over this much of the past; a commit every second makes shorter times uneven.
const MEMORY: Duration = Duration::from_secs(8);
const FIRST_RATE: f64 = 4_000.0;
/// No machine takes more; beyond, only the connections limit the load.
const MAX_RATE: f64 = 1_000_000.0;
/// How much the rate rises with each observation at first.
const RISE: f64 = 1.1;
/// How much less of what the index once took in counts with each observation: a pause of the machine is
/// forgotten slowly, and so is a rate that it no longer reaches.
const FADE: f64 = 0.995;
/// The lag that the rate is steered to, in seconds of load.
const TARGET_LAG_SECONDS: f64 = 2.0;
/// The lag is a mean over so many observations.
const LAG_OBSERVATIONS: usize = 8;
/// How much longer the lag may be in the last third of the window than in the first, in seconds of load.
const GROWTH_SECONDS: f64 = 1.0;

/// What was measured at the steady rate.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Steady {
    pub(crate) seconds: f64,
    pub(crate) answered_per_second: f64,
    pub(crate) indexed_per_second: f64,
    pub(crate) detected_per_second: f64,
    pub(crate) event_mb_per_second: f64,
    /// Batches that were refused and sent again.
    pub(crate) refused_batches: u64,
    /// Mean lag in the first and the last third of the window, in seconds of load.
    pub(crate) index_lag_seconds: [f64; 2],
    pub(crate) detect_lag_seconds: [f64; 2],
    /// No lag grew.
    pub(crate) steady: bool,
    pub(crate) cores: Cores,
}

/// Who used the processors.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Cores {
    pub(crate) server: f64,
    pub(crate) generator: f64,
    /// Everything else on the machine, the kernel's own threads too. Where this is much, measure again.
    pub(crate) others: f64,
}

/// Finds the rate within `warm_up`, then measures for `window`. Returns with everything answered.
pub(crate) async fn run(
    server: &Server,
    generator: &Arc<Mutex<Generator>>,
    warm_up: Duration,
    window: Duration,
) -> Result<(Steady, Tally)> {
    let mut load = Load::start(server, Arc::clone(generator), FIRST_RATE, Some(Duration::ZERO)).await?;
    let mut status = server.connect().await?;
    let mut governor = Governor::new();
    let mut observe = async |load: &mut Load, duration: Duration| -> Result<Vec<Observation>> {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(OBSERVE_EVERY);
        let mut observations = Vec::new();
        while begun.elapsed() < duration {
            ticks.tick().await;
            load.check().await?;
            let observation =
                Observation { at: Instant::now(), progress: Progress::read(&mut status).await? };
            load.set_rate(governor.next_rate(observation));
            observations.push(observation);
        }
        Ok(observations)
    };
    observe(&mut load, warm_up).await?;
    let mut total = load.take_tally();
    let (begun, before) = (Instant::now(), Cores::used(server));
    let observations = observe(&mut load, window).await?;
    let (tally, took) = (load.take_tally(), begun.elapsed());
    let used = Cores::used(server).since(&before, took);
    total.add(&tally);
    total.add(&load.stop().await?);
    Ok((summary(&observations, &tally, took, used), total))
}

impl Cores {
    /// Processor time so far, in seconds.
    fn used(server: &Server) -> Self {
        let [server, generator] =
            [server.process(), std::process::id()].map(|process| cpu_seconds(process).unwrap_or_default());
        Self { server, generator, others: machine_cpu_seconds().unwrap_or_default() - server - generator }
    }

    /// The mean over the time that has passed since `before`.
    fn since(&self, before: &Self, took: Duration) -> Self {
        let mean = |now: f64, before: f64| ratio(now - before, took.as_secs_f64());
        Self {
            server: mean(self.server, before.server),
            generator: mean(self.generator, before.generator),
            others: mean(self.others, before.others),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Observation {
    at: Instant,
    progress: Progress,
}

/// Steers the rate.
struct Governor {
    recent: VecDeque<Observation>,
    rate: f64,
    /// What the index takes in per second.
    capacity: f64,
    rising: bool,
}

impl Governor {
    fn new() -> Self {
        Self { recent: VecDeque::new(), rate: FIRST_RATE, capacity: 0.0, rising: true }
    }

    fn next_rate(&mut self, observation: Observation) -> f64 {
        self.recent.push_back(observation);
        while self.recent.front().is_some_and(|oldest| observation.at - oldest.at > MEMORY) {
            self.recent.pop_front();
        }
        let indexed = rate(self.recent.iter(), |progress| progress.indexed);
        self.capacity = indexed.max(self.capacity * FADE);
        if self.capacity == 0.0 {
            // Nothing was seen to be indexed yet.
            return self.rate;
        }
        let behind = self.recent_lag() / self.capacity / TARGET_LAG_SECONDS;
        self.rising &= behind < 1.0;
        self.rate = if self.rising {
            (self.rate * RISE).min(MAX_RATE)
        } else {
            self.capacity * (1.0 + 0.5 * (1.0 - behind)).clamp(0.3, 1.15)
        };
        self.rate
    }

    /// Events, as a mean over two commits.
    fn recent_lag(&self) -> f64 {
        let lags = self.recent.iter().rev().take(LAG_OBSERVATIONS);
        let (sum, count) =
            lags.fold((0, 0), |(sum, count), seen| (sum + seen.progress.index_lag(), count + 1));
        sum as f64 / f64::from(count.max(1))
    }
}

/// Events per second between the first and the last time that the counter was seen to move, because it
/// moves in steps.
fn rate<'a>(observations: impl Iterator<Item = &'a Observation>, counter: impl Fn(&Progress) -> u64) -> f64 {
    let mut moves: Option<[(Instant, u64); 2]> = None;
    let mut last = None;
    for observation in observations {
        let (at, count) = (observation.at, counter(&observation.progress));
        if last.is_some_and(|last| last != count) {
            moves = Some([moves.map_or((at, count), |[first, _]| first), (at, count)]);
        }
        last = Some(count);
    }
    moves.map_or(0.0, |[first, last]| per_second(last.1.saturating_sub(first.1), last.0 - first.0))
}

fn summary(observations: &[Observation], tally: &Tally, took: Duration, cores: Cores) -> Steady {
    let answered_per_second = per_second(tally.answered, took);
    let lags = |lag: fn(&Progress) -> u64| {
        let third = observations.len().div_ceil(3);
        let mean = |part: &[Observation]| {
            let sum: u64 = part.iter().map(|observation| lag(&observation.progress)).sum();
            ratio(sum as f64 / part.len().max(1) as f64, answered_per_second)
        };
        [mean(&observations[..third]), mean(&observations[observations.len() - third..])]
    };
    let (index_lag_seconds, detect_lag_seconds) = (lags(Progress::index_lag), lags(Progress::detect_lag));
    let bounded = |[first, last]: [f64; 2]| last <= first + GROWTH_SECONDS;
    Steady {
        seconds: took.as_secs_f64().round(),
        answered_per_second: answered_per_second.round(),
        indexed_per_second: rate(observations.iter(), |progress| progress.indexed).round(),
        detected_per_second: rate(observations.iter(), |progress| progress.detected).round(),
        event_mb_per_second: ratio(tally.event_bytes as f64 / 1e6, took.as_secs_f64()),
        refused_batches: tally.refused,
        index_lag_seconds,
        detect_lag_seconds,
        steady: bounded(index_lag_seconds) && bounded(detect_lag_seconds),
        cores,
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "simulated counts are small")]
mod tests {
    use std::ops::Range;

    use super::*;

    /// What a server is seen to do that logs `offered` and indexes `taken` per second, with a commit every
    /// second.
    fn observe(seconds: u32, offered: u64, taken: u64) -> Vec<Observation> {
        let begin = Instant::now();
        let at = |quarter: u32| begin + OBSERVE_EVERY * quarter;
        let progress = |quarter: u64| {
            let (logged, indexed) = (offered * quarter / 4, taken * (quarter / 4));
            Progress { logged, indexed: indexed.min(logged), detected: logged }
        };
        (0..seconds * 4).map(|n| Observation { at: at(n), progress: progress(u64::from(n)) }).collect()
    }

    #[test]
    fn the_rate_of_a_counter_that_moves_in_steps_is_exact() {
        for seconds in [6, 7, 20] {
            let rate = rate(observe(seconds, 1_000, 1_000).iter(), |progress| progress.indexed);
            assert!((rate - 1_000.0).abs() < 1.0, "{rate}");
        }
        assert_eq!(rate([].iter(), |progress| progress.indexed), 0.0);
    }

    /// A server that indexes at most `capacity` per second and commits every second, and answers at most
    /// `answers` per second: the rate that is set after 40 s and the lag then, in seconds.
    fn settle(capacity: f64, answers: f64, pause: Range<u32>) -> (f64, f64) {
        let begin = Instant::now();
        let (mut governor, mut set) = (Governor::new(), FIRST_RATE);
        let (mut logged, mut taken, mut committed) = (0.0_f64, 0.0_f64, 0.0_f64);
        let quarter = OBSERVE_EVERY.as_secs_f64();
        for n in 0..160 {
            // A machine that stands still for a while, and late commits.
            let capacity = if pause.contains(&n) { 0.0 } else { capacity };
            logged += set.min(answers) * quarter;
            taken = (taken + capacity * quarter).min(logged);
            if n % 5 == 4 && n > 5 {
                committed = taken;
            }
            let progress =
                Progress { logged: logged as u64, indexed: committed as u64, detected: logged as u64 };
            set = governor.next_rate(Observation { at: begin + OBSERVE_EVERY * n, progress });
        }
        (set, (logged - committed) / capacity)
    }

    #[test]
    fn the_rate_settles_where_the_index_keeps_up() {
        for capacity in [800.0, 5_000.0, 20_000.0, 60_000.0] {
            for pause in [0..0, 100..116] {
                let (rate, lag) = settle(capacity, 1e9, pause);
                assert!((0.8..1.2).contains(&(rate / capacity)), "{rate} for {capacity}");
                assert!(lag < 5.0, "{lag} s behind at {capacity}");
            }
        }
        let (rate, lag) = settle(50_000.0, 10_000.0, 0..0);
        assert!(rate > 10_000.0 && lag < 1.5, "{rate}, {lag} s behind");
    }

    #[test]
    fn a_growing_lag_is_not_steady() {
        let tally = |answered| Tally { answered, ..Tally::default() };
        let window = Duration::from_secs(60);
        let steady = summary(&observe(60, 10_000, 10_000), &tally(600_000), window, Cores::default());
        assert!(steady.steady, "{steady:?}");
        assert_eq!(steady.answered_per_second, 10_000.0);
        let growing = summary(&observe(60, 10_000, 9_000), &tally(600_000), window, Cores::default());
        assert!(!growing.steady, "{growing:?}");
    }
}
