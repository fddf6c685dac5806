//! A quota per source, so that one noisy cluster cannot starve the others.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::QuotaConfig;
use crate::sources::Source;

/// Quotas count in this unit, because the limiter counts in 32 bits.
const UNIT_BYTES: u64 = 1 << 10;

/// Bytes of request bodies that each source may send.
pub(crate) struct SourceQuota {
    usual: DefaultKeyedRateLimiter<Source>,
    /// For sources of the clusters that have a quota of their own.
    by_cluster: HashMap<String, DefaultKeyedRateLimiter<Source>>,
    clock: DefaultClock,
}

impl SourceQuota {
    pub(crate) fn new<'a>(
        usual: &QuotaConfig,
        by_cluster: impl IntoIterator<Item = (&'a String, &'a QuotaConfig)>,
    ) -> Self {
        let by_cluster = by_cluster.into_iter().map(|(cluster, quota)| (cluster.clone(), limiter(quota)));
        Self { usual: limiter(usual), by_cluster: by_cluster.collect(), clock: DefaultClock::default() }
    }

    /// Takes `bytes` from the quota of `source`.
    ///
    /// # Errors
    /// How long to wait until they fit.
    pub(crate) fn take(&self, source: &Source, bytes: usize) -> Result<(), Duration> {
        let limiter = self.by_cluster.get(&source.cluster).unwrap_or(&self.usual);
        match limiter.check_key_n(source, units(bytes as u64)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(later)) => Err(later.wait_time_from(self.clock.now())),
            // More than the burst: the configuration requires the burst to hold the largest body.
            Err(_) => Err(Duration::from_secs(1)),
        }
    }

    /// Forgets sources whose quota is full again.
    pub(crate) fn prune(&self) {
        self.by_cluster.values().chain([&self.usual]).for_each(RateLimiter::retain_recent);
    }
}

fn limiter(quota: &QuotaConfig) -> DefaultKeyedRateLimiter<Source> {
    let burst = units(quota.burst_bytes);
    RateLimiter::keyed(Quota::per_second(units(quota.bytes_per_second)).allow_burst(burst))
}

fn units(bytes: u64) -> NonZeroU32 {
    let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
    NonZeroU32::new(units).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Credential;

    fn source(cluster: &str) -> Source {
        let credential = Credential::Certificate(String::new());
        Source { cluster: cluster.to_owned(), route: "audit".into(), credential: Some(credential) }
    }

    #[test]
    fn one_source_over_its_quota_does_not_hold_up_another() {
        let usual = QuotaConfig { bytes_per_second: 10 << 10, burst_bytes: 100 << 10 };
        let large = ("large".to_owned(), QuotaConfig { burst_bytes: 1 << 20, ..usual });
        let quota = SourceQuota::new(&usual, [(&large.0, &large.1)]);
        quota.take(&source("prod"), 100 << 10).unwrap();
        let wait = quota.take(&source("prod"), 50 << 10).unwrap_err();
        assert!((Duration::from_secs(4)..=Duration::from_secs(6)).contains(&wait), "{wait:?}");
        quota.take(&source("test"), 50 << 10).unwrap();
        quota.take(&source("large"), 500 << 10).unwrap();
        quota.take(&source("large"), 500 << 10).unwrap();
        assert!(quota.take(&source("large"), 500 << 10).is_err());
    }
}
