//! Reads the identities of the newest records from the tables of their frames, without decompressing any.

use watchbell_event::Timestamp;

use super::frame::rows;
use super::segment::{self, Depth, Step};
use super::{Segment, Shared, io_error};
use crate::log::{LogError, RecentId, RecentIds};

/// The identities of records that arrived at `since` or later, at most `limit`, the newest.
pub(super) fn recent_ids(shared: &Shared, since: Timestamp, limit: usize) -> Result<RecentIds, LogError> {
    let segments = shared.segments().clone();
    let mut ids = Vec::new();
    // what came before the oldest segment was deleted
    let deleted = segments.first().map_or(shared.end.borrow().next, |oldest| oldest.first) > 0;
    let mut complete_since = deleted.then_some(since);
    for (older_segments, segment) in segments.iter().enumerate().rev() {
        let span = read_segment(shared, *segment, since, &mut ids)?;
        if span.older {
            complete_since = complete_since.max(Some(since));
        }
        if let Some(cut) = cut(&mut ids, limit) {
            let disorder = if older_segments > 0 { DISORDER_MICROS } else { 0 };
            complete_since = complete_since.max(Some(cut.plus_micros(disorder)));
            break;
        }
        if span.newest.is_some_and(|newest| newest < since.plus_micros(-DISORDER_MICROS)) {
            break;
        }
    }
    Ok(RecentIds { ids, complete_since })
}

/// How much earlier than a record before it a record can have arrived, because requests take their time.
const DISORDER_MICROS: i64 = 60_000_000;

/// When the records of a segment arrived.
#[derive(Default)]
struct Span {
    newest: Option<Timestamp>,
    /// Some arrived before the wanted time, or cannot be read.
    older: bool,
}

/// Adds the identities of one segment.
fn read_segment(
    shared: &Shared,
    segment: Segment,
    since: Timestamp,
    ids: &mut Vec<RecentId>,
) -> Result<Span, LogError> {
    let name = segment::name(segment.first);
    let mut walk = shared.walk(segment)?;
    let mut span = Span::default();
    loop {
        let depth = |header: &super::frame::Header| {
            if header.newest < since { Depth::Header } else { Depth::Table }
        };
        match walk.step(depth).map_err(|error| io_error("read", &name, error))? {
            Step::Frame { header, body, .. } => {
                span.newest = span.newest.max(Some(header.newest));
                let known = ids.len();
                let event_time = header.latest_event;
                let rows = rows(&body).map(|(id, received_at)| RecentId { id, received_at, event_time });
                ids.extend(rows.filter(|id| id.received_at >= since));
                span.older |= ids.len() - known < header.count as usize;
            }
            // a reader that comes here reports it
            Step::Damage(_) => span.older = true,
            Step::End => return Ok(span),
        }
    }
}

/// Drops the oldest beyond the limit and returns from when on all are there, if any was dropped.
fn cut(ids: &mut Vec<RecentId>, limit: usize) -> Option<Timestamp> {
    if ids.len() <= limit {
        return None;
    }
    ids.sort_unstable_by_key(|id| std::cmp::Reverse(id.received_at));
    let newest_dropped = ids.get(limit).map(|id| id.received_at.plus_micros(1));
    ids.truncate(limit);
    newest_dropped
}
