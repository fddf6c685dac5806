//! Alerts, outbox and detection positions in one SQLite database.
//!
//! SQLite runs in WAL mode with `synchronous=FULL`: a transaction that committed survives a power cut. One
//! connection writes, one reads, so a slow listing never holds up a detection. All calls block on the disk;
//! asynchronous code calls them through `tokio::task::spawn_blocking`.

mod commit;
mod dead;
mod explanation;
mod list;
mod outbox;
mod prune;
mod requests;
mod schema;
#[cfg(test)]
mod tests;
mod text;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::watch;
use watchbell_event::{Position, Positions, Timestamp};

use self::requests::Requests;
use crate::route::Router;
use crate::{AlertId, Status};

pub use commit::CommitReport;
pub(crate) use outbox::{Attempt, Due, Verdict};

/// Limits and times of the store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// An episode that saw no occurrence for this long takes no more of them; the next one opens a new
    /// alert. Measured by the arrival of events.
    pub quiet_ms: u64,
    /// The least time between two notices about one open alert to one receiver.
    pub repeat_interval_ms: u64,
    /// How many events are linked to one alert; further occurrences are only counted.
    pub events_per_alert: u64,
    /// How many requests are remembered, over all rules, so that several stages of one request alert once.
    pub request_window: u64,
    /// How long an alert is kept after its last occurrence.
    pub retention_days: u32,
    /// How many alerts are kept; beyond it the oldest go first.
    pub max_alerts: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            quiet_ms: 60 * 60 * 1000,
            repeat_interval_ms: 4 * 60 * 60 * 1000,
            events_per_alert: 1000,
            request_window: 100_000,
            retention_days: 365,
            max_alerts: 500_000,
        }
    }
}

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened or brought to the current schema.
    #[error("failed to open the alert database {}", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The database was written by a newer version.
    #[error("failed to open the alert database {}: its schema {found} is newer than {known}", path.display())]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The newest this version knows.
        known: u32,
    },
    /// A statement failed; nothing of its transaction was kept.
    #[error("failed to {action} in the alert database")]
    Sql {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// A detection lies beyond the positions it was to be committed with, so a replay would count it twice.
    #[error("failed to commit detections: position {0} is not covered by the positions given")]
    BeyondPositions(Position),
    /// The cursor was not made by this list.
    #[error("the cursor is not one that this list returned")]
    BadCursor,
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
    /// An alert cannot be set back to open.
    #[error("an alert can be acknowledged, resolved or a false positive, not opened again")]
    Reopen,
}

/// The store. Clones share one database.
#[derive(Clone)]
pub struct AlertStore {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Mutex<Writer>,
    reader: Mutex<Connection>,
    config: StoreConfig,
    router: Mutex<Arc<Router>>,
    /// Rises when the outbox got new rows, so that idle receivers look again.
    queued: watch::Sender<u64>,
}

struct Writer {
    connection: Connection,
    /// What the database holds, kept here to spare a query per commit.
    positions: Positions,
    requests: Requests,
}

impl std::fmt::Debug for AlertStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlertStore").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl AlertStore {
    /// Opens or creates the database. Attempts that were in flight when the last process ended become due
    /// again, under their old ids.
    ///
    /// # Errors
    /// If the file cannot be opened, is no database, or has a newer schema.
    pub fn open(path: &Path, config: StoreConfig, router: Router) -> Result<Self, StoreError> {
        let open_error = |source| StoreError::Open { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(open_error)?;
        match schema::prepare(&mut connection).map_err(open_error)? {
            found if found > schema::VERSION => {
                return Err(StoreError::NewerSchema { path: path.to_owned(), found, known: schema::VERSION });
            }
            _ => {}
        }
        outbox::recover(&connection).map_err(open_error)?;
        let positions = schema::positions(&connection).map_err(open_error)?;
        let requests = Requests::load(&connection, config.request_window).map_err(open_error)?;
        let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(path, read_only).map_err(open_error)?;
        schema::tune(&reader).map_err(open_error)?;
        Ok(Self {
            shared: Arc::new(Shared {
                writer: Mutex::new(Writer { connection, positions, requests }),
                reader: Mutex::new(reader),
                config,
                router: Mutex::new(Arc::new(router)),
                queued: watch::Sender::new(0),
            }),
        })
    }

    /// How far detections were committed: for each partition the offset of the next one wanted.
    #[must_use]
    pub fn positions(&self) -> Positions {
        self.writer().positions.clone()
    }

    /// Replaces the routes for the detections to come.
    pub fn set_router(&self, router: Router) {
        *self.shared.router.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(router);
    }

    /// Sets an alert's status and notes who did it. Returns false if there is no such alert. Notices about
    /// further occurrences that were not sent yet are withdrawn.
    ///
    /// # Errors
    /// [`StoreError::Reopen`] for [`Status::Open`]; otherwise if the database fails.
    pub fn close(&self, id: AlertId, status: Status, by: &str, now: Timestamp) -> Result<bool, StoreError> {
        if status == Status::Open {
            return Err(StoreError::Reopen);
        }
        let by = text::clip(by, text::MAX_NAME_BYTES);
        self.write("set an alert's status", |transaction| {
            let changed = transaction.execute(
                "UPDATE alert SET status = ?2, taking = taking AND ?3 WHERE id = ?1",
                (id.0.0, status.name(), status.takes_occurrences()),
            )?;
            if changed == 0 {
                return Ok(false);
            }
            transaction.execute(
                "INSERT INTO trail (alert, at, who, status) SELECT seq, ?2, ?3, ?4 FROM alert WHERE id = ?1",
                (id.0.0, now.as_micros(), by, status.name()),
            )?;
            transaction.execute(
                "DELETE FROM outbox WHERE digest AND delivery IS NULL
                 AND alert = (SELECT seq FROM alert WHERE id = ?1)",
                [id.0.0],
            )?;
            Ok(true)
        })
    }

    /// Tells when the outbox got new rows.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.queued.subscribe()
    }

    fn announce(&self) {
        self.shared.queued.send_modify(|generation| *generation += 1);
    }

    /// Runs `body` in one transaction of the writing connection.
    fn write<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer();
        let run = || {
            let transaction = writer.connection.transaction()?;
            let value = body(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|source| StoreError::Sql { action, source })
    }

    /// Runs `body` on one snapshot of the reading connection.
    fn read<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut reader = self.shared.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let run = || body(&reader.transaction()?);
        run().map_err(|source| StoreError::Sql { action, source })
    }

    /// A panic while the lock was held rolled its transaction back, so the writer is still consistent.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn router(&self) -> Arc<Router> {
        Arc::clone(&self.shared.router.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Milliseconds of a setting as microseconds, for arithmetic with [`Timestamp`].
pub(crate) fn micros(ms: u64) -> i64 {
    i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// SQLite's integers are signed; offsets and counts never come near the edge.
fn sql_int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql_int(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
