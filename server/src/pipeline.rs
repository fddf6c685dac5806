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
mod stage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::watch;
use watchbell_alerting::{AlertStore, Dispatcher};
use watchbell_event::predicate::Predicate;
use watchbell_ingest::log::{Log, LogState};
use watchbell_query::{Index, Searcher};
use watchbell_rules::needed_bodies;

use self::correlation_state::StateFile;
use self::detect::Detect;
use self::files::Following;
use self::index::{IndexView, Indexing};
use self::ingest::Decoding;
use self::rule_counts::{Publisher, RuleCounts};
use self::rules::RuleBook;
use self::stage::{Checkpoints, READER_DETECT, READER_INDEX};
use crate::clock;
use crate::config::Config;
use crate::sources::Sources;

pub(crate) use self::ingest::{IngestError, IngestPort, Ingested, Payload, Quarantined, Request, RetryError};
pub(crate) use self::rule_query::RuleQueryError;
pub(crate) use self::rules::RuleReload;
pub(crate) use watchbell_ingest::decode::Compression;

/// Everything between the HTTP surface and the disk.
pub(crate) struct Pipeline {
    log: Log,
    ingest: Arc<IngestPort>,
    sources: Arc<Sources>,
    rules: Arc<RuleBook>,
    rule_counts: Arc<RuleCounts>,
    index: Arc<IndexView>,
    alerts: AlertStore,
    stages: Mutex<Vec<std::thread::JoinHandle<()>>>,
    failed: watch::Sender<Option<&'static str>>,
    chores: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Pipeline {
    /// Opens everything below the data directory and starts the stages, which stop when `stopping` is true.
    ///
    /// # Errors
    /// What cannot be opened, and what to do about it.
    pub(crate) fn start(config: &mut Config, stopping: &watch::Receiver<bool>) -> Result<Self> {
        let data_dir = &config.data_dir;
        let decoding = Decoding::open(config)?;
        let log = open_log::open(config, &decoding)?;
        let index_dir = data_dir.join("index");
        let index = Index::open(index_config(config), &index_dir).context("failed to open the index")?;
        stage::report_missing(&log, READER_INDEX, index.positions());
        let alerts = AlertStore::open(
            &data_dir.join("alerts.sqlite"),
            config.alerting.store.clone(),
            std::mem::take(&mut config.alerting.router),
        )?;
        stage::report_missing(&log, READER_DETECT, &alerts.positions());
        let rules = Arc::new(RuleBook::open(&config.rules)?);
        let view = Arc::new(IndexView::new(&index));
        let ingest = Arc::new(IngestPort::open(config, decoding, log.clone(), Arc::clone(&view))?);

        let state = StateFile::new(data_dir);
        let (from, snapshot) = state.resume(&alerts.positions());
        let rule_counts = Arc::new(RuleCounts::new(clock::now()));
        let detect = Detect {
            reader: detect::reader(&log, &from)?,
            correlation: config.rules.correlation.clone(),
            state,
            snapshot,
            checkpoints: Checkpoints::new(log.clone(), READER_DETECT),
            rules: Arc::clone(&rules),
            alerts: alerts.clone(),
            counts: Publisher::new(Arc::clone(&rule_counts)),
        };
        let indexing = Indexing {
            log: log.clone(),
            index,
            view: Arc::clone(&view),
            config: index_config(config),
            dir: index_dir,
            commit_interval: config.index.commit_interval,
        };
        let sources = Arc::<Sources>::default();
        let (failed, _) = watch::channel(None);
        let (stop_detect, stop_index) = (stopping.clone(), stopping.clone());
        let mut stages = vec![
            stage::spawn("detect", failed.clone(), move || detect.run(&stop_detect))?,
            stage::spawn("index", failed.clone(), move || indexing.run(&stop_index))?,
        ];
        if !config.files.sources.is_empty() {
            let following =
                Following::open(config.files.clone(), data_dir, Arc::clone(&ingest), Arc::clone(&sources))?;
            let stop_files = stopping.clone();
            stages.push(stage::spawn("files", failed.clone(), move || following.run(&stop_files))?);
        }
        let receivers = std::mem::take(&mut config.alerting.receivers);
        let dispatcher = Dispatcher::new(alerts.clone(), config.alerting.dispatch.clone(), receivers);
        let chores = vec![
            tokio::spawn(dispatch(dispatcher, stopping.clone())),
            tokio::spawn(retain(log.clone(), stopping.clone())),
            tokio::spawn(reload_rules(Arc::clone(&rules), config.rules.reload_interval, stopping.clone())),
        ];
        Ok(Self {
            log,
            ingest,
            sources,
            rules,
            rule_counts,
            index: view,
            alerts,
            stages: Mutex::new(stages),
            failed,
            chores: Mutex::new(chores),
        })
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

    /// How many audit events came from each cluster, sent here or read from topics.
    pub(crate) fn audit_totals(&self) -> BTreeMap<String, u64> {
        self.sources.totals(|route| self.ingest.is_audit(route))
    }

    /// Finds events.
    pub(crate) fn searcher(&self) -> Searcher {
        self.index.searcher()
    }

    /// Puts the events a rule matched in place of `rule:ID`. Blocks on the alert database.
    pub(crate) fn resolve_rules(&self, query: Predicate) -> Result<Predicate, RuleQueryError> {
        rule_query::resolve(query, &self.alerts, &self.rules.current())
    }

    /// Knows alerts.
    pub(crate) fn alerts(&self) -> &AlertStore {
        &self.alerts
    }

    /// Changes of the rules since the last call.
    pub(crate) fn take_rule_reloads(&self) -> Vec<RuleReload> {
        self.rules.take_reloads()
    }

    /// The rules in force and what became of them, and why others are not.
    pub(crate) fn rules_overview(&self) -> Value {
        let set = self.rules.current();
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
        json!({ "rules": rules, "problems": self.rules.problems(), "counted_since": self.rule_counts.since() })
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
        let (detected, indexed) = (self.alerts.positions(), self.index.positions());
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
            "ready": self.not_ready().is_none(), "intake_closed": self.intake_closed(),
            "log": { "bytes": log.bytes, "oldest": log.oldest, "end": log.end, "corruptions": corruptions },
            "detect": { "position": detected, "lag": self.log.lag(&detected) },
            "index": { "position": indexed, "lag": self.log.lag(&indexed) },
            "rules": { "loaded": self.rules.current().rules().len(), "problems": self.rules.problems().len() },
        });
        if let Some(topics) = self.log.topics() {
            let readers = [(READER_DETECT, &detected), (READER_INDEX, &*indexed)];
            status["kafka"] = kafka_status::to_json(&topics.status(), &readers);
        }
        status
    }

    /// Sets the gauges that are looked at rather than counted, and counts with the sources what topics brought.
    pub(crate) fn publish_gauges(&self) {
        let log = self.log.status();
        gauge("watchbell_journal_bytes", "", log.bytes);
        gauge("watchbell_intake_open", "", u64::from(log.state == LogState::Open));
        gauge("watchbell_log_lag_events", READER_DETECT, self.log.lag(&self.alerts.positions()));
        gauge("watchbell_log_lag_events", READER_INDEX, self.log.lag(&self.index.positions()));
        if let Some(topics) = self.log.topics() {
            let (detected, indexed) = (self.alerts.positions(), self.index.positions());
            let readers = [(READER_DETECT, &detected), (READER_INDEX, &*indexed)];
            kafka_status::publish_lag(&topics.status(), &readers);
            kafka_status::note_sources(topics, &self.sources, &readers);
        }
        gauge("watchbell_rules_loaded", "", self.rules.current().rules().len() as u64);
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
