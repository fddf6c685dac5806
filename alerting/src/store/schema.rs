//! The database's tables and how older ones are brought to this version.

use rusqlite::Connection;
use watchbell_event::Positions;

use super::{from_sql_int, sql_int};

/// The schema this version writes, kept in `PRAGMA user_version`.
pub(crate) const VERSION: u32 = 3;

/// `MIGRATIONS[n]` leads from version n to n + 1. Times are microseconds since the epoch, ids are 16 bytes,
/// lists and labels are JSON, levels count from 0 (informational) to 4 (critical).
const MIGRATIONS: [&str; VERSION as usize] = [BEGINNING, EXPLANATIONS, REQUESTS];

const BEGINNING: &str = "
    -- How far detections were committed.
    CREATE TABLE position (
        partition INTEGER PRIMARY KEY,
        next INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE alert (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, -- order of opening; never reused
        id BLOB NOT NULL UNIQUE,
        episode BLOB NOT NULL,                 -- hash of rule and group key
        taking INTEGER NOT NULL,               -- 1 while further occurrences belong to it
        rule_id TEXT NOT NULL,
        title TEXT NOT NULL,
        level INTEGER NOT NULL,
        tags TEXT NOT NULL,
        cluster TEXT NOT NULL,
        labels TEXT NOT NULL,
        first_summary TEXT NOT NULL,
        last_summary TEXT NOT NULL,
        first_event_time INTEGER NOT NULL,
        last_event_time INTEGER NOT NULL,
        first_received INTEGER NOT NULL,
        last_received INTEGER NOT NULL,
        count INTEGER NOT NULL,
        linked INTEGER NOT NULL,               -- rows in alert_event
        history INTEGER NOT NULL,
        status TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX alert_taking ON alert (episode) WHERE taking = 1;
    CREATE INDEX alert_rule ON alert (rule_id);
    CREATE INDEX alert_received ON alert (last_received);

    CREATE TABLE alert_event (
        alert INTEGER NOT NULL REFERENCES alert ON DELETE CASCADE,
        number INTEGER NOT NULL,
        event BLOB NOT NULL,
        partition INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        event_time INTEGER NOT NULL,
        PRIMARY KEY (alert, number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE trail (
        seq INTEGER PRIMARY KEY,
        alert INTEGER NOT NULL REFERENCES alert ON DELETE CASCADE,
        at INTEGER NOT NULL,
        who TEXT NOT NULL,
        status TEXT NOT NULL
    ) STRICT;
    CREATE INDEX trail_alert ON trail (alert);

    -- The requests seen lately: one request alerts once per rule.
    CREATE TABLE request (
        seq INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE               -- hash of rule and request key
    ) STRICT;

    -- One message to one receiver.
    CREATE TABLE delivery (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        receiver TEXT NOT NULL,
        state TEXT NOT NULL,                   -- sending, sent, retry, dead
        attempts INTEGER NOT NULL,
        alerts INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        not_before INTEGER NOT NULL,
        finished_at INTEGER,
        reason TEXT
    ) STRICT;
    CREATE INDEX delivery_retry ON delivery (receiver, not_before) WHERE state = 'retry';
    CREATE INDEX delivery_sending ON delivery (receiver) WHERE state = 'sending';
    CREATE INDEX delivery_dead ON delivery (seq) WHERE state = 'dead';

    -- One notice: one alert for one receiver; pending until a delivery takes it.
    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        alert INTEGER NOT NULL REFERENCES alert ON DELETE CASCADE,
        receiver TEXT NOT NULL,
        digest INTEGER NOT NULL,               -- 0 the alert opened, 1 it went on
        urgent INTEGER NOT NULL,               -- 1 does not wait for others to join
        queued_at INTEGER NOT NULL,
        due_at INTEGER NOT NULL,
        delivery INTEGER REFERENCES delivery,
        taken_at INTEGER,
        count_at_take INTEGER                  -- the alert's count when the delivery took it
    ) STRICT;
    CREATE INDEX outbox_pending ON outbox (receiver, urgent, due_at) WHERE delivery IS NULL;
    CREATE INDEX outbox_alert ON outbox (alert, receiver);
    CREATE INDEX outbox_delivery ON outbox (delivery) WHERE delivery IS NOT NULL;

    CREATE TABLE attempt (
        delivery INTEGER NOT NULL REFERENCES delivery ON DELETE CASCADE,
        number INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        ended_at INTEGER,
        outcome TEXT,
        PRIMARY KEY (delivery, number)
    ) STRICT, WITHOUT ROWID;
";

const EXPLANATIONS: &str = "
    ALTER TABLE alert ADD COLUMN explanation TEXT NOT NULL DEFAULT '{}';
    -- Events that were counted and are not in alert_event.
    ALTER TABLE alert ADD COLUMN events_beyond INTEGER NOT NULL DEFAULT 0;
    UPDATE alert SET events_beyond = MAX(count - linked, 0);
";

/// Requests are looked up in memory: an index over their hashes would only make every commit write more pages.
const REQUESTS: &str = "
    CREATE TABLE recent_request (
        seq INTEGER PRIMARY KEY,
        key BLOB NOT NULL
    ) STRICT;
    INSERT INTO recent_request SELECT seq, key FROM request;
    DROP TABLE request;
    ALTER TABLE recent_request RENAME TO request;
";

/// Write-ahead log beyond which SQLite truncates the file after a checkpoint, in bytes.
const WAL_LIMIT_BYTES: i64 = 64 << 20;
/// Every statement of this crate fits, so none is compiled twice.
const CACHED_STATEMENTS: usize = 64;

/// Sets the connection up and migrates the database. Returns its schema version, which is left alone if it
/// is newer than [`VERSION`].
pub(crate) fn prepare(connection: &mut Connection) -> rusqlite::Result<u32> {
    tune(connection)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_LIMIT_BYTES, |_| Ok(()))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (version, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(found)
}

/// What both connections need.
pub(crate) fn tune(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(())
}

/// Reads how far detections were committed.
pub(crate) fn positions(connection: &Connection) -> rusqlite::Result<Positions> {
    let mut positions = Positions::default();
    let mut statement = connection.prepare("SELECT partition, next FROM position")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        positions.set_next(row.get(0)?, from_sql_int(row.get(1)?));
    }
    Ok(positions)
}

/// Writes how far detections were committed.
pub(crate) fn write_positions(connection: &Connection, positions: &Positions) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO position VALUES (?1, ?2) ON CONFLICT DO UPDATE SET next = excluded.next",
    )?;
    for (partition, next) in positions.iter() {
        statement.execute((partition, sql_int(next)))?;
    }
    Ok(())
}
