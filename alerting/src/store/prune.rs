//! Keeps the database bounded: what is past its retention goes, a page at a time.

use metrics::counter;
use watchbell_event::Timestamp;

use super::{AlertStore, StoreError, sql_int};

/// How many alerts one transaction removes, so that detections never wait long.
const PAGE: i64 = 200;
/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;

impl AlertStore {
    /// Removes alerts past their retention, with what was sent about them. Alerts of which somebody is
    /// still to be notified stay. Returns how many went.
    ///
    /// # Errors
    /// If the database fails; what was removed before stays removed.
    pub fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let oldest =
            now.plus_micros(-DAY_MICROS.saturating_mul(i64::from(self.shared.config.retention_days)));
        let mut removed = 0;
        loop {
            let page = self.write("remove old alerts", |transaction| {
                let mut delete = transaction.prepare_cached(
                    "DELETE FROM alert WHERE seq IN (
                        SELECT seq FROM alert WHERE (last_received < ?1 OR seq <= (
                            SELECT seq FROM alert ORDER BY seq DESC LIMIT 1 OFFSET ?2))
                        AND NOT EXISTS (
                            SELECT 1 FROM outbox LEFT JOIN delivery ON delivery.seq = outbox.delivery
                            WHERE outbox.alert = alert.seq
                            AND (outbox.delivery IS NULL OR delivery.state IN ('sending', 'retry')))
                        LIMIT ?3)",
                )?;
                delete.execute((oldest.as_micros(), sql_int(self.shared.config.max_alerts), PAGE))
            })?;
            removed += page as u64;
            if page == 0 {
                break;
            }
        }
        if removed > 0 {
            self.write("remove old deliveries", |transaction| {
                transaction.execute(
                    "DELETE FROM delivery WHERE state IN ('sent', 'dead')
                     AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.delivery = delivery.seq)",
                    [],
                )
            })?;
        }
        counter!("watchbell_alerting_pruned_total").increment(removed);
        Ok(removed)
    }
}
