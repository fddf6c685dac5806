//! Keeps the database bounded: what is past its retention goes, a page at a time.

use metrics::counter;
use watchbell_event::Timestamp;

use super::{AlertStore, StoreError, sql_int};

/// How many alerts one transaction removes, so that detections never wait long.
const PAGE: i64 = 200;
/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;
/// How long past its retention an alert is kept of which a receiver was never told. A receiver that is not
/// there for as long, or not configured any more, must not make the database grow without end.
const UNDELIVERED_DAYS: u32 = 30;

/// Alerts past retention or beyond the number to keep, of which nobody is still to be notified.
const PAST_RETENTION: &str = "SELECT seq FROM alert WHERE (last_received < ?1 OR seq <= (
        SELECT seq FROM alert ORDER BY seq DESC LIMIT 1 OFFSET ?2))
    AND NOT EXISTS (
        SELECT 1 FROM outbox LEFT JOIN delivery ON delivery.seq = outbox.delivery
        WHERE outbox.alert = alert.seq
        AND (outbox.delivery IS NULL OR delivery.state IN ('sending', 'retry')))
    LIMIT ?3";
/// Alerts so old that they go whatever waits for them.
const LONG_PAST: &str = "SELECT seq FROM alert WHERE last_received < ?1 AND ?2 IS NOT NULL LIMIT ?3";

impl AlertStore {
    /// Removes alerts past their retention, with what was sent about them. Alerts of which somebody is
    /// still to be notified stay for another 30 days. Returns how many went.
    ///
    /// # Errors
    /// If the database fails; what was removed before stays removed.
    pub fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let days = self.shared.config.retention_days;
        let delivered = self.remove(PAST_RETENTION, days_before(now, days))?;
        let undelivered = self.remove(LONG_PAST, days_before(now, days.saturating_add(UNDELIVERED_DAYS)))?;
        if undelivered > 0 {
            tracing::warn!(alerts = undelivered, "removed old alerts that a receiver never took");
        }
        let removed = delivered + undelivered;
        if removed > 0 {
            self.write("remove old deliveries", |transaction| {
                transaction.execute(
                    "DELETE FROM delivery WHERE state <> 'sending'
                     AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.delivery = delivery.seq)",
                    [],
                )
            })?;
        }
        counter!("watchbell_alerting_pruned_total").increment(removed);
        counter!("watchbell_alerting_pruned_undelivered_total").increment(undelivered);
        Ok(removed)
    }

    /// Removes all alerts that `select` finds.
    fn remove(&self, select: &str, oldest: Timestamp) -> Result<u64, StoreError> {
        let max_alerts = sql_int(self.shared.config.max_alerts);
        let mut removed = 0;
        loop {
            let page = self.write("remove old alerts", |transaction| {
                let mut delete =
                    transaction.prepare_cached(&format!("DELETE FROM alert WHERE seq IN ({select})"))?;
                delete.execute((oldest.as_micros(), max_alerts, PAGE))
            })?;
            removed += page as u64;
            if page == 0 {
                return Ok(removed);
            }
        }
    }
}

fn days_before(now: Timestamp, days: u32) -> Timestamp {
    now.plus_micros(-DAY_MICROS.saturating_mul(i64::from(days)))
}
