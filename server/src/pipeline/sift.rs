//! The detect stage of a process that leaves alerting to another: evaluates the rules on its share of the log and passes
//! on what matches. It keeps nothing; what it has read and what it has passed on is one transaction in Kafka.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use watchbell_ingest::log::LogError;
use watchbell_ingest::log::kafka::{Share, ShareMessage};
use watchbell_rules::{CorrelationConfig, Detector};

use super::rule_counts::Publisher;
use super::rules::RuleBook;
use super::stage;

pub(super) struct Sift {
    pub(super) share: Share,
    pub(super) rules: Arc<RuleBook>,
    pub(super) counts: Publisher,
}

impl Sift {
    /// Runs until told to stop, then passes on what was read.
    pub(super) fn run(mut self, stopping: &watch::Receiver<bool>) {
        // correlations are counted where everything comes together
        let mut detector = Detector::new(self.rules.current(), CorrelationConfig::default());
        while !*stopping.borrow() {
            if !self.rules.is_current(detector.evaluator().rules()) {
                self.counts.publish(&detector);
                detector.follow(self.rules.current());
            }
            match self.share.read() {
                Ok(Some(message)) => self.evaluate(&mut detector, message),
                Ok(None) => {}
                Err(LogError::Closed) => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "failed to read the share of this process; trying again");
                    stage::pause(stopping);
                }
            }
            if self.share.is_due() {
                self.pass_on(stopping);
            }
            self.counts.publish_if_due(&detector);
            if let Some(traffic) = detector.learned() {
                self.rules.learn(detector.evaluator().rules(), traffic);
            }
        }
        self.pass_on(stopping);
    }

    fn evaluate(&mut self, detector: &mut Detector, message: ShareMessage) {
        let started = Instant::now();
        let events = message.events.iter().enumerate();
        let chosen: Vec<usize> =
            events.filter(|(_, envelope)| detector.matches_any(envelope)).map(|(number, _)| number).collect();
        metrics::counter!("watchbell_detect_events_total").increment(message.events.len() as u64);
        metrics::counter!("watchbell_detect_busy_microseconds_total")
            .increment(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.share.take(message, &chosen);
    }

    /// What could not be passed on is read again.
    fn pass_on(&mut self, stopping: &watch::Receiver<bool>) {
        if let Err(error) = self.share.pass_on() {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "matches were not passed on; they are read and passed on again");
            stage::pause(stopping);
        }
    }
}
