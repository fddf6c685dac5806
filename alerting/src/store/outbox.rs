//! The outbox: notices that wait, messages that are being sent, and what came of each attempt.

use rusqlite::{Connection, OptionalExtension, Transaction};
use watchbell_event::{EventId, Timestamp};

use super::list::{ALERT_COLUMNS, ALERT_WIDTH, alert, level, time};
use super::{AlertStore, StoreError, from_sql_int, micros, sql_int};
use crate::alert::{DeliveryId, hash_parts};
use crate::notify::message::{Message, Notice, RuleCount};

/// Most rules that a message counts separately.
const MAX_RULE_COUNTS: i64 = 100;
/// The order of the alerts of a message.
const MESSAGE_ORDER: &str = "alert.level DESC, alert.seq";
/// Most event ids shown with one alert of a message.
const SHOWN_EVENTS: i64 = 5;

/// When a receiver has something to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// When the next failed message is due again.
    pub(crate) retry: Option<Timestamp>,
    /// When the next pending notice is due.
    pub(crate) fresh: Option<Timestamp>,
    /// How many failed messages will be tried again.
    pub(crate) open: u64,
}

/// An attempt that was begun: the database says "sending".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) delivery: i64,
    pub(crate) id: DeliveryId,
    /// One-based.
    pub(crate) number: u64,
    /// When the message was made.
    pub(crate) created_at: Timestamp,
}

/// What is to become of a message after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Sent {
        outcome: String,
    },
    Retry {
        outcome: String,
        not_before: Timestamp,
    },
    Dead {
        outcome: String,
    },
    /// Try again at once with the first `keep` alerts; the others return to the outbox.
    Split {
        outcome: String,
        keep: u64,
    },
}

/// Makes attempts due again that were in flight when the process died.
pub(super) fn recover(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE delivery SET state = 'retry', not_before = 0, reason = 'interrupted; the outcome is unknown'
         WHERE state = 'sending'",
        [],
    )?;
    Ok(())
}

impl AlertStore {
    /// When `receiver` has something to do. Notices that are not urgent wait `group_wait_ms` for others.
    pub(crate) fn due(&self, receiver: &str, group_wait_ms: u64) -> Result<Due, StoreError> {
        self.read("read the outbox", |snapshot| {
            let mut find = snapshot.prepare_cached(
                "SELECT MIN(not_before), COUNT(*) FROM delivery WHERE receiver = ?1 AND state = 'retry'",
            )?;
            let (retry, open): (Option<i64>, i64) =
                find.query_row([receiver], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let mut find = snapshot.prepare_cached(
                "SELECT MIN(due_at) FROM outbox WHERE receiver = ?1 AND urgent = ?2 AND delivery IS NULL",
            )?;
            let mut earliest =
                |urgent| find.query_row((receiver, urgent), |row| row.get::<_, Option<i64>>(0));
            let waiting = earliest(false)?.map(|due| due.saturating_add(micros(group_wait_ms)));
            let fresh = earliest(true)?.into_iter().chain(waiting).min();
            Ok(Due { retry: retry.map(time), fresh: fresh.map(time), open: from_sql_int(open) })
        })
    }

    /// Ends the waits of a receiver that began at a time which is yet to come.
    pub(crate) fn clock_went_back(&self, receiver: &str, now: Timestamp) -> Result<(), StoreError> {
        self.write("adapt to a clock that was set back", |transaction| {
            transaction.execute(
                "UPDATE outbox SET due_at = ?2, queued_at = ?2
                 WHERE receiver = ?1 AND delivery IS NULL AND queued_at > ?2",
                (receiver, now.as_micros()),
            )?;
            transaction.execute(
                "UPDATE delivery SET not_before = ?2 WHERE receiver = ?1 AND state = 'retry' AND EXISTS (
                    SELECT 1 FROM attempt WHERE attempt.delivery = delivery.seq
                    AND number = delivery.attempts AND ended_at > ?2)",
                (receiver, now.as_micros()),
            )?;
            Ok(())
        })
    }

    /// Puts the due notices of a receiver into one new message, at most `max` of them, and begins its first
    /// attempt.
    pub(crate) fn begin_fresh(
        &self,
        receiver: &str,
        max: u64,
        now: Timestamp,
    ) -> Result<Option<Attempt>, StoreError> {
        self.write("begin a message", |transaction| {
            let taken = due_notices(transaction, receiver, max, now)?;
            if taken.is_empty() {
                return Ok(None);
            }
            let id = delivery_id(receiver, &taken);
            let mut insert = transaction.prepare_cached(
                "INSERT INTO delivery (id, receiver, state, attempts, alerts, created_at, not_before)
                 VALUES (?1, ?2, 'sending', 1, ?3, ?4, ?4)",
            )?;
            insert.execute((id.0.0, receiver, sql_int(taken.len() as u64), now.as_micros()))?;
            let delivery = transaction.last_insert_rowid();
            let mut update = transaction.prepare_cached(
                "UPDATE outbox SET delivery = ?2, taken_at = ?3,
                    count_at_take = (SELECT count FROM alert WHERE seq = outbox.alert) WHERE seq = ?1",
            )?;
            for (seq, _) in taken {
                update.execute((seq, delivery, now.as_micros()))?;
            }
            let attempt = Attempt { delivery, id, number: 1, created_at: now };
            log_start(transaction, &attempt, now)?;
            Ok(Some(attempt))
        })
    }

