//! The detect stage: reads the log, evaluates the rules in force, commits detections and position in one
//! transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;
use watchbell_alerting::AlertStore;
use watchbell_event::{Detection, Positions};
use watchbell_ingest::log::{Batch, Log, LogReader};
use watchbell_rules::{CorrelationConfig, Detector, Restored};

use super::correlation_state::StateFile;
use super::rule_counts::Publisher;
use super::rules::RuleBook;
use super::stage::{self, Checkpoints, READER_DETECT};
use crate::clock;

/// Small, so that a detection in the first event does not wait for a long batch.
const MAX_EVENTS: usize = 1_000;
const MAX_BYTES: usize = 8 << 20;
/// Without detections the position is committed this often; replaying what lies between is cheap.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// Detections are committed so long after others: under load many share a transaction and its sync, which the journal's
/// own syncs wait for, too. The first after a quiet moment waits for nothing.
const COMMIT_GAP: Duration = Duration::from_millis(50);
/// While a snapshot is made, its next part does not wait longer for events than this.
const WAIT_WHILE_COPYING: Duration = Duration::from_millis(5);
/// A hostile rule set could match every event many times; what is beyond goes into the next transaction.
const MAX_DETECTIONS: usize = 10_000;

/// Reads on from there, one batch ahead.
///
/// # Errors
/// If the log gives no reader, or the system no thread.
pub(super) fn reader(log: &Log, from: &Positions) -> anyhow::Result<LogReader> {
    let reader = log.reader(READER_DETECT, from)?;
    reader.ahead(MAX_EVENTS, MAX_BYTES).context("failed to start a thread that reads the log")
}

pub(super) struct Detect {
    pub(super) checkpoints: Checkpoints,
    pub(super) reader: LogReader,
    pub(super) rules: Arc<RuleBook>,
    pub(super) alerts: AlertStore,
    pub(super) correlation: CorrelationConfig,
    pub(super) state: StateFile,
    /// What correlations know at the reader's position.
    pub(super) snapshot: Option<Vec<u8>>,
    pub(super) counts: Publisher,
}

impl Detect {
    /// Runs until told to stop, then commits what was read.
    pub(super) fn run(mut self, stopping: &watch::Receiver<bool>) {
        let begins_anew = self.snapshot.is_none();
        let mut detector = self.detector();
        let mut detections = Vec::new();
        let mut positions = self.reader.positions();
        if begins_anew {
            // The first alert is committed at once; what correlations count from here on must be read again after
            // a crash, so a file that says where they began has to be there before.
            self.state.begin(detector.correlator_mut(), &positions);
            self.save(&mut detector, true);
        }
        let (mut committed, mut committed_at) = (positions.clone(), Instant::now());
        let mut tell_from = Instant::now();
        loop {
            let wait = if self.state.is_copying() {
                WAIT_WHILE_COPYING
            } else if detections.is_empty() {
                COMMIT_EVERY
            } else {
                tell_from.saturating_duration_since(Instant::now())
            };
            let Some(batch) = stage::next(&mut self.reader, MAX_EVENTS, MAX_BYTES, wait, stopping) else {
                break;
            };
            if !self.rules.is_current(detector.evaluator().rules()) {
                self.counts.publish(&detector);
                report_dropped(&detector.follow(self.rules.current()));
            }
            self.evaluate(&mut detector, &batch, &mut detections, &mut positions, stopping);
            self.counts.publish_if_due(&detector);
            if let Some(traffic) = detector.learned() {
                self.rules.learn(detector.evaluator().rules(), traffic);
            }
            let is_due = if detections.is_empty() {
                positions != committed && committed_at.elapsed() >= COMMIT_EVERY
            } else {
                Instant::now() >= tell_from
            };
            if is_due {
                if !detections.is_empty() {
                    tell_from = Instant::now() + COMMIT_GAP;
                }
                if !self.commit(&mut detections, &positions, stopping) {
                    return;
                }
                (committed, committed_at) = (positions.clone(), Instant::now());
            }
            if positions == committed && self.state.is_due(&positions) {
                self.state.begin(detector.correlator_mut(), &positions);
            }
            self.save(&mut detector, false);
        }
        self.state.give_up_copying();
        self.save(&mut detector, true);
        if self.commit(&mut detections, &positions, stopping) {
            self.state.begin(detector.correlator_mut(), &positions);
            self.save(&mut detector, true);
        }
    }

    fn detector(&mut self) -> Detector {
        let mut detector = Detector::new(self.rules.current(), self.correlation.clone());
        let Some(snapshot) = self.snapshot.take() else { return detector };
        match detector.correlator_mut().restore(&snapshot) {
            Ok(outcome) => report_dropped(&outcome),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "correlations begin anew; what they had counted is lost"
            ),
        }
        detector
    }

    /// Goes on keeping what correlations know. Only what is kept may be forgotten by the log.
    fn save(&mut self, detector: &mut Detector, finish: bool) {
        match self.state.go_on(detector.correlator_mut(), finish) {
            Ok(Some(positions)) => self.checkpoints.keep(&positions),
            Ok(None) => {}
            Err(error) => {
                metrics::counter!("watchbell_correlation_save_failures_total").increment(1);
                let error = &*error as &dyn std::error::Error;
                tracing::error!(error, "failed to keep the state of correlations; the log is kept instead");
            }
        }
    }

    fn evaluate(
        &mut self,
        detector: &mut Detector,
        batch: &Batch,
        detections: &mut Vec<Detection>,
        positions: &mut Positions,
        stopping: &watch::Receiver<bool>,
    ) {
        let started = Instant::now();
        for record in &batch.records {
            detector.detect(record, detections);
            positions.advance_past(record.position);
            if detections.len() >= MAX_DETECTIONS {
                // Should it be time to stop, the last commit says so once more.
                let _ = self.commit(detections, positions, stopping);
            }
        }
        // Beyond records that were lost, too.
        for (partition, next) in batch.next.iter() {
            positions.set_next(partition, next);
        }
        metrics::counter!("watchbell_detect_events_total").increment(batch.records.len() as u64);
        metrics::counter!("watchbell_detect_busy_microseconds_total")
            .increment(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    }

    /// Commits, again and again if need be: skipping would lose alerts. False if it is time to stop instead;
    /// then nothing may be kept that counts what was not committed.
    fn commit(
        &mut self,
        detections: &mut Vec<Detection>,
        positions: &Positions,
        stopping: &watch::Receiver<bool>,
    ) -> bool {
        let commit = || self.alerts.commit(detections, positions, clock::now());
        let Some(report) = stage::until_done("commit alerts", stopping, commit) else { return false };
        metrics::counter!("watchbell_detections_total").increment(detections.len() as u64);
        if !report.new_alerts.is_empty() {
            tracing::info!(new_alerts = report.new_alerts.len(), occurrences = report.occurrences, "alerts");
        }
        detections.clear();
        true
    }
}

fn report_dropped(outcome: &Restored) {
    for rule in &outcome.dropped {
        tracing::warn!(rule_id = &**rule, "a correlation changed or went; what it had counted was dropped");
    }
}
