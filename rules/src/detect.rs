//! Turns matches into detections: what alerting needs to group, route and describe them.

mod describe;
mod explanation;
mod matched;
mod subject;

use std::borrow::Cow;
use std::sync::Arc;

use watchbell_event::secrets::redact;
use watchbell_event::{
    ContributingEvent, CorrelationMatch, Deferred, Detection, Envelope, EventId, Explanation, Facets, Record,
};

use crate::compile::{RuleSet, Traffic};
use crate::correlate::{Correlated, CorrelationConfig, Correlator, Observed, Restored};
use crate::evaluate::Evaluator;
use crate::rule::Rule;
use crate::text::{float_text, number_text};

use subject::EventView;

/// Longest value of a label, in characters.
pub(crate) const MAX_LABEL_CHARACTERS: usize = 256;

/// Longest summary that a rule writes itself, in characters.
const MAX_OUTPUT_CHARACTERS: usize = 1000;

/// Evaluates records and makes a [`Detection`] of every match, and of every correlation that matches then.
///
/// Metrics: `watchbell_rules_events_total`, `watchbell_rules_unreadable_events_total` (not a JSON object, so
/// nothing could match) and `watchbell_rules_detections_total{level}`, beside those of [`Correlator`].
pub struct Detector {
    evaluator: Evaluator,
    correlator: Correlator,
    matches: Vec<usize>,
    correlated: Vec<Correlated>,
    /// For each rule, how often it matched.
    matched: Vec<u64>,
    events: metrics::Counter,
    unreadable: metrics::Counter,
}

impl Detector {
    /// Prepares to run a set.
    #[must_use]
    pub fn new(set: Arc<RuleSet>, correlation: CorrelationConfig) -> Self {
        Self {
            evaluator: Evaluator::new(Arc::clone(&set)),
            matched: vec![0; set.rules().len()],
            correlator: Correlator::new(set, correlation),
            matches: Vec::new(),
            correlated: Vec::new(),
            events: metrics::counter!("watchbell_rules_events_total"),
            unreadable: metrics::counter!("watchbell_rules_unreadable_events_total"),
        }
    }

    /// The evaluator, for its counts.
    #[must_use]
    pub fn evaluator(&self) -> &Evaluator {
        &self.evaluator
    }

    /// The correlations and what they know.
    #[must_use]
    pub fn correlator(&self) -> &Correlator {
        &self.correlator
    }

    /// The correlations and what they know.
    pub fn correlator_mut(&mut self) -> &mut Correlator {
        &mut self.correlator
    }

    /// For each rule of the set, how many events it matched, and of correlations, how often they did. Rules that only
    /// feed correlations are counted, too.
    #[must_use]
    pub fn matched(&self) -> &[u64] {
        &self.matched
    }

    /// Runs another set from now on. If it has the same rules, counts go on (see [`Evaluator::follow`]), and so do
    /// correlations that did not change, from where they were.
    pub fn follow(&mut self, set: Arc<RuleSet>) -> Restored {
        if !set.has_rules_of(self.evaluator.rules()) {
            self.matched = vec![0; set.rules().len()];
        }
        self.evaluator.follow(Arc::clone(&set));
        self.correlator.reload(set)
    }

    /// See [`Evaluator::learned`].
    pub fn learned(&mut self) -> Option<Traffic> {
        self.evaluator.learned()
    }

    /// Adds a detection to `detections` for every rule that matches the record, in the order of the rules,
    /// and behind them for every correlation that matches now. Rules that only feed correlations add none.
    pub fn detect(&mut self, record: &Record, detections: &mut Vec<Detection>) {
        self.events.increment(1);
        let envelope = &record.envelope;
        if !self.evaluator.matches_of(envelope.format, &envelope.bytes, &mut self.matches) {
            self.unreadable.increment(1);
        }
        let observed = Observed {
            cluster: &envelope.cluster,
            id: envelope.id,
            position: record.position,
            event_time: envelope.event_time,
            received_at: envelope.received_at,
            history: envelope.history,
        };
        self.correlator.take(&observed, &self.evaluator, &self.matches, &mut self.correlated);
        self.tell(record, detections);
    }

