//! The detect stage: reads the log, evaluates the rules in force, commits detections and position in one
//! transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use watchbell_alerting::AlertStore;
use watchbell_event::{Detection, Positions};
use watchbell_ingest::log::{Batch, LogReader};
use watchbell_rules::Detector;

use super::rules::RuleBook;
use super::stage::{self, Checkpoints};
use crate::clock;

/// Small, so that a detection in the first event does not wait for a long batch.
const MAX_EVENTS: usize = 1_000;
const MAX_BYTES: usize = 8 << 20;
/// Without detections the position is committed this often; replaying what lies between is cheap.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// A hostile rule set could match every event many times; what is beyond goes into the next transaction.
const MAX_DETECTIONS: usize = 10_000;

pub(super) struct Detect {
    pub(super) checkpoints: Checkpoints,
    pub(super) reader: LogReader,
    pub(super) rules: Arc<RuleBook>,
    pub(super) alerts: AlertStore,
}

impl Detect {
    /// Runs until told to stop, then commits what was read.
    pub(super) fn run(mut self, stopping: &watch::Receiver<bool>) {
        let mut detector = Detector::new(self.rules.current());
        let mut detections = Vec::new();
        let mut positions = self.reader.positions();
        let (mut committed, mut committed_at) = (positions.clone(), Instant::now());
        while let Some(batch) = stage::next(&mut self.reader, MAX_EVENTS, MAX_BYTES, COMMIT_EVERY, stopping) {
            if !self.rules.is_current(detector.evaluator().rules()) {
                detector.follow(self.rules.current());
            }
            self.evaluate(&mut detector, &batch, &mut detections, &mut positions, stopping);
            if let Some(traffic) = detector.learned() {
                self.rules.learn(detector.evaluator().rules(), traffic);
            }
            let due = positions != committed && committed_at.elapsed() >= COMMIT_EVERY;
            if due || !detections.is_empty() {
                self.commit(&mut detections, &positions, stopping);
                (committed, committed_at) = (positions.clone(), Instant::now());
            }
        }
        self.commit(&mut detections, &positions, stopping);
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
                self.commit(detections, positions, stopping);
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

    /// Commits, again and again if need be: skipping would lose alerts.
    fn commit(
        &mut self,
        detections: &mut Vec<Detection>,
        positions: &Positions,
        stopping: &watch::Receiver<bool>,
    ) {
        let commit = || self.alerts.commit(detections, positions, clock::now());
        let Some(report) = stage::until_done("commit alerts", stopping, commit) else { return };
        metrics::counter!("watchbell_detections_total").increment(detections.len() as u64);
        if !report.new_alerts.is_empty() {
            tracing::info!(new_alerts = report.new_alerts.len(), occurrences = report.occurrences, "alerts");
        }
        detections.clear();
        self.checkpoints.keep(positions);
    }
}
