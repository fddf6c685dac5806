//! Reading alerts: lists, one alert, what was sent about it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params_from_iter};
use watchbell_event::{EventId, Level, Position, Timestamp};

use super::{AlertStore, StoreError, from_sql_int, sql_int};
use crate::alert::{AttemptRecord, DeliveryId, DeliveryRecord, DeliveryState, LinkedEvent, StatusChange};
use crate::{Alert, AlertDetails, AlertId, Filter, Page, Status};

/// Most alerts on one page.
pub(crate) const MAX_PAGE: u64 = 1000;
/// Most event ids that [`AlertStore::events_of_rule`] returns.
const MAX_RULE_EVENTS: u64 = 100_000;
/// How many of a message's attempts are shown; the latest are.
const SHOWN_ATTEMPTS: i64 = 20;
/// How many notices about one alert are shown; the latest are.
const SHOWN_NOTICES: i64 = 200;
/// First byte of a cursor; changes when its meaning does.
const CURSOR_VERSION: u8 = 1;

/// The columns that [`alert`] reads, in its order.
pub(super) const ALERT_COLUMNS: &str = "alert.seq, alert.id, alert.rule_id, alert.title, alert.level,
    alert.tags, alert.cluster, alert.labels, alert.first_summary, alert.last_summary,
    alert.first_event_time, alert.last_event_time, alert.first_received, alert.last_received,
    alert.count, alert.status, alert.history, alert.explanation";
/// How many columns that is.
pub(super) const ALERT_WIDTH: usize = 18;

impl AlertStore {
    /// Lists alerts, newest first. `limit` is moved into 1..=1000.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`], or if the database fails.
    pub fn list(&self, filter: &Filter, limit: u64, cursor: Option<&str>) -> Result<Page, StoreError> {
        let before = cursor.map(decode_cursor).transpose()?;
        let limit = limit.clamp(1, MAX_PAGE);
        let (conditions, mut values) = conditions(filter, before);
        values.push(Value::Integer(sql_int(limit + 1)));
        let sql = format!("SELECT {ALERT_COLUMNS} FROM alert{conditions} ORDER BY alert.seq DESC LIMIT ?");
        let mut found: Vec<(i64, Alert)> = self.read("list alerts", |snapshot| {
            let mut statement = snapshot.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), |row| Ok((row.get(0)?, alert(row)?)))?;
            rows.collect()
        })?;
        let more = found.len() as u64 > limit;
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next_cursor = found.last().filter(|_| more).map(|(seq, _)| encode_cursor(*seq));
        Ok(Page { alerts: found.into_iter().map(|(_, alert)| alert).collect(), next_cursor })
    }

    /// Reads one alert with its events and what was decided about it.
    ///
    /// # Errors
    /// If the database fails.
    pub fn get(&self, id: AlertId) -> Result<Option<AlertDetails>, StoreError> {
        self.read("read an alert", |snapshot| {
            let mut find = snapshot
                .prepare_cached(&format!("SELECT {ALERT_COLUMNS}, events_beyond FROM alert WHERE id = ?1"))?;
            let read = |row: &Row<'_>| Ok((row.get(0)?, alert(row)?, from_sql_int(row.get(ALERT_WIDTH)?)));
            let found: Option<(i64, Alert, u64)> = find.query_row([id.0.0], read).optional()?;
            let Some((seq, alert, events_beyond)) = found else { return Ok(None) };
            let mut find = snapshot.prepare_cached(
                "SELECT event, partition, offset, event_time FROM alert_event WHERE alert = ?1 ORDER BY number",
            )?;
            let events: Vec<LinkedEvent> =
                find.query_map([seq], linked_event)?.collect::<rusqlite::Result<_>>()?;
            let mut find =
                snapshot.prepare_cached("SELECT at, who, status FROM trail WHERE alert = ?1 ORDER BY seq")?;
            let trail = find.query_map([seq], |row| {
                let status = status(&row.get::<_, String>(2)?);
                Ok(StatusChange { at: time(row.get(0)?), by: row.get(1)?, status })
            })?;
            let trail = trail.collect::<rusqlite::Result<_>>()?;
            Ok(Some(AlertDetails { alert, events, events_beyond, trail }))
        })
    }

    /// The ids of the events that a rule matched, as far as they are linked to alerts, newest alert first.
    ///
    /// # Errors
    /// If the database fails.
    pub fn events_of_rule(&self, rule_id: &str, limit: u64) -> Result<Vec<EventId>, StoreError> {
        self.read("read the events of a rule", |snapshot| {
            let mut find = snapshot.prepare_cached(
                "SELECT event FROM alert JOIN alert_event ON alert_event.alert = alert.seq
                 WHERE rule_id = ?1 ORDER BY alert.seq DESC LIMIT ?2",
            )?;
            let limit = sql_int(limit.min(MAX_RULE_EVENTS));
            let rows = find.query_map((rule_id, limit), |row| row.get(0).map(EventId))?;
            rows.collect()
        })
    }

    /// What was queued and sent about an alert, oldest first, at most the latest 200 notices.
    ///
    /// # Errors
    /// If the database fails.
    pub fn deliveries(&self, id: AlertId) -> Result<Vec<DeliveryRecord>, StoreError> {
        self.read("read an alert's deliveries", |snapshot| {
            let mut find = snapshot.prepare_cached(
                "SELECT delivery.seq, delivery.id, outbox.receiver, digest, state, queued_at, due_at,
                    not_before, reason, alerts
                 FROM outbox LEFT JOIN delivery ON delivery.seq = outbox.delivery
                 WHERE alert = (SELECT seq FROM alert WHERE id = ?1) ORDER BY outbox.seq DESC LIMIT ?2",
            )?;
            let rows = find.query_map((id.0.0, SHOWN_NOTICES), delivery_record)?;
            let mut records: Vec<(Option<i64>, DeliveryRecord)> = rows.collect::<rusqlite::Result<_>>()?;
            records.reverse();
            let mut find = snapshot.prepare_cached(
                "SELECT number, started_at, ended_at, outcome FROM attempt WHERE delivery = ?1
                 ORDER BY number DESC LIMIT ?2",
            )?;
            for (delivery, record) in &mut records {
                let rows = find.query_map((*delivery, SHOWN_ATTEMPTS), attempt_record)?;
                record.attempts = rows.collect::<rusqlite::Result<_>>()?;
                record.attempts.reverse();
            }
            Ok(records.into_iter().map(|(_, record)| record).collect())
        })
    }
}