    /// Whether some rule matches an event, be it one that only feeds correlations. For whoever passes such events on to
    /// another detector: here nothing is detected, and correlations are told nothing.
    pub fn matches_any(&mut self, envelope: &Envelope) -> bool {
        self.events.increment(1);
        if !self.evaluator.matches_of(envelope.format, &envelope.bytes, &mut self.matches) {
            self.unreadable.increment(1);
        }
        for rule in &self.matches {
            if let Some(matched) = self.matched.get_mut(*rule) {
                *matched += 1;
            }
        }
        !self.matches.is_empty()
    }

    /// No more events come behind `last`: decides what correlations still wait for some to decide.
    pub fn finish(&mut self, last: &Record, detections: &mut Vec<Detection>) {
        self.matches.clear();
        self.correlator.finish(&mut self.correlated);
        self.tell(last, detections);
    }

    /// Makes detections of what matched when this record came.
    fn tell(&mut self, record: &Record, detections: &mut Vec<Detection>) {
        for rule in self.matches.iter().chain(self.correlator.matched()).copied() {
            if let Some(matched) = self.matched.get_mut(rule) {
                *matched += 1;
            }
        }
        let set = self.evaluator.rules();
        self.matches.retain(|index| !set.is_silent(*index));
        if self.matches.is_empty() && self.correlated.is_empty() {
            return;
        }
        let subject = Subject::new(record, set);
        let before = detections.len();
        detections.extend(self.matches.iter().filter_map(|index| subject.alone(*index)));
        detections.extend(self.correlated.drain(..).filter_map(|found| subject.correlation(found)));
        for detection in detections.iter().skip(before) {
            let level = detection.level.name();
            metrics::counter!("watchbell_rules_detections_total", "level" => level).increment(1);
        }
    }
}

/// One event that some rule matched.
struct Subject<'a> {
    record: &'a Record,
    set: &'a Arc<RuleSet>,
    event: EventView<'a>,
    request_key: EventId,
    labels: Vec<(Cow<'static, str>, String)>,
    summary: String,
    /// The whole event, read when a rule groups by a field that is not a facet, or has an output of its own.
    document: std::cell::OnceCell<serde_json::Value>,
}

impl<'a> Subject<'a> {
    fn new(record: &'a Record, set: &'a Arc<RuleSet>) -> Self {
        let event = EventView::read(&record.envelope);
        let request_key = event.request_key(&record.envelope);
        let (labels, summary) = (event.labels(), event.summary());
        Self { record, set, event, request_key, labels, summary, document: std::cell::OnceCell::new() }
    }

    /// A match of the rule of this index.
    fn alone(&self, index: usize) -> Option<Detection> {
        let rule = self.set.rules().get(index)?;
        let (set, envelope) = (Arc::clone(self.set), self.record.envelope.clone());
        let explain = move || {
            let rule = set.rules().get(index);
            rule.map(|rule| explanation::of_event(rule, &envelope)).unwrap_or_default()
        };
        Some(self.detection(rule, Deferred::new(explain)))
    }

    fn detection(&self, rule: &Rule, explanation: Deferred<Explanation>) -> Detection {
        let envelope = &self.record.envelope;
        Detection {
            rule_id: rule.key.clone(),
            title: rule.title.clone(),
            level: rule.level,
            tags: rule.tags.clone(),
            event_id: envelope.id,
            position: self.record.position,
            event_time: envelope.event_time,
            received_at: envelope.received_at,
            cluster: envelope.cluster.clone(),
            request_key: self.request_key,
            group_key: self.group_key(rule),
            labels: self.labels.clone(),
            summary: self.summary(rule),
            history: envelope.history,
            correlation: None,
            explanation,
        }
    }

