//! The only place where the stages meet: opens each of them, connects them through the log, and stops them
//! in order.

mod correlation_state;
mod detect;
mod files;
mod index;
mod ingest;
mod kafka_status;
mod open_log;
mod rule_counts;
mod rule_query;
mod rules;
mod sift;
mod stage;
mod start;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use watchbell_alerting::{AlertStore, Dispatcher};
use watchbell_event::Positions;
use watchbell_event::predicate::Predicate;
use watchbell_ingest::log::{Log, LogState};
use watchbell_query::Searcher;
use watchbell_rules::needed_bodies;

use self::index::IndexView;
use self::rule_counts::RuleCounts;
use self::rules::RuleBook;
use self::stage::{READER_DETECT, READER_INDEX};
use crate::clock;
use crate::config::Config;
use crate::roles::{Elsewhere, Role, Roles};
use crate::sources::Sources;

pub(crate) use self::ingest::{IngestError, IngestPort, Ingested, Payload, Quarantined, Request, RetryError};
pub(crate) use self::rule_query::RuleQueryError;
pub(crate) use self::rules::RuleReload;
pub(crate) use watchbell_ingest::decode::Compression;

/// Everything between the HTTP surface and the disk, as far as it is this process's work.
pub(crate) struct Pipeline {
    roles: Roles,
    log: Log,
    ingest: Arc<IngestPort>,
    sources: Arc<Sources>,
    rules: Option<Arc<RuleBook>>,
    rule_counts: Arc<RuleCounts>,
    index: Option<Arc<IndexView>>,
    alerting: Option<Alerting>,
    stages: Mutex<Vec<std::thread::JoinHandle<()>>>,
    failed: watch::Sender<Option<&'static str>>,
    chores: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

/// Alerts, and the log whose positions they are kept with.
struct Alerting {
    store: AlertStore,
    log: Log,
}

/// A reader of a log, and how far it has come.
struct Reader<'a> {
    name: &'static str,
    positions: Arc<Positions>,
    log: &'a Log,
}

impl Pipeline {
    /// What this process does.
    pub(crate) fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Takes events in.
    pub(crate) fn ingest(&self) -> Arc<IngestPort> {
        Arc::clone(&self.ingest)
    }

