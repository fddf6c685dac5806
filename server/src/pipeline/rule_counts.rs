//! What each rule did since the server started, as metrics and for those who ask for the rules.
//!
//! Metrics: `watchbell_rule_matches_total{rule}`, `watchbell_rule_not_evaluable_events_total{rule}`,
//! `watchbell_correlation_groups{rule}` and `watchbell_correlation_bytes{rule}`. The first [`MAX_LABELS`] rules that have
//! something to count are named; all others together are `other`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use watchbell_event::Timestamp;
use watchbell_rules::{CorrelationStats, Correlator, Detector, RuleSet};

/// Rules that metrics name.
const MAX_LABELS: usize = 1_000;
/// Longest name of a rule in metrics, in characters.
const MAX_LABEL_CHARACTERS: usize = 128;
/// What metrics call the rules beyond.
const OTHER: &str = "other";
/// How often counts are made public.
const EVERY: Duration = Duration::from_secs(1);

/// The counts of all rules in force, by what identifies them.
pub(super) struct RuleCounts {
    since: Timestamp,
    by_rule: Mutex<HashMap<Arc<str>, RuleCount>>,
}

/// What one rule did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleCount {
    /// Events that it matched; of a correlation, how often it did.
    pub(super) matches: u64,
    /// Events that lack a body which it reads.
    pub(super) not_evaluable: u64,
    /// What it holds, if it is a correlation.
    pub(super) correlation: Option<CorrelationStats>,
}

