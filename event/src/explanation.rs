use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Why a rule matched and what to do about it: what an analyst reads before anything else. All of it is bounded in
/// number and length, and says nothing of what Secrets and configuration maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// What the rule finds and why it matters.
    pub description: String,
    /// The conditions of the rule that were met; of a correlation, those that its last event met.
    pub matched: Vec<MetCondition>,
    /// How many more were met.
    pub matched_beyond: u64,
    /// What was counted, if the rule is a correlation.
    pub correlation: Option<Counted>,
    /// More about the event, by the names of its fields: groups, user agent, all addresses, …
    pub context: BTreeMap<String, String>,
    /// What to do.
    pub next_steps: Vec<String>,
    /// What may match without being an incident.
    pub false_positives: Vec<String>,
    /// Where to read more.
    pub references: Vec<String>,
}

/// A condition of a rule, and the values of the event that met it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetCondition {
    /// The field, with the number of the member where a condition is bound to one: `requestObject.rules[0].verbs`.
    pub field: String,
    /// What was asked of it, in words: `is "get"`.
    pub test: String,
    /// Its values that met the condition; empty if it has none or they are not shown.
    pub values: Vec<String>,
}

/// What a correlation counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The rules whose matches are counted.
    pub rules: Vec<CountedRule>,
    /// What was counted, such as `events` or `distinct values of objectRef.name`.
    pub what: String,
    /// The number that was reached.
    pub reached: String,
    /// What the rule asks of it, such as `>= 10`.
    pub condition: String,
    /// The fields that the rule groups by, and the group's values.
    pub group: BTreeMap<String, String>,
    /// How far apart the events may lie, as rules write it: `5m`.
    pub timespan: String,
    /// When the window began.
    pub window_start: Timestamp,
    /// When it ended.
    pub window_end: Timestamp,
}

/// A rule whose matches were counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedRule {
    /// What identifies it.
    pub id: String,
    /// Its title.
    pub title: String,
}

/// A value that is worked out when somebody first asks for it, and never for most.
#[derive(Clone, Debug)]
pub struct Deferred<T>(Arc<LazyLock<T, Work<T>>>);

type Work<T> = Box<dyn FnOnce() -> T + Send + Sync>;

impl<T> Deferred<T> {
    /// Puts the work off.
    #[must_use]
    pub fn new(work: impl FnOnce() -> T + Send + Sync + 'static) -> Self {
        let work: Work<T> = Box::new(work);
        Self(Arc::new(LazyLock::new(work)))
    }

    /// The value; all clones share it.
    #[must_use]
    pub fn get(&self) -> &T {
        &self.0
    }
}

impl<T: Default + 'static> Default for Deferred<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: PartialEq> PartialEq for Deferred<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for Deferred<T> {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn what_nobody_asks_for_is_not_worked_out_and_the_rest_once() {
        let worked = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&worked);
        let deferred = Deferred::new(move || counter.fetch_add(1, Ordering::Relaxed) + 1);
        let clone = deferred.clone();
        assert_eq!(worked.load(Ordering::Relaxed), 0);
        assert_eq!((*deferred.get(), *clone.get()), (1, 1));
        assert_eq!(clone, deferred);
        assert_eq!(worked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_explanation_of_an_older_version_is_read() {
        let explanation: Explanation = serde_json::from_str("{}").unwrap();
        assert_eq!(explanation, Explanation::default());
    }
}
