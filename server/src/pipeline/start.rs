//! Opens what the roles of this process need, and starts the stages.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tokio::sync::watch;
use watchbell_alerting::{AlertStore, Dispatcher};
use watchbell_ingest::log::Log;
use watchbell_query::Index;

use super::correlation_state::StateFile;
use super::detect::{self, Detect};
use super::files::Following;
use super::index::{IndexView, Indexing};
use super::ingest::{Decoding, IngestPort};
use super::open_log;
use super::rule_counts::{Publisher, RuleCounts};
use super::rules::RuleBook;
use super::sift::Sift;
use super::stage::{self, Checkpoints, READER_DETECT, READER_INDEX};
use super::{Alerting, Pipeline, dispatch, index_config, reload_rules, retain};
use crate::clock;
use crate::config::Config;
use crate::roles::Role;
use crate::sources::Sources;

impl Pipeline {
    /// Opens everything below the data directory and starts the stages, which stop when `stopping` is true.
    ///
    /// # Errors
    /// What cannot be opened, and what to do about it.
    pub(crate) async fn start(config: &mut Config, stopping: &watch::Receiver<bool>) -> Result<Self> {
        let roles = config.roles.clone();
        let decoding = Decoding::open(config)?;
        let opened = open_log::open(config, &decoding).await?;
        let log = opened.log.clone();
        let mut stages = Stages::new(stopping);
        let rules =
            (roles.has(Role::Detect) || roles.has(Role::Alert)).then(|| RuleBook::open(&config.rules));
        let rules = rules.transpose()?.map(Arc::new);
        let rule_counts = Arc::new(RuleCounts::new(clock::now()));
        let index = roles.has(Role::Index).then(|| stages.index(config, &log)).transpose()?;
        let ingest = Arc::new(IngestPort::open(config, decoding, log.clone(), index.clone())?);

        let alerting = match &rules {
            Some(rules) if roles.has(Role::Alert) => Some(stages.detect(
                config,
                opened.to_alert_on,
                rules,
                Publisher::new(Arc::clone(&rule_counts)),
            )?),
            _ => None,
        };
        if let Some((share, rules)) = opened.share.zip(rules.clone()) {
            let sift = Sift { share, rules, counts: Publisher::new(Arc::clone(&rule_counts)) };
            stages.spawn("detect", move |stopping| sift.run(stopping))?;
        }
        let sources = Arc::new(Sources::new(clock::now()));
        if roles.has(Role::Receive) && !config.files.sources.is_empty() {
            let (port, sources) = (Arc::clone(&ingest), Arc::clone(&sources));
            let following = Following::open(config.files.clone(), &config.data_dir, port, sources)?;
            stages.spawn("files", move |stopping| following.run(stopping))?;
        }
        let mut chores = vec![tokio::spawn(retain(log.clone(), stopping.clone()))];
        if let Some(alerting) = &alerting {
            let receivers = std::mem::take(&mut config.alerting.receivers);
            let dispatcher =
                Dispatcher::new(alerting.store.clone(), config.alerting.dispatch.clone(), receivers);
            chores.push(tokio::spawn(dispatch(dispatcher, stopping.clone())));
        }
        if let Some(rules) = &rules {
            let (rules, interval) = (Arc::clone(rules), config.rules.reload_interval);
            chores.push(tokio::spawn(reload_rules(rules, interval, stopping.clone())));
        }
        Ok(Self {
            roles,
            log,
            ingest,
            sources,
            rules,
            rule_counts,
            index,
            alerting,
            stages: Mutex::new(stages.threads),
            failed: stages.failed,
            chores: Mutex::new(chores),
        })
    }
}

/// The stages that were started.
struct Stages<'a> {
    stopping: &'a watch::Receiver<bool>,
    failed: watch::Sender<Option<&'static str>>,
    threads: Vec<JoinHandle<()>>,
}

impl<'a> Stages<'a> {
    fn new(stopping: &'a watch::Receiver<bool>) -> Self {
        Self { stopping, failed: watch::channel(None).0, threads: Vec::new() }
    }

    fn spawn(
        &mut self,
        name: &'static str,
        run: impl FnOnce(&watch::Receiver<bool>) + Send + 'static,
    ) -> Result<()> {
        let stopping = self.stopping.clone();
        self.threads.push(stage::spawn(name, self.failed.clone(), move || run(&stopping))?);
        Ok(())
    }

    fn index(&mut self, config: &Config, log: &Log) -> Result<Arc<IndexView>> {
        let dir: PathBuf = config.data_dir.join("index");
        let index = Index::open(index_config(config), &dir).context("failed to open the index")?;
        stage::report_missing(log, READER_INDEX, index.positions());
        let view = Arc::new(IndexView::new(&index));
        let indexing = Indexing {
            log: log.clone(),
            index,
            view: Arc::clone(&view),
            config: index_config(config),
            dir,
            commit_interval: config.index.commit_interval,
            others_receive: !config.roles.has(Role::Receive),
        };
        self.spawn("index", move |stopping| indexing.run(stopping))?;
        Ok(view)
    }

    fn detect(
        &mut self,
        config: &mut Config,
        log: Log,
        rules: &Arc<RuleBook>,
        counts: Publisher,
    ) -> Result<Alerting> {
        let store = AlertStore::open(
            &config.data_dir.join("alerts.sqlite"),
            config.alerting.store.clone(),
            std::mem::take(&mut config.alerting.router),
        )?;
        stage::report_missing(&log, READER_DETECT, &store.positions());
        let state = StateFile::new(&config.data_dir);
        let (from, snapshot) = state.resume(&store.positions());
        let detect = Detect {
            reader: detect::reader(&log, &from)?,
            correlation: config.rules.correlation.clone(),
            state,
            snapshot,
            checkpoints: Checkpoints::new(log.clone(), READER_DETECT),
            rules: Arc::clone(rules),
            alerts: store.clone(),
            counts,
        };
        self.spawn("detect", move |stopping| detect.run(stopping))?;
        Ok(Alerting { store, log })
    }
}