    /// Begins another attempt of the failed message that has been due for longest.
    pub(crate) fn begin_retry(&self, receiver: &str, now: Timestamp) -> Result<Option<Attempt>, StoreError> {
        self.write("begin another attempt", |transaction| {
            let mut find = transaction.prepare_cached(
                "SELECT seq, id, attempts + 1, created_at FROM delivery
                 WHERE receiver = ?1 AND state = 'retry' AND not_before <= ?2 ORDER BY not_before LIMIT 1",
            )?;
            let found = find.query_row((receiver, now.as_micros()), |row| {
                Ok(Attempt {
                    delivery: row.get(0)?,
                    id: DeliveryId(EventId(row.get(1)?)),
                    number: from_sql_int(row.get(2)?),
                    created_at: time(row.get(3)?),
                })
            });
            let Some(attempt) = found.optional()? else { return Ok(None) };
            let mut update = transaction
                .prepare_cached("UPDATE delivery SET state = 'sending', attempts = ?2 WHERE seq = ?1")?;
            update.execute((attempt.delivery, sql_int(attempt.number)))?;
            log_start(transaction, &attempt, now)?;
            Ok(Some(attempt))
        })
    }

    /// Notes what came of an attempt.
    pub(crate) fn finish(
        &self,
        attempt: &Attempt,
        verdict: &Verdict,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (state, outcome, not_before) = match verdict {
            Verdict::Sent { outcome } => ("sent", outcome, None),
            Verdict::Retry { outcome, not_before } => ("retry", outcome, Some(not_before.as_micros())),
            Verdict::Dead { outcome } => ("dead", outcome, None),
            Verdict::Split { outcome, .. } => ("retry", outcome, Some(now.as_micros())),
        };
        let finished = not_before.is_none().then_some(now.as_micros());
        self.write("finish an attempt", |transaction| {
            let mut update = transaction.prepare_cached(
                "UPDATE delivery SET state = ?2, not_before = COALESCE(?3, not_before), finished_at = ?4,
                    reason = ?5 WHERE seq = ?1 AND state = 'sending'",
            )?;
            let reason = (state != "sent").then_some(outcome);
            update.execute((attempt.delivery, state, not_before, finished, reason))?;
            let mut update = transaction.prepare_cached(
                "UPDATE attempt SET ended_at = ?3, outcome = ?4 WHERE delivery = ?1 AND number = ?2",
            )?;
            update.execute((attempt.delivery, sql_int(attempt.number), now.as_micros(), outcome))?;
            match verdict {
                Verdict::Split { keep, .. } => release(transaction, attempt.delivery, *keep),
                _ => Ok(()),
            }
        })
    }

    /// Keeps the first `keep` alerts in the message of an attempt, the most severe ones; the others return to
    /// the outbox.
    pub(crate) fn keep(&self, attempt: &Attempt, keep: u64) -> Result<(), StoreError> {
        self.write("return notices to the outbox", |transaction| release(transaction, attempt.delivery, keep))
    }

    /// Makes attempts due again whose sender was stopped before it knew the outcome.
    pub(crate) fn interrupt(&self) -> Result<(), StoreError> {
        self.write("return attempts to the outbox", |transaction| recover(transaction))
    }

    /// Reads what a message is to say; it lists at most `max_listed` alerts, the most severe ones, and
    /// counts the others.
    pub(crate) fn message(&self, attempt: &Attempt, max_listed: u64) -> Result<Message, StoreError> {
        self.read("read a message", |snapshot| {
            let total = snapshot.query_row(
                "SELECT COUNT(*) FROM outbox WHERE delivery = ?1",
                [attempt.delivery],
                |row| row.get(0).map(from_sql_int),
            )?;
            let notices = notices(snapshot, attempt.delivery, max_listed)?;
            let rules = rule_counts(snapshot, attempt.delivery)?;
            Ok(Message { id: attempt.id, created_at: attempt.created_at, total, notices, rules })
        })
    }
}

