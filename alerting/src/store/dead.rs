//! What was not delivered: dead letters and the backlog.

use watchbell_event::{EventId, Timestamp};

use super::list::{MAX_PAGE, time};
use super::{AlertStore, StoreError, from_sql_int, sql_int};
use crate::alert::{DeadLetter, DeliveryId};

/// How much waits or was given up.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// Notices that no message has taken yet, by receiver.
    pub(crate) pending: Vec<(String, u64)>,
    /// Dead letters.
    pub(crate) dead: u64,
}

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

    /// What was not delivered so far.
    pub(crate) fn backlog(&self) -> Result<Backlog, StoreError> {
        self.read("read the backlog", |snapshot| {
            let mut find = snapshot.prepare_cached(
                "SELECT receiver, COUNT(*) FROM outbox WHERE delivery IS NULL GROUP BY receiver",
            )?;
            let rows = find.query_map([], |row| Ok((row.get(0)?, from_sql_int(row.get(1)?))))?;
            let pending = rows.collect::<rusqlite::Result<_>>()?;
            let mut find = snapshot.prepare_cached("SELECT COUNT(*) FROM delivery WHERE state = 'dead'")?;
            let dead = find.query_row([], |row| row.get(0).map(from_sql_int))?;
            Ok(Backlog { pending, dead })
        })
    }
}