/// The WHERE clause of a filter and its values.
fn conditions(filter: &Filter, before: Option<i64>) -> (String, Vec<Value>) {
    let text = |text: &Option<String>| text.clone().map(Value::Text);
    let time = |time: Option<Timestamp>| time.map(|time| Value::Integer(time.as_micros()));
    let given = [
        ("alert.seq < ?", before.map(Value::Integer)),
        ("level >= ?", filter.min_level.map(|level| Value::Integer(level as i64))),
        ("status = ?", filter.status.map(|status| Value::Text(status.name().to_owned()))),
        ("rule_id = ?", text(&filter.rule_id)),
        ("cluster = ?", text(&filter.cluster)),
        ("last_received >= ?", time(filter.since)),
        ("first_received < ?", time(filter.until)),
    ];
    let (conditions, values): (Vec<&str>, Vec<Value>) =
        given.into_iter().filter_map(|(condition, value)| Some((condition, value?))).unzip();
    let keyword = if conditions.is_empty() { "" } else { " WHERE " };
    (format!("{keyword}{}", conditions.join(" AND ")), values)
}

fn encode_cursor(seq: i64) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend(seq.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_cursor(cursor: &str) -> Result<i64, StoreError> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| StoreError::BadCursor)?;
    match bytes.split_first() {
        Some((&CURSOR_VERSION, seq)) => {
            Ok(i64::from_be_bytes(seq.try_into().map_err(|_| StoreError::BadCursor)?))
        }
        _ => Err(StoreError::BadCursor),
    }
}

/// Reads [`ALERT_COLUMNS`].
pub(super) fn alert(row: &Row<'_>) -> rusqlite::Result<Alert> {
    let json: String = row.get(5)?;
    let tags = serde_json::from_str(&json).unwrap_or_default();
    let json: String = row.get(7)?;
    let labels: std::collections::BTreeMap<String, String> = serde_json::from_str(&json).unwrap_or_default();
    Ok(Alert {
        id: AlertId(EventId(row.get(1)?)),
        rule_id: row.get(2)?,
        title: row.get(3)?,
        level: level(row.get(4)?),
        tags,
        cluster: row.get(6)?,
        labels: labels.into_iter().collect(),
        first_summary: row.get(8)?,
        last_summary: row.get(9)?,
        first_event_time: time(row.get(10)?),
        last_event_time: time(row.get(11)?),
        first_received: time(row.get(12)?),
        last_received: time(row.get(13)?),
        count: from_sql_int(row.get(14)?),
        status: status(&row.get::<_, String>(15)?),
        history: row.get(16)?,
        explanation: serde_json::from_str(&row.get::<_, String>(17)?).unwrap_or_default(),
    })
}

fn linked_event(row: &Row<'_>) -> rusqlite::Result<LinkedEvent> {
    let position = Position { partition: row.get(1)?, offset: from_sql_int(row.get(2)?) };
    Ok(LinkedEvent { id: EventId(row.get(0)?), position, event_time: time(row.get(3)?) })
}

fn delivery_record(row: &Row<'_>) -> rusqlite::Result<(Option<i64>, DeliveryRecord)> {
    let id = row.get::<_, Option<[u8; 16]>>(1)?.map(|id| DeliveryId(EventId(id)));
    let state = row.get::<_, Option<String>>(4)?.map_or(DeliveryState::Pending, |name| state(&name));
    let not_before = match state {
        DeliveryState::Pending => Some(time(row.get(6)?)),
        DeliveryState::Retry => Some(time(row.get(7)?)),
        _ => None,
    };
    let record = DeliveryRecord {
        id,
        receiver: row.get(2)?,
        digest: row.get(3)?,
        state,
        queued_at: time(row.get(5)?),
        not_before,
        reason: row.get(8)?,
        alerts: row.get::<_, Option<i64>>(9)?.map_or(1, from_sql_int),
        attempts: Vec::new(),
    };
    Ok((row.get(0)?, record))
}

fn attempt_record(row: &Row<'_>) -> rusqlite::Result<AttemptRecord> {
    Ok(AttemptRecord {
        number: from_sql_int(row.get(0)?),
        started_at: time(row.get(1)?),
        ended_at: row.get::<_, Option<i64>>(2)?.map(time),
        outcome: row.get(3)?,
    })
}

pub(super) fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// A level as it is stored. This crate alone writes the database, so other numbers do not occur.
pub(super) fn level(number: i64) -> Level {
    usize::try_from(number).ok().and_then(|index| Level::ALL.get(index).copied()).unwrap_or(Level::Critical)
}

pub(super) fn status(name: &str) -> Status {
    name.parse().unwrap_or(Status::Open)
}

fn state(name: &str) -> DeliveryState {
    DeliveryState::ALL.into_iter().find(|state| state.name() == name).unwrap_or(DeliveryState::Dead)
}
