//! Percentiles of measured times, and rates of counters.

use std::time::Duration;

use serde::Serialize;

/// Times of one kind, as they were measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

/// What is reported of them, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// All zero if nothing was measured.
    pub(crate) fn quantiles(mut self) -> Quantiles {
        self.0.sort_unstable();
        let at = |percent: usize| {
            let rank = (self.0.len() * percent).div_ceil(100).max(1) - 1;
            self.0.get(rank).map_or(0.0, |time| (time.as_secs_f64() * 1e5).round() / 100.0)
        };
        Quantiles { count: self.0.len(), p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

/// Events per second, 0 for no time.
pub(crate) fn per_second(events: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { events as f64 / time.as_secs_f64() }
}

/// A quotient, 0 where there is nothing to divide by.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole * 1000.0).round() / 1000.0 } else { 0.0 }
}

/// A value below which so many percent of the others lie.
pub(crate) fn quantile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len().saturating_sub(1) * percent + 50) / 100;
    values.get(rank).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_times() {
        let check = |millis: &[u64], p50: f64, p99: f64, max: f64| {
            let mut times = Times::default();
            millis.iter().for_each(|&millis| times.push(Duration::from_millis(millis)));
            let quantiles = times.quantiles();
            assert_eq!((quantiles.p50_ms, quantiles.p99_ms, quantiles.max_ms), (p50, p99, max), "{millis:?}");
        };
        check(&[], 0.0, 0.0, 0.0);
        check(&[7], 7.0, 7.0, 7.0);
        check(&[3, 1, 2], 2.0, 3.0, 3.0);
        check(&(1..=200).collect::<Vec<_>>(), 100.0, 198.0, 200.0);
    }
}
