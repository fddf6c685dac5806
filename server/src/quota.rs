//! A quota per source, so that one noisy cluster cannot starve the others.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Quotas count in this unit, because the limiter counts in 32 bits.
const UNIT_BYTES: u64 = 1 << 10;

/// Bytes of request bodies that each source may send.
pub(crate) struct SourceQuota {
    limiter: DefaultKeyedRateLimiter<String>,
    clock: DefaultClock,
}

impl SourceQuota {
    pub(crate) fn new(bytes_per_second: u64, burst_bytes: u64) -> Self {
        let quota = Quota::per_second(units(bytes_per_second)).allow_burst(units(burst_bytes));
        Self { limiter: RateLimiter::keyed(quota), clock: DefaultClock::default() }
    }

    /// Takes `bytes` from the quota of `source`.
    ///
    /// # Errors
    /// How long to wait until they fit.
    pub(crate) fn take(&self, source: &str, bytes: usize) -> Result<(), Duration> {
        match self.limiter.check_key_n(&source.to_owned(), units(bytes as u64)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(later)) => Err(later.wait_time_from(self.clock.now())),
            // More than the burst: the configuration requires the burst to hold the largest body.
            Err(_) => Err(Duration::from_secs(1)),
        }
    }

    /// Forgets sources whose quota is full again.
    pub(crate) fn prune(&self) {
        self.limiter.retain_recent();
    }
}

fn units(bytes: u64) -> NonZeroU32 {
    let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
    NonZeroU32::new(units).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_over_its_quota_does_not_hold_up_another() {
        let quota = SourceQuota::new(10 << 10, 100 << 10);
        quota.take("prod", 100 << 10).unwrap();
        let wait = quota.take("prod", 50 << 10).unwrap_err();
        assert!((Duration::from_secs(4)..=Duration::from_secs(6)).contains(&wait), "{wait:?}");
        quota.take("test", 50 << 10).unwrap();
    }
}
