//! Turns detections into alerts and outbox rows, in one transaction with the positions they came from.

use std::collections::HashMap;

use metrics::counter;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use watchbell_event::{ContributingEvent, Detection, EventId, Level, Positions, Timestamp};

use super::explanation::explanation_json;
use super::requests::{Requests, Staged};
use super::text::{MAX_LABELS, MAX_LINE_BYTES, MAX_NAME_BYTES, MAX_TAGS, MAX_VALUE_BYTES, clip};
use super::{AlertStore, StoreConfig, StoreError, Writer, from_sql_int, micros, schema, sql_int};
use crate::alert::hash_parts;
use crate::route::Router;
use crate::{AlertId, Status};

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// The alerts that opened.
    pub new_alerts: Vec<AlertId>,
    /// Detections that were counted on an open alert.
    pub occurrences: u64,
    /// Detections of a request that its rule had already counted.
    pub suppressed: u64,
    /// Detections at positions that were committed before.
    pub replayed: u64,
    /// Notices queued for receivers.
    pub notices: u64,
}

impl AlertStore {
    /// Commits detections, in log order, with the positions up to which the log was evaluated. Either all
    /// of it is durable when this returns, or nothing. Detections at positions committed before are
    /// ignored, so evaluating a part of the log again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::BeyondPositions`] if `positions` does not cover a detection; otherwise if the database
    /// fails. The same call may be repeated.
    pub fn commit(
        &self,
        detections: &[Detection],
        positions: &Positions,
        now: Timestamp,
    ) -> Result<CommitReport, StoreError> {
        if let Some(beyond) = detections.iter().find(|detection| !positions.covers(detection.position)) {
            return Err(StoreError::BeyondPositions(beyond.position));
        }
        self.explain_ahead(detections)?;
        let router = self.router();
        let mut writer = self.writer();
        let known = writer.positions.clone();
        let mut merged = known.clone();
        for (partition, next) in positions.iter() {
            merged.set_next(partition, next.max(known.next(partition)));
        }
        if merged == known {
            return Ok(CommitReport { replayed: detections.len() as u64, ..CommitReport::default() });
        }
        let Writer { connection, requests, .. } = &mut *writer;
        let mut run = || {
            let transaction = connection.transaction()?;
            let mut batch = Batch::begin(&transaction, &self.shared.config, &router, requests, now);
            for detection in detections {
                match is_replayed(detection, &known) {
                    true => batch.report.replayed += 1,
                    false => batch.take(detection)?,
                }
            }
            let (report, staged) = batch.finish()?;
            schema::write_positions(&transaction, &merged)?;
            transaction.commit()?;
            Ok((report, staged))
        };
        let (report, staged) =
            run().map_err(|source| StoreError::Sql { action: "commit detections", source })?;
        writer.requests.committed(staged);
        writer.positions = merged;
        drop(writer);
        if report.notices > 0 {
            self.announce();
        }
        report.count();
        Ok(report)
    }
}

/// What the episodes of a rule and group have in common.
pub(super) fn episode_key(detection: &Detection) -> EventId {
    hash_parts(&[detection.rule_id.as_bytes(), &detection.group_key.0])
}

/// Whether a detection was committed before. One that counted several events was only if all of them were
/// known: after a restart, partitions may be read in another order.
pub(super) fn is_replayed(detection: &Detection, known: &Positions) -> bool {
    let counted = detection.correlation.iter().flat_map(|correlation| &correlation.events);
    known.covers(detection.position) && counted.into_iter().all(|event| known.covers(event.position))
}

impl CommitReport {
    fn count(&self) {
        counter!("watchbell_alerting_alerts_total").increment(self.new_alerts.len() as u64);
        counter!("watchbell_alerting_occurrences_total").increment(self.occurrences);
        counter!("watchbell_alerting_suppressed_total").increment(self.suppressed);
        counter!("watchbell_alerting_notices_total").increment(self.notices);
    }
}

/// An alert that this batch touched. Changes are written once, at the end.
struct Episode {
    seq: i64,
    count: u64,
    linked: u64,
    /// Events that were counted and are not linked.
    events_beyond: u64,
    level: Level,
    status: Status,
    history: bool,
    first_event_time: i64,
    last_event_time: i64,
    last_received: i64,
    last_summary: String,
    /// What each receiver was told of it; read when first needed.
    told: Option<HashMap<String, Told>>,
}

/// The latest notice about an alert to a receiver.
#[derive(Clone, Copy)]
struct Told {
    pending: bool,
    at: i64,
}

struct Batch<'a> {
    connection: &'a Connection,
    config: &'a StoreConfig,
    router: &'a Router,
    now: Timestamp,
    requests: &'a Requests,
    staged: Staged,
    episodes: HashMap<EventId, Episode>,
    report: CommitReport,
}

