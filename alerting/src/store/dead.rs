//! What was not delivered: dead letters, and notices for receivers that are gone.

use watchbell_event::{EventId, Timestamp};

use super::list::{MAX_PAGE, time};
use super::{AlertStore, StoreError, from_sql_int, sql_int};
use crate::alert::{DeadLetter, DeliveryId};

impl AlertStore {
    /// Lists dead letters, newest first, at most 1000.
    ///
    /// # Errors
    /// If the database fails.
    pub fn dead_letters(&self, limit: u64) -> Result<Vec<DeadLetter>, StoreError> {
        self.read("list dead letters", |snapshot| {
            let mut find = snapshot.prepare_cached(
                "SELECT id, receiver, alerts, attempts, created_at, COALESCE(finished_at, created_at),
                    COALESCE(reason, '') FROM delivery WHERE state = 'dead' ORDER BY seq DESC LIMIT ?1",
            )?;
            let rows = find.query_map([sql_int(limit.min(MAX_PAGE))], |row| {
                Ok(DeadLetter {
                    id: DeliveryId(EventId(row.get(0)?)),
                    receiver: row.get(1)?,
                    alerts: from_sql_int(row.get(2)?),
                    attempts: from_sql_int(row.get(3)?),
                    created_at: time(row.get(4)?),
                    died_at: time(row.get(5)?),
                    reason: row.get(6)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Makes a dead letter due again, under its old id. Returns false if there is no such dead letter.
    ///
    /// # Errors
    /// If the database fails.
    pub fn replay(&self, id: DeliveryId, now: Timestamp) -> Result<bool, StoreError> {
        let changed = self.write("replay a dead letter", |transaction| {
            transaction.execute(
                "UPDATE delivery SET state = 'retry', not_before = ?2, created_at = ?2, finished_at = NULL
                 WHERE id = ?1 AND state = 'dead'",
                (id.0.0, now.as_micros()),
            )
        })?;
        if changed > 0 {
            self.announce();
        }
        Ok(changed > 0)
    }

    /// How many notices wait for receivers other than `configured`, by receiver.
    pub(crate) fn orphans(&self, configured: &[String]) -> Result<Vec<(String, u64)>, StoreError> {
        self.read("look for orphaned notices", |snapshot| {
            let mut find = snapshot
                .prepare("SELECT receiver, COUNT(*) FROM outbox WHERE delivery IS NULL GROUP BY receiver")?;
            let rows = find.query_map([], |row| Ok((row.get::<_, String>(0)?, from_sql_int(row.get(1)?))))?;
            let mut orphans: Vec<(String, u64)> = rows.collect::<rusqlite::Result<_>>()?;
            orphans.retain(|(receiver, _)| !configured.contains(receiver));
            Ok(orphans)
        })
    }
}
