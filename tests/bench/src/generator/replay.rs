//! Recorded events as a load: each gets a new audit id and new times, everything else stays as it was.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::template::{AUDIT_ID, Batch, Draft, RECEIVED, STAGED};

/// More is not read, so that the load stays in memory.
const MAX_BYTES: u64 = 1 << 30;

/// Where the texts stand that change.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Changing<'a> {
    #[serde(rename = "auditID", borrow)]
    audit_id: Option<&'a RawValue>,
    #[serde(borrow)]
    request_received_timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    stage_timestamp: Option<&'a RawValue>,
}

/// Reads JSON lines into batches of about `events_per_batch`. Stages of one request that fall into the same
/// batch keep a common audit id.
pub(crate) fn read(path: &Path, events_per_batch: usize, span_micros: u32) -> Result<Vec<Batch>> {
    let file = std::fs::File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    let bytes = file.metadata()?.len();
    ensure!(bytes <= MAX_BYTES, "{} is larger than {MAX_BYTES} bytes", path.display());
    let mut events = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.with_context(|| format!("failed to read {}", path.display()))?;
        if !line.trim().is_empty() {
            let event = with_placeholders(&line)
                .with_context(|| format!("failed to read line {number} of {}", path.display()))?;
            events.push(event);
        }
    }
    ensure!(!events.is_empty(), "{} has no events", path.display());
    Ok(events.chunks(events_per_batch).map(|chunk| batch(chunk, span_micros)).collect())
}

fn batch(events: &[(String, String)], span_micros: u32) -> Batch {
    let mut requests: BTreeMap<&str, Draft> = BTreeMap::new();
    for (audit_id, text) in events {
        let draft = requests.entry(audit_id).or_default();
        let delay_micros = 1_000 * u32::try_from(draft.events.len()).unwrap_or(0);
        draft.events.push((delay_micros, text.clone()));
    }
    Batch::new(requests.into_values().collect(), span_micros)
}

/// The event's audit id, and the event with placeholders where new texts will stand.
fn with_placeholders(line: &str) -> Result<(String, String)> {
    let changing: Changing<'_> = serde_json::from_str(line)?;
    let audit_id = changing.audit_id.context("the event has no auditID")?;
    let mut places = vec![(place(line, audit_id), AUDIT_ID)];
    places.extend(changing.request_received_timestamp.map(|raw| (place(line, raw), RECEIVED)));
    places.extend(changing.stage_timestamp.map(|raw| (place(line, raw), STAGED)));
    places.sort_by_key(|(range, _)| range.start);
    let mut text = String::with_capacity(line.len() + AUDIT_ID.len());
    let mut done = 0;
    for (range, placeholder) in places {
        text.push_str(&line[done..range.start]);
        text.push('"');
        text.push_str(placeholder);
        text.push('"');
        done = range.end;
    }
    text.push_str(&line[done..]);
    Ok((audit_id.get().to_owned(), text))
}

/// Where a value that borrows from the line stands in it.
fn place(line: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr().addr() - line.as_ptr().addr();
    start..start + value.get().len()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use watchbell_event::Timestamp;
    use watchbell_event::audit::AuditEvent;

    use super::super::template::Stamp;
    use super::*;

    #[test]
    fn recorded_events_get_new_ids_and_times_and_keep_the_rest() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for stage in ["RequestReceived", "ResponseComplete"] {
            writeln!(
                file,
                r#"{{"stage":"{stage}","odd": [1,  2],"auditID": "short","stageTimestamp":"2020-01-01T00:00:00Z"}}"#
            )
            .unwrap();
        }
        let batches = read(file.path(), 400, 1_000).unwrap();
        assert_eq!((batches.len(), batches[0].len()), (1, 2));
        let now: Timestamp = "2026-01-31T08:15:00Z".parse().unwrap();
        let bytes = batches[0].write(&mut Stamp::new(1), now);
        let events: Vec<_> =
            batches[0].events().iter().map(|range| AuditEvent::parse(&bytes[range.clone()])).collect();
        assert_eq!(events[0].audit_id, events[1].audit_id);
        assert_ne!(events[0].audit_id.as_deref(), Some("short"));
        assert_eq!(events[1].claimed_time(), Some(now));
        assert!(String::from_utf8_lossy(&bytes).contains(r#""odd": [1,  2]"#));
    }

    #[test]
    fn a_line_that_is_no_event_is_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{{\"auditID\":\"a\"}}\n\nnonsense").unwrap();
        let error = read(file.path(), 400, 1_000).err().map(|error| format!("{error:#}")).unwrap();
        assert!(error.contains("line 3"), "{error}");
    }
}
