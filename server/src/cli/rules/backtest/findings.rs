//! What one rule would have alerted, counted in bounded memory however long the history is.

use std::collections::{BTreeMap, HashMap};

use watchbell_event::{Detection, EventId, Timestamp};

/// Days that are counted each for itself.
const MAX_DAYS: usize = 4_000;
/// Labels that are counted.
const MAX_LABELS: usize = 64;
/// Different values of one label that are counted at one time.
const MAX_VALUES: usize = 1_000;
/// What is counted together.
const OTHER_DAYS: &str = "other days";

/// Counts and samples of one rule.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) alerts: u64,
    /// By the day on which it happened, in UTC.
    pub(super) days: BTreeMap<String, Day>,
    pub(super) labels: BTreeMap<String, Values>,
    /// A choice among the alerts that looks at nothing but the ids of their events, so it is the same every time.
    pub(super) samples: BTreeMap<EventId, Sample>,
}

/// What happened on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Day {
    pub(super) matches: u64,
    pub(super) alerts: u64,
}

/// One alert.
pub(super) struct Sample {
    pub(super) time: Timestamp,
    pub(super) cluster: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) summary: String,
    /// The events that a correlation counted.
    pub(super) events: Vec<EventId>,
}

impl Findings {
    /// Counts a detection, and the alert if it opened one.
    pub(super) fn take(&mut self, detection: &Detection, opens: bool, max_samples: usize) {
        let day = detection.event_time.to_string().chars().take(10).collect::<String>();
        let known = self.days.len() < MAX_DAYS || self.days.contains_key(&day);
        let day = self.days.entry(if known { day } else { OTHER_DAYS.to_owned() }).or_default();
        day.matches += 1;
        for (name, value) in &detection.labels {
            if let Some(values) = self.labels.get_mut(&**name) {
                values.add(value);
            } else if self.labels.len() < MAX_LABELS {
                self.labels.entry(name.clone().into_owned()).or_default().add(value);
            }
        }
        if opens {
            day.alerts += 1;
            self.alerts += 1;
            self.sample(detection, max_samples);
        }
    }

    fn sample(&mut self, detection: &Detection, max_samples: usize) {
        let id = detection.event_id;
        let beyond = self.samples.len() >= max_samples;
        if beyond && self.samples.last_key_value().is_none_or(|(last, _)| id >= *last) {
            return;
        }
        let events = detection.correlation.iter().flat_map(|correlation| &correlation.events);
        let sample = Sample {
            time: detection.event_time,
            cluster: detection.cluster.to_string(),
            labels: detection.labels.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
            summary: detection.summary.clone(),
            events: events.map(|event| event.id).collect(),
        };
        self.samples.insert(id, sample);
        if self.samples.len() > max_samples {
            self.samples.pop_last();
        }
    }
}

/// How often which values came, the frequent ones for certain: when there is no room for another value, one is taken from
/// the count of each. A value that makes more than a thousandth of all is never lost (Misra and Gries, 1982).
#[derive(Default)]
pub(super) struct Values {
    counts: HashMap<String, u64>,
    /// How much too low a count may be.
    pub(super) missing: u64,
}

impl Values {
    fn add(&mut self, value: &str) {
        if let Some(count) = self.counts.get_mut(value) {
            *count += 1;
        } else if self.counts.len() < MAX_VALUES {
            self.counts.insert(value.to_owned(), 1);
        } else {
            self.missing += 1;
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// The most frequent ones.
    pub(super) fn top(&self, count: usize) -> Vec<(&str, u64)> {
        let mut values: Vec<_> = self.counts.iter().map(|(value, count)| (value.as_str(), *count)).collect();
        values.sort_by(|(a, many), (b, few)| few.cmp(many).then(a.cmp(b)));
        values.truncate(count);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rules::backtest::tests::detection;

    #[test]
    fn days_labels_and_samples_are_counted() {
        let mut findings = Findings::default();
        for n in 0..200_u8 {
            let mut detection = detection(n, n, i64::from(n) * 86_400);
            detection.labels = vec![("user.name".into(), if n < 150 { "alice" } else { "bob" }.to_owned())];
            findings.take(&detection, n.is_multiple_of(2), 3);
        }
        assert_eq!((findings.alerts, findings.days.len()), (100, 200));
        assert_eq!(findings.days["1970-01-03"], Day { matches: 1, alerts: 1 });
        assert_eq!(findings.days["1970-01-04"], Day { matches: 1, alerts: 0 });
        assert_eq!(findings.labels["user.name"].top(2), [("alice", 150), ("bob", 50)]);
        assert_eq!(findings.labels["user.name"].top(1).len(), 1);
        let samples: Vec<u8> = findings.samples.keys().map(|id| id.0[0]).collect();
        assert_eq!(samples, [0, 2, 4]);
        assert!(!findings.samples.contains_key(&EventId([1; 16])));
    }

    #[test]
    fn frequent_values_are_kept_among_any_number_of_others() {
        let mut values = Values::default();
        for n in 0..100_000_u32 {
            values.add(&format!("rare {n}"));
            if n.is_multiple_of(10) {
                values.add("frequent");
            }
        }
        assert!(values.counts.len() <= MAX_VALUES);
        let (value, count) = values.top(1)[0];
        assert_eq!(value, "frequent");
        assert!(count <= 10_000 && count + values.missing >= 10_000, "{count} and {}", values.missing);
    }

    #[test]
    fn memory_is_bounded_whatever_events_say() {
        let mut findings = Findings::default();
        for n in 0..10_000_i64 {
            let mut detection = detection(1, 1, n * 86_400);
            detection.labels = vec![(format!("label {n}").into(), "x".to_owned())];
            findings.take(&detection, false, 0);
        }
        assert_eq!(findings.days.len(), MAX_DAYS + 1);
        assert_eq!(findings.days[OTHER_DAYS].matches, 10_000 - MAX_DAYS as u64);
        assert_eq!((findings.labels.len(), findings.samples.len()), (MAX_LABELS, 0));
    }
}
