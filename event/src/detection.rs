use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Deferred, EventId, Explanation, Position, Timestamp};

/// A rule's level, in Sigma's words, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For context only.
    Informational,
    /// Notable, rarely an incident.
    Low,
    /// Should be looked at.
    Medium,
    /// Needs a prompt look.
    High,
    /// Needs somebody now.
    Critical,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 5] = [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The name as Sigma writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The word is not a Sigma level.
#[derive(Debug, thiserror::Error)]
#[error("unknown level {0:?}; known: informational, low, medium, high, critical")]
pub struct UnknownLevel(pub String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|level| level.name() == name).ok_or_else(|| UnknownLevel(name.to_owned()))
    }
}

/// One rule matched one event, or several. Made by `rules`, turned into alerts by `alerting`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// What identifies the rule: its id, or file and title where it has none.
    pub rule_id: Arc<str>,
    /// The rule's title.
    pub title: Arc<str>,
    /// The rule's level.
    pub level: Level,
    /// The rule's tags, such as `attack.t1552.007`.
    pub tags: Arc<[Arc<str>]>,
    /// The event that matched.
    pub event_id: EventId,
    /// Where that event stands in the log.
    pub position: Position,
    /// When it happened, clamped as [`Timestamp::event_time`] says.
    pub event_time: Timestamp,
    /// When it arrived.
    pub received_at: Timestamp,
    /// The cluster it belongs to.
    pub cluster: Arc<str>,
    /// One request alerts once: detections of one rule with equal keys are the same request seen at
    /// another stage.
    pub request_key: EventId,
    /// Detections of one rule with equal group keys belong to one alert while it is open: a hash over the
    /// rule, the cluster and the fields the rule groups by.
    pub group_key: EventId,
    /// What routing and people look at, by the names of the facets (`user.name`, `source.ip`, …) and
    /// `orchestrator.resource.name`, and what a correlation groups by; values are bounded in length.
    pub labels: Vec<(Cow<'static, str>, String)>,
    /// One line for people: who did what to which object, from where, with which outcome.
    pub summary: String,
    /// Imported history: recorded, never notified.
    pub history: bool,
    /// What a correlation counted; then `event_id` is the first of its events, and `position` that of the
    /// record that made the condition true.
    pub correlation: Option<Box<CorrelationMatch>>,
    /// Why the rule matched and what to do. Worked out only if an alert opens: most detections are counted on one
    /// that is open.
    pub explanation: Deferred<Explanation>,
}

/// What made a correlation match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrelationMatch {
    /// The number that was reached, such as that of the events.
    pub reached: String,
    /// When the window began.
    pub window_start: Timestamp,
    /// When it ended.
    pub window_end: Timestamp,
    /// The latest of the events, oldest first; bounded in number.
    pub events: Vec<ContributingEvent>,
    /// How many more there were.
    pub events_beyond: u64,
}

/// An event that a correlation counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContributingEvent {
    /// The event.
    pub id: EventId,
    /// Where it stands in the log.
    pub position: Position,
    /// When it happened.
    pub event_time: Timestamp,
}