impl<'a> Batch<'a> {
    fn begin(
        transaction: &'a Transaction<'_>,
        config: &'a StoreConfig,
        router: &'a Router,
        requests: &'a Requests,
        now: Timestamp,
    ) -> Self {
        let (staged, episodes, report) = (Staged::default(), HashMap::new(), CommitReport::default());
        Self { connection: transaction, config, router, now, requests, staged, episodes, report }
    }

    fn take(&mut self, detection: &Detection) -> rusqlite::Result<()> {
        let request = hash_parts(&[detection.rule_id.as_bytes(), &detection.request_key.0]);
        if self.requests.is_known(request, &mut self.staged) {
            self.report.suppressed += 1;
            return Ok(());
        }
        let key = episode_key(detection);
        let episode = match self.episodes.remove(&key) {
            Some(episode) => Some(episode),
            None => load(self.connection, &key)?,
        };
        let quiet_micros = micros(self.config.quiet_ms);
        let received = detection.received_at.as_micros();
        let episode = match episode {
            Some(episode) if received.saturating_sub(episode.last_received) <= quiet_micros => {
                self.report.occurrences += 1;
                Some(episode)
            }
            Some(ended) => {
                self.write(&ended, false)?;
                self.open(&key, detection)?
            }
            None => self.open(&key, detection)?,
        };
        let Some(mut episode) = episode else {
            self.report.suppressed += 1;
            return Ok(());
        };
        self.count(&mut episode, detection)?;
        self.notify(&mut episode, detection)?;
        self.episodes.insert(key, episode);
        Ok(())
    }

    /// Opens an alert without occurrences. Returns none if an earlier alert was opened by the same event.
    fn open(&mut self, key: &EventId, detection: &Detection) -> rusqlite::Result<Option<Episode>> {
        let id = AlertId::new(&detection.rule_id, &detection.group_key, &detection.event_id);
        let (event_time, received) = (detection.event_time.as_micros(), detection.received_at.as_micros());
        let summary = clip(&detection.summary, MAX_LINE_BYTES);
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO alert (id, episode, taking, rule_id, title, level, tags, cluster, labels,
                first_summary, last_summary, first_event_time, last_event_time, first_received,
                last_received, count, linked, history, status, explanation)
             VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?10, ?11, ?11, 0, 0, ?12, 'open', ?13)
             ON CONFLICT (id) DO NOTHING",
        )?;
        let inserted = insert.execute(params![
            id.0.0,
            key.0,
            clip(&detection.rule_id, MAX_LINE_BYTES),
            clip(&detection.title, MAX_LINE_BYTES),
            detection.level as i64,
            tags_json(detection),
            clip(&detection.cluster, MAX_NAME_BYTES),
            labels_json(detection),
            summary,
            event_time,
            received,
            detection.history,
            explanation_json(detection.explanation.get()),
        ])?;
        if inserted == 0 {
            return Ok(None);
        }
        self.report.new_alerts.push(id);
        Ok(Some(Episode {
            seq: self.connection.last_insert_rowid(),
            count: 0,
            linked: 0,
            events_beyond: 0,
            level: detection.level,
            status: Status::Open,
            history: detection.history,
            first_event_time: event_time,
            last_event_time: event_time,
            last_received: received,
            last_summary: summary.to_owned(),
            told: Some(HashMap::new()),
        }))
    }

    /// Counts an occurrence and links its event.
    fn count(&mut self, episode: &mut Episode, detection: &Detection) -> rusqlite::Result<()> {
        episode.count += 1;
        episode.history &= detection.history;
        episode.last_received = episode.last_received.max(detection.received_at.as_micros());
        clip(&detection.summary, MAX_LINE_BYTES).clone_into(&mut episode.last_summary);
        let Some(correlation) = &detection.correlation else {
            let (id, position, event_time) = (detection.event_id, detection.position, detection.event_time);
            return self.link(episode, &ContributingEvent { id, position, event_time });
        };
        episode.events_beyond += correlation.events_beyond;
        correlation.events.iter().try_for_each(|event| self.link(episode, event))
    }

    /// Links an event to an alert, up to the number that is kept.
    fn link(&self, episode: &mut Episode, event: &ContributingEvent) -> rusqlite::Result<()> {
        let event_time = event.event_time.as_micros();
        episode.first_event_time = episode.first_event_time.min(event_time);
        episode.last_event_time = episode.last_event_time.max(event_time);
        if episode.linked >= self.config.events_per_alert {
            episode.events_beyond += 1;
            counter!("watchbell_alerting_events_beyond_limit_total").increment(1);
            return Ok(());
        }
        let mut insert =
            self.connection.prepare_cached("INSERT INTO alert_event VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        insert.execute((
            episode.seq,
            sql_int(episode.linked),
            event.id.0,
            event.position.partition,
            sql_int(event.position.offset),
            event_time,
        ))?;
        episode.linked += 1;
        Ok(())
    }

    /// Queues a notice for each receiver that should hear of this occurrence and is not about to anyway.
    fn notify(&mut self, episode: &mut Episode, detection: &Detection) -> rusqlite::Result<()> {
        if detection.history || episode.status != Status::Open {
            return Ok(());
        }
        let receivers = self.router.route(detection);
        if receivers.is_empty() {
            return Ok(());
        }
        let told = match &mut episode.told {
            Some(told) => told,
            none => none.insert(load_told(self.connection, episode.seq)?),
        };
        for receiver in receivers {
            let now = self.now.as_micros();
            let (digest, due) = match told.get(receiver) {
                Some(Told { pending: true, .. }) => continue,
                Some(Told { at, .. }) => {
                    // A clock that was set back since must not make the wait longer.
                    let last = (*at).min(now);
                    (true, last.saturating_add(micros(self.config.repeat_interval_ms)).max(now))
                }
                None => (false, now),
            };
            let mut insert = self.connection.prepare_cached(
                "INSERT INTO outbox (alert, receiver, digest, urgent, queued_at, due_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            let urgent = episode.level == Level::Critical;
            insert.execute((episode.seq, receiver, digest, urgent, now, due))?;
            told.insert(receiver.to_owned(), Told { pending: true, at: now });
            self.report.notices += 1;
        }
        Ok(())
    }

    fn finish(mut self) -> rusqlite::Result<(CommitReport, Staged)> {
        for episode in std::mem::take(&mut self.episodes).into_values() {
            self.write(&episode, true)?;
        }
        self.requests.write(&self.staged, self.connection)?;
        Ok((self.report, self.staged))
    }

    fn write(&self, episode: &Episode, taking: bool) -> rusqlite::Result<()> {
        let mut update = self.connection.prepare_cached(
            "UPDATE alert SET count = ?2, linked = ?3, history = ?4, first_event_time = ?5,
                last_event_time = ?6, last_received = ?7, last_summary = ?8, taking = ?9, events_beyond = ?10
             WHERE seq = ?1",
        )?;
        update.execute(params![
            episode.seq,
            sql_int(episode.count),
            sql_int(episode.linked),
            episode.history,
            episode.first_event_time,
            episode.last_event_time,
            episode.last_received,
            episode.last_summary,
            taking,
            sql_int(episode.events_beyond),
        ])?;
        Ok(())
    }
}

