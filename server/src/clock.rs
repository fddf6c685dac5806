//! The wall clock. Stages are handed the time; only this binary reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use watchbell_event::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