fn due_notices(
    transaction: &Transaction<'_>,
    receiver: &str,
    max: u64,
    now: Timestamp,
) -> rusqlite::Result<Vec<(i64, [u8; 16])>> {
    let mut find = transaction.prepare_cached(
        "SELECT outbox.seq, alert.id FROM outbox JOIN alert ON alert.seq = outbox.alert
         WHERE receiver = ?1 AND delivery IS NULL AND urgent IN (0, 1) AND due_at <= ?2
         ORDER BY urgent DESC, outbox.seq LIMIT ?3",
    )?;
    let rows =
        find.query_map((receiver, now.as_micros(), sql_int(max)), |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Returns all notices but the first `keep` of a message. What was queued about their alerts meanwhile gives
/// way: they count at the time they are sent.
fn release(transaction: &Transaction<'_>, delivery: i64, keep: u64) -> rusqlite::Result<()> {
    let mut find = transaction.prepare_cached(&format!(
        "SELECT outbox.seq FROM outbox JOIN alert ON alert.seq = outbox.alert
         WHERE outbox.delivery = ?1 ORDER BY {MESSAGE_ORDER} LIMIT -1 OFFSET ?2"
    ))?;
    let rows = find.query_map((delivery, sql_int(keep.max(1))), |row| row.get(0))?;
    let released: Vec<i64> = rows.collect::<rusqlite::Result<_>>()?;
    let mut overtake = transaction.prepare_cached(
        "DELETE FROM outbox WHERE delivery IS NULL
         AND (alert, receiver) = (SELECT alert, receiver FROM outbox WHERE seq = ?1)",
    )?;
    let mut update = transaction.prepare_cached(
        "UPDATE outbox SET delivery = NULL, taken_at = NULL, count_at_take = NULL WHERE seq = ?1",
    )?;
    for seq in &released {
        overtake.execute([seq])?;
        update.execute([seq])?;
    }
    let mut update = transaction.prepare_cached(
        "UPDATE delivery SET alerts = (SELECT COUNT(*) FROM outbox WHERE delivery = ?1) WHERE seq = ?1",
    )?;
    update.execute([delivery])?;
    Ok(())
}

/// A hash of the receiver and the notices. No two messages begin with the same: one that returns notices to
/// the outbox keeps at least one.
fn delivery_id(receiver: &str, notices: &[(i64, [u8; 16])]) -> DeliveryId {
    let numbers: Vec<[u8; 8]> = notices.iter().map(|(seq, _)| seq.to_be_bytes()).collect();
    let parts = notices.iter().zip(&numbers).flat_map(|((_, alert), seq)| [&alert[..], &seq[..]]);
    let parts: Vec<&[u8]> = std::iter::once(receiver.as_bytes()).chain(parts).collect();
    DeliveryId(hash_parts(&parts))
}

fn log_start(transaction: &Transaction<'_>, attempt: &Attempt, now: Timestamp) -> rusqlite::Result<()> {
    let mut insert = transaction
        .prepare_cached("INSERT INTO attempt (delivery, number, started_at) VALUES (?1, ?2, ?3)")?;
    insert.execute((attempt.delivery, sql_int(attempt.number), now.as_micros()))?;
    Ok(())
}

fn notices(snapshot: &Connection, delivery: i64, max: u64) -> rusqlite::Result<Vec<Notice>> {
    let mut find = snapshot.prepare_cached(&format!(
        "SELECT {ALERT_COLUMNS}, digest, count_at_take, (
            SELECT MAX(earlier.count_at_take) FROM outbox AS earlier
            WHERE earlier.alert = outbox.alert AND earlier.receiver = outbox.receiver
            AND earlier.seq < outbox.seq)
         FROM outbox JOIN alert ON alert.seq = outbox.alert WHERE outbox.delivery = ?1
         ORDER BY {MESSAGE_ORDER} LIMIT ?2"
    ))?;
    let rows = find.query_map((delivery, sql_int(max)), |row| {
        let counted: i64 = row.get(ALERT_WIDTH + 1)?;
        let before: Option<i64> = row.get(ALERT_WIDTH + 2)?;
        let more = from_sql_int(counted.saturating_sub(before.unwrap_or(0)));
        let digest: bool = row.get(ALERT_WIDTH)?;
        Ok((row.get(0)?, Notice { alert: alert(row)?, more: digest.then_some(more), events: Vec::new() }))
    })?;
    let mut notices: Vec<(i64, Notice)> = rows.collect::<rusqlite::Result<_>>()?;
    let mut find = snapshot
        .prepare_cached("SELECT event FROM alert_event WHERE alert = ?1 ORDER BY number DESC LIMIT ?2")?;
    for (alert, notice) in &mut notices {
        let rows = find.query_map((*alert, SHOWN_EVENTS), |row| row.get(0).map(EventId))?;
        notice.events = rows.collect::<rusqlite::Result<_>>()?;
    }
    Ok(notices.into_iter().map(|(_, notice)| notice).collect())
}

fn rule_counts(snapshot: &Connection, delivery: i64) -> rusqlite::Result<Vec<RuleCount>> {
    let mut find = snapshot.prepare_cached(
        "SELECT title, level, COUNT(*) FROM outbox JOIN alert ON alert.seq = outbox.alert
         WHERE outbox.delivery = ?1 GROUP BY rule_id, level ORDER BY level DESC, COUNT(*) DESC LIMIT ?2",
    )?;
    let rows = find.query_map((delivery, MAX_RULE_COUNTS), |row| {
        Ok(RuleCount { title: row.get(0)?, level: level(row.get(1)?), alerts: from_sql_int(row.get(2)?) })
    })?;
    rows.collect()
}