impl RuleCounts {
    /// Counts from now on.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { since: now, by_rule: Mutex::default() }
    }

    /// When counting began.
    pub(super) fn since(&self) -> Timestamp {
        self.since
    }

    /// The counts of a rule.
    pub(super) fn of(&self, rule: &str) -> RuleCount {
        self.lock().get(rule).cloned().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, RuleCount>> {
        self.by_rule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes public what a detector counts; belongs to the thread that detects.
pub(super) struct Publisher {
    counts: Arc<RuleCounts>,
    /// What the detector had counted when that was made public last.
    set: Option<Arc<RuleSet>>,
    matched: Vec<u64>,
    not_evaluable: Vec<u64>,
    published_at: Option<Instant>,
    labels: HashSet<Arc<str>>,
    /// The labels of gauges that are not zero.
    gauges: HashSet<String>,
}

impl Publisher {
    pub(super) fn new(counts: Arc<RuleCounts>) -> Self {
        Self {
            counts,
            set: None,
            matched: Vec::new(),
            not_evaluable: Vec::new(),
            published_at: None,
            labels: HashSet::new(),
            gauges: HashSet::new(),
        }
    }

    /// Publishes if that is some time ago.
    pub(super) fn publish_if_due(&mut self, detector: &Detector) {
        if self.published_at.is_none_or(|at| at.elapsed() >= EVERY) {
            self.publish(detector);
        }
    }

    /// Publishes. To be called before a detector follows other rules, for it then forgets what it counted.
    pub(super) fn publish(&mut self, detector: &Detector) {
        self.published_at = Some(Instant::now());
        let set = Arc::clone(detector.evaluator().rules());
        if !self.set.as_ref().is_some_and(|before| set.has_rules_of(before)) {
            self.begin(&set);
        }
        let (matched, not_evaluable) = (detector.matched().to_vec(), detector.evaluator().not_evaluable());
        let news = |now: &[u64], before: &[u64]| -> Vec<u64> {
            now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect()
        };
        let new_matches = news(&matched, &self.matched);
        let new_not_evaluable = news(&not_evaluable, &self.not_evaluable);
        for (rule, new) in set.rules().iter().zip(new_matches.into_iter().zip(new_not_evaluable)) {
            if new != (0, 0) {
                self.add(&rule.key, new);
            }
        }
        let stats = detector.correlator().stats();
        self.publish_gauges(&stats);
        publish_watermarks(detector.correlator());
        let mut by_rule = self.counts.lock();
        for stats in stats {
            let rule = Arc::clone(&stats.rule);
            by_rule.entry(rule).or_default().correlation = Some(stats);
        }
        drop(by_rule);
        (self.set, self.matched, self.not_evaluable) = (Some(set), matched, not_evaluable);
    }

    /// Begins with other rules. Those that are in force no more are forgotten.
    fn begin(&mut self, set: &RuleSet) {
        self.matched = vec![0; set.rules().len()];
        self.not_evaluable = vec![0; set.rules().len()];
        let keys: HashSet<&Arc<str>> = set.rules().iter().map(|rule| &rule.key).collect();
        self.counts.lock().retain(|rule, _| keys.contains(rule));
    }

    fn add(&mut self, rule: &Arc<str>, (matches, not_evaluable): (u64, u64)) {
        let mut by_rule = self.counts.lock();
        let count = by_rule.entry(Arc::clone(rule)).or_default();
        count.matches += matches;
        count.not_evaluable += not_evaluable;
        drop(by_rule);
        let label = self.label(rule);
        if matches > 0 {
            metrics::counter!("watchbell_rule_matches_total", "rule" => label.clone()).increment(matches);
        }
        if not_evaluable > 0 {
            metrics::counter!("watchbell_rule_not_evaluable_events_total", "rule" => label)
                .increment(not_evaluable);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
    fn publish_gauges(&mut self, stats: &[CorrelationStats]) {
        let mut held: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for stats in stats.iter().filter(|stats| stats.groups > 0) {
            let (groups, bytes) = held.entry(self.label(&stats.rule)).or_default();
            *groups += stats.groups;
            *bytes += stats.bytes;
        }
        // Also those that hold nothing any more.
        self.gauges.extend(held.keys().cloned());
        for label in &self.gauges {
            let (groups, bytes) = held.get(label).copied().unwrap_or_default();
            metrics::gauge!("watchbell_correlation_groups", "rule" => label.clone()).set(groups as f64);
            metrics::gauge!("watchbell_correlation_bytes", "rule" => label.clone()).set(bytes as f64);
        }
        self.gauges.retain(|label| held.contains_key(label));
    }

    /// What metrics call a rule.
    fn label(&mut self, rule: &Arc<str>) -> String {
        let named = self.labels.contains(rule) || self.labels.len() < MAX_LABELS;
        if !named {
            return OTHER.to_owned();
        }
        if !self.labels.contains(rule) {
            self.labels.insert(Arc::clone(rule));
        }
        rule.chars().take(MAX_LABEL_CHARACTERS).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
fn publish_watermarks(correlator: &Correlator) {
    for (cluster, watermark) in correlator.watermarks() {
        let seconds = watermark.as_micros() as f64 / 1e6;
        metrics::gauge!("watchbell_correlation_watermark_seconds", "cluster" => cluster.to_string())
            .set(seconds);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use watchbell_event::{Envelope, EventId, Format, Position, Record};
    use watchbell_rules::{CorrelationConfig, Lists, load};

    use super::*;

    const RULES: &str = "title: Pod\nid: pod\nname: pod\ndetection: {s: {verb: create, requestObject.a: x}, condition: s}\n---\n\
        title: Many\nid: many\ncorrelation: {type: event_count, rules: [pod], timespan: 1h, condition: {gte: 2}}\n";

    fn rules(text: &str) -> Arc<RuleSet> {
        let loaded = load(&[("r.yml".to_owned(), text.to_owned())], &Lists::default());
        assert_eq!(loaded.errors, []);
        Arc::new(RuleSet::compile(loaded.rules))
    }

    fn record(offset: u64, json: &'static str) -> Record {
        let time: Timestamp = "2026-01-31T08:15:00Z".parse().unwrap();
        let envelope = Envelope {
            id: EventId([u8::try_from(offset).unwrap(); 16]),
            received_at: time,
            event_time: time,
            source: "audit".into(),
            cluster: "prod".into(),
            format: Format::KubernetesAudit,
            peer: None,
            history: false,
            bytes: Bytes::from_static(json.as_bytes()),
        };
        Record { position: Position { partition: 0, offset }, envelope }
    }

    #[test]
    fn counts_go_on_while_a_rule_is_in_force() {
        let counts = Arc::new(RuleCounts::new(Timestamp::default()));
        let mut publisher = Publisher::new(Arc::clone(&counts));
        let mut detector = Detector::new(rules(RULES), CorrelationConfig::default());
        let mut offset = 0;
        let mut take = |detector: &mut Detector, json| {
            offset += 1;
            detector.detect(&record(offset, json), &mut Vec::new());
        };
        let full = r#"{"level":"Request","verb":"create","requestObject":{"a":"x"}}"#;
        let metadata = r#"{"level":"Metadata","verb":"create"}"#;
        for json in [full, full, metadata] {
            take(&mut detector, json);
        }
        publisher.publish(&detector);
        publisher.publish(&detector);
        let pod = counts.of("pod");
        assert_eq!((pod.matches, pod.not_evaluable, pod.correlation), (2, 1, None));
        let many = counts.of("many");
        assert_eq!((many.matches, many.not_evaluable, many.correlation.unwrap().groups), (1, 0, 1));

        take(&mut detector, full);
        publisher.publish(&detector);
        detector.follow(rules(RULES.split("---").next().unwrap()));
        take(&mut detector, full);
        publisher.publish(&detector);
        assert_eq!((counts.of("pod").matches, counts.of("many")), (4, RuleCount::default()));
    }

    #[test]
    fn metrics_name_no_more_rules_than_they_may() {
        let mut publisher = Publisher::new(Arc::new(RuleCounts::new(Timestamp::default())));
        let label = |publisher: &mut Publisher, n: usize| publisher.label(&Arc::from(format!("rule {n}")));
        let labels: HashSet<String> = (0..3 * MAX_LABELS).map(|n| label(&mut publisher, n)).collect();
        assert_eq!(labels.len(), MAX_LABELS + 1);
        assert_eq!(
            (label(&mut publisher, 7), label(&mut publisher, MAX_LABELS)),
            ("rule 7".to_owned(), OTHER.to_owned())
        );
        assert_eq!(Publisher::new(publisher.counts).label(&Arc::from("é".repeat(999))).chars().count(), 128);
    }
}