    /// A match of a correlation, decided when this event came.
    fn correlation(&self, correlated: Correlated) -> Option<Detection> {
        let rule = self.set.rules().get(correlated.rule)?;
        // What waited for the watermark is not about the event that moved it.
        let is_last = correlated.events.last().is_some_and(|last| last.id == self.record.envelope.id);
        let mut labels = if is_last { self.labels.clone() } else { Vec::new() };
        for (name, value) in &correlated.group {
            let Some(value) = value else { continue };
            labels.retain(|(label, _)| *label != **name);
            labels.push((Cow::Owned(name.clone()), describe::plain(&redact(value), MAX_LABEL_CHARACTERS)));
        }
        labels.push((Cow::Borrowed("correlation.reached"), float_text(correlated.value)));
        labels.push((Cow::Borrowed("correlation.window"), describe::window(&correlated)));
        let summary = describe::correlation(rule, &correlated, is_last.then_some(self.summary.as_str()));
        // Found again after a restart, in another order, it may begin with another event; the one it ends with stays.
        let last = correlated.events.last().map_or(correlated.first.id, |last| last.id);
        let events = correlated.events.iter().map(|event| ContributingEvent {
            id: event.id,
            position: event.position,
            event_time: event.time,
        });
        let events = events.collect();
        let correlated = Arc::new(Correlated { events: Vec::new(), ..correlated });
        let explanation = self.explain_correlation(Arc::clone(&correlated), is_last);
        let Correlated { group_key, ref cluster, value, window_start, window_end, first, .. } = *correlated;
        Some(Detection {
            labels,
            summary,
            event_id: first.id,
            event_time: window_end,
            cluster: Arc::clone(cluster),
            request_key: occurrence_key(&group_key, last, window_end.as_micros()),
            group_key,
            history: correlated.history,
            correlation: Some(Box::new(CorrelationMatch {
                reached: float_text(value),
                window_start,
                window_end,
                events,
                events_beyond: correlated.events_beyond,
            })),
            ..self.detection(rule, explanation)
        })
    }

    fn explain_correlation(&self, correlated: Arc<Correlated>, is_last: bool) -> Deferred<Explanation> {
        let set = Arc::clone(self.set);
        let last = is_last.then(|| self.record.envelope.clone());
        Deferred::new(move || {
            let Some(rule) = set.rules().get(correlated.rule) else { return Explanation::default() };
            explanation::of_correlation(&set, rule, &correlated, last.as_ref())
        })
    }

    fn summary(&self, rule: &Rule) -> String {
        match &rule.output {
            Some(output) => describe::plain(&output.fill(self.document()), MAX_OUTPUT_CHARACTERS),
            None => self.summary.clone(),
        }
    }

    fn document(&self) -> &serde_json::Value {
        self.document.get_or_init(|| {
            serde_json::from_slice(&self.record.envelope.bytes).unwrap_or(serde_json::Value::Null)
        })
    }

    /// A hash over the rule, the cluster and the fields that the rule groups by, each with its length.
    fn group_key(&self, rule: &Rule) -> EventId {
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &str| {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        };
        add(&rule.key);
        add(&self.record.envelope.cluster);
        let facets = self.event.facets();
        if rule.group_by.is_empty() {
            let named = facets.actor.is_some_and(|actor| !actor.is_empty());
            let name = if named { "user.name" } else { "source.ip" };
            add(name);
            self.values(name, &facets).iter().for_each(|value| add(value));
        }
        for name in &rule.group_by {
            let values = self.values(name, &facets);
            add(name);
            add(&values.len().to_string());
            values.iter().for_each(|value| add(value));
        }
        EventId::from_hash(&hasher.finalize())
    }

    fn values(&self, name: &str, facets: &Facets<'_>) -> Vec<String> {
        if let Some(value) = self.event.facet(name, facets) {
            return value.into_iter().collect();
        }
        let mut values = Vec::new();
        values_at(self.document(), name, &mut values);
        values
    }
}

/// One match of a correlation, however often it is found: it must not be counted twice after a restart.
fn occurrence_key(group_key: &EventId, last: EventId, window_end: i64) -> EventId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&group_key.0).update(&last.0).update(&window_end.to_le_bytes());
    EventId::from_hash(&hasher.finalize())
}

/// All scalars at a dotted path, through arrays, by every split of the dots.
pub(crate) fn values_at(value: &serde_json::Value, path: &str, values: &mut Vec<String>) {
    use serde_json::Value;
    match value {
        Value::Array(members) => members.iter().for_each(|member| values_at(member, path, values)),
        Value::Object(members) => {
            for (key, member) in members {
                match path.strip_prefix(key.as_str()).map(|rest| (rest, rest.strip_prefix('.'))) {
                    Some(("", _)) => values_at(member, "", values),
                    Some((_, Some(rest))) if !rest.is_empty() => values_at(member, rest, values),
                    _ => {}
                }
            }
        }
        Value::String(text) if path.is_empty() => values.push(text.clone()),
        Value::Bool(value) if path.is_empty() => values.push(value.to_string()),
        Value::Number(number) if path.is_empty() => values.push(match number.as_f64() {
            Some(float) if number.is_f64() => float_text(float),
            _ => number_text(&number.to_string()).into_owned(),
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