    /// What it means that an append was answered.
    pub(crate) fn durability(&self) -> &'static str {
        self.log.durability()
    }

    /// Who sends what, and what is fetched from where.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// How many audit events came from each cluster, sent here or read from topics. Others receive what an index reads
    /// that runs apart; it counts for itself.
    pub(crate) fn audit_totals(&self) -> BTreeMap<String, u64> {
        match &self.index {
            Some(index) if !self.roles.has(Role::Receive) => index.audit_totals(),
            _ => self.sources.totals(|route| self.ingest.is_audit(route)),
        }
    }

    /// Finds events.
    ///
    /// # Errors
    /// If another process does.
    pub(crate) fn searcher(&self) -> Result<Searcher, Elsewhere> {
        let index = self.index.as_ref().ok_or_else(|| self.roles.elsewhere(&[Role::Query]))?;
        Ok(index.searcher())
    }

    /// Puts the events a rule matched in place of `rule:ID`. Blocks on the alert database.
    pub(crate) fn resolve_rules(&self, query: Predicate) -> Result<Predicate, RuleQueryError> {
        match (&self.alerting, &self.rules) {
            (Some(alerting), Some(rules)) => rule_query::resolve(query, &alerting.store, &rules.current()),
            _ => rule_query::without_rules(query, || self.roles.elsewhere(&[Role::Alert])),
        }
    }

    /// Knows alerts.
    ///
    /// # Errors
    /// If another process does.
    pub(crate) fn alerts(&self) -> Result<&AlertStore, Elsewhere> {
        let alerting = self.alerting.as_ref().ok_or_else(|| self.roles.elsewhere(&[Role::Alert]))?;
        Ok(&alerting.store)
    }

    /// Changes of the rules since the last call.
    pub(crate) fn take_rule_reloads(&self) -> Vec<RuleReload> {
        self.rules.as_ref().map(|rules| rules.take_reloads()).unwrap_or_default()
    }

    /// The rules in force and what became of them, and why others are not.
    ///
    /// # Errors
    /// If this process evaluates none.
    pub(crate) fn rules_overview(&self) -> Result<Value, Elsewhere> {
        const WANTED: &[Role] = &[Role::Detect, Role::Alert];
        let book = self.rules.as_ref().ok_or_else(|| self.roles.elsewhere(WANTED))?;
        let set = book.current();
        let rules: Vec<Value> = set
            .rules()
            .iter()
            .zip(needed_bodies(set.rules()))
            .enumerate()
            .map(|(index, (rule, needs))| {
                let count = self.rule_counts.of(&rule.key);
                let correlation = count.correlation.map(|stats| {
                    json!({ "groups": stats.groups, "bytes": stats.bytes, "evicted_groups": stats.evicted_groups,
                        "evicted_entries": stats.evicted_entries })
                });
                json!({ "id": rule.key, "title": rule.title, "level": rule.level, "status": rule.status,
                    "description": rule.description, "tags": rule.tags, "file": rule.file, "line": rule.line,
                    "needs": needs, "lists": rule.lists, "silent": set.is_silent(index), "matches": count.matches,
                    "not_evaluable": count.not_evaluable, "correlation": correlation })
            })
            .collect();
        Ok(json!({ "rules": rules, "problems": book.problems(), "counted_since": self.rule_counts.since() }))
    }

    /// Why this server should be sent nothing, if so. A journal that is merely full is no reason: senders are
    /// told to wait, and searching is what people need then.
    pub(crate) fn not_ready(&self) -> Option<String> {
        match self.log.status().state {
            LogState::Open | LogState::Full(_) | LogState::Refusing(_) => None,
            LogState::Failed(reason) => {
                Some(format!("the journal failed: {reason}; restart after mending the disk"))
            }
        }
    }

    /// Why events are refused at the moment, if they are.
    fn intake_closed(&self) -> Option<String> {
        match self.log.status().state {
            LogState::Open => None,
            LogState::Full(reason) => Some(format!("the journal is full: {reason}")),
            LogState::Refusing(reason) => Some(reason.to_string()),
            LogState::Failed(reason) => Some(format!("the journal failed: {reason}")),
        }
    }

    /// Positions, lag and damage, for people who ask how it is.
    pub(crate) fn status(&self) -> Value {
        let log = self.log.status();
        let corruptions: Vec<Value> = log
            .corruptions
            .iter()
            .map(|damage| {
                json!({ "segment": damage.segment, "first_byte": damage.bytes.start, "end_byte": damage.bytes.end,
                    "first_record_lost": damage.records.start, "end_record_lost": damage.records.end,
                    "torn_tail": damage.torn_tail, "reason": damage.reason, "copy": damage.copy })
            })
            .collect();
        let mut status = json!({
            "roles": self.roles.names(),
            "ready": self.not_ready().is_none(), "intake_closed": self.intake_closed(),
            "log": { "bytes": log.bytes, "oldest": log.oldest, "end": log.end, "corruptions": corruptions },
        });
        let readers = self.readers();
        for Reader { name, positions, log } in &readers {
            status[*name] = json!({ "position": positions, "lag": log.lag(positions) });
        }
        if let Some(rules) = &self.rules {
            let (loaded, problems) = (rules.current().rules().len(), rules.problems().len());
            status["rules"] = json!({ "loaded": loaded, "problems": problems });
        }
        if let Some(topics) = self.log.topics() {
            status["kafka"] = kafka_status::to_json(&topics.all(), &readers);
            if self.roles.pass_matches_on() {
                let held = topics.held();
                let lag: u64 = held.iter().map(|partition| partition.lag).sum();
                status["share"] = json!({ "lag": lag, "partitions": held });
            }
        }
        status
    }

    /// Sets the gauges that are looked at rather than counted, and counts with the sources what topics brought.
    pub(crate) fn publish_gauges(&self) {
        let log = self.log.status();
        gauge("watchbell_journal_bytes", "", log.bytes);
        gauge("watchbell_intake_open", "", u64::from(log.state == LogState::Open));
        let readers = self.readers();
        for Reader { name, positions, log } in &readers {
            gauge("watchbell_log_lag_events", name, log.lag(positions));
        }
        if let Some(topics) = self.log.topics() {
            kafka_status::publish_lag(&topics.all(), &readers);
            if self.roles.has(Role::Index) {
                kafka_status::note_sources(topics, &self.sources, &readers);
            }
        }
        if let Some(rules) = &self.rules {
            gauge("watchbell_rules_loaded", "", rules.current().rules().len() as u64);
        }
    }

    /// The readers of logs in this process that keep positions of their own.
    fn readers(&self) -> Vec<Reader<'_>> {
        let detect = self.alerting.as_ref().map(|Alerting { store, log }| Reader {
            name: READER_DETECT,
            positions: Arc::new(store.positions()),
            log,
        });
        let index = self.index.as_ref().map(|index| Reader {
            name: READER_INDEX,
            positions: index.positions(),
            log: &self.log,
        });
        detect.into_iter().chain(index).collect()
    }

    /// Resolves with the name of a stage that ended by a panic.
    pub(crate) async fn stage_failed(&self) -> &'static str {
        let mut failed = self.failed.subscribe();
        match failed.wait_for(Option::is_some).await.map(|name| *name) {
            Ok(Some(name)) => name,
            _ => std::future::pending().await,
        }
    }

    /// Waits until the stages have committed what they read, then closes the log.
    pub(crate) async fn drain(&self) {
        let stages = std::mem::take(&mut *self.stages.lock().unwrap_or_else(PoisonError::into_inner));
        let chores = std::mem::take(&mut *self.chores.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(|| stages.into_iter().all(|stage| stage.join().is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a stage ended early; its work is repeated at the next start");
        }
        for chore in chores {
            let _ = chore.await;
        }
        self.log.close().await;
    }
}

const RETAIN_EVERY: Duration = Duration::from_secs(30);

fn index_config(config: &Config) -> watchbell_query::Config {
    let retention_days = config.index.retention.as_secs() / 86_400;
    watchbell_query::Config {
        heap_bytes: usize::try_from(config.index.heap_bytes).unwrap_or(usize::MAX),
        partition_documents: config.index.partition_max_events,
        retention_days: u32::try_from(retention_days).unwrap_or(u32::MAX).max(1),
        ..watchbell_query::Config::default()
    }
}

async fn dispatch(dispatcher: Dispatcher, stopping: watch::Receiver<bool>) {
    if let Err(error) = dispatcher.run(clock::now, stopped(stopping)).await {
        tracing::error!(error = &error as &dyn std::error::Error, "failed to stop sending in order");
    }
}

/// Deletes journal segments that nobody needs.
async fn retain(log: Log, stopping: watch::Receiver<bool>) {
    while pause(RETAIN_EVERY, &stopping).await {
        if let Err(error) = log.retain(clock::now()).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "failed to delete old journal segments"
            );
        }
    }
}

async fn reload_rules(rules: Arc<RuleBook>, interval: Duration, stopping: watch::Receiver<bool>) {
    while pause(interval.max(Duration::from_millis(100)), &stopping).await {
        let rules = Arc::clone(&rules);
        let _ = tokio::task::spawn_blocking(move || rules.reload()).await;
    }
}

/// Waits; false if it is time to stop.
async fn pause(interval: Duration, stopping: &watch::Receiver<bool>) -> bool {
    tokio::time::timeout(interval, stopped(stopping.clone())).await.is_err()
}

/// Resolves when it is time to stop.
pub(crate) async fn stopped(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
fn gauge(name: &'static str, reader: &'static str, value: u64) {
    if reader.is_empty() {
        metrics::gauge!(name).set(value as f64);
    } else {
        metrics::gauge!(name, "reader" => reader).set(value as f64);
    }
}