/// Reads the episode that takes occurrences under `key`.
fn load(connection: &Connection, key: &EventId) -> rusqlite::Result<Option<Episode>> {
    let mut find = connection.prepare_cached(
        "SELECT seq, count, linked, level, status, history, first_event_time, last_event_time,
            last_received, last_summary, events_beyond FROM alert WHERE episode = ?1 AND taking = 1",
    )?;
    find.query_row([key.0], |row| {
        Ok(Episode {
            seq: row.get(0)?,
            count: from_sql_int(row.get(1)?),
            linked: from_sql_int(row.get(2)?),
            level: super::list::level(row.get(3)?),
            status: super::list::status(&row.get::<_, String>(4)?),
            history: row.get(5)?,
            first_event_time: row.get(6)?,
            last_event_time: row.get(7)?,
            last_received: row.get(8)?,
            last_summary: row.get(9)?,
            events_beyond: from_sql_int(row.get(10)?),
            told: None,
        })
    })
    .optional()
}

fn load_told(connection: &Connection, alert: i64) -> rusqlite::Result<HashMap<String, Told>> {
    let mut find = connection.prepare_cached(
        "SELECT receiver, MAX(delivery IS NULL), MAX(COALESCE(taken_at, queued_at)) FROM outbox
         WHERE alert = ?1 GROUP BY receiver",
    )?;
    let rows =
        find.query_map([alert], |row| Ok((row.get(0)?, Told { pending: row.get(1)?, at: row.get(2)? })))?;
    rows.collect()
}

fn tags_json(detection: &Detection) -> String {
    let tags = detection.tags.iter().take(MAX_TAGS).map(|tag| clip(tag, MAX_NAME_BYTES));
    serde_json::Value::from_iter(tags).to_string()
}

/// Labels as a JSON object; serde_json keeps its keys sorted.
fn labels_json(detection: &Detection) -> String {
    let labels = detection.labels.iter().take(MAX_LABELS);
    let bounded = labels.map(|(name, value)| (clip(name, MAX_NAME_BYTES), clip(value, MAX_VALUE_BYTES)));
    serde_json::Value::from_iter(bounded).to_string()
}
