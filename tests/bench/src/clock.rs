//! The wall clock: events are stamped with the time at which they are sent.

use std::time::{SystemTime, UNIX_EPOCH};

use watchbell_event::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the load happens now, and no stage reads the clock here")]
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
