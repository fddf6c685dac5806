//! The vocabulary of alerts: what the store keeps and the API shows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use watchbell_event::{EventId, Explanation, Level, Position, Timestamp};

/// The identity of an alert: a hash of the rule, the group key and the first event's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AlertId(pub EventId);

/// The identity of one message to one receiver. Receivers see it as `webhook-id`, idempotency key or
/// Message-ID; a repeated attempt carries the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(pub EventId);

impl AlertId {
    /// The id of the alert that the detection of `first_event` opens.
    #[must_use]
    pub fn new(rule_id: &str, group_key: &EventId, first_event: &EventId) -> Self {
        Self(hash_parts(&[rule_id.as_bytes(), &group_key.0, &first_event.0]))
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not an id of an alert or a delivery.
#[derive(Debug, thiserror::Error)]
#[error("an id is 32 hexadecimal digits")]
pub struct ParseIdError;

impl FromStr for AlertId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseIdError)
    }
}

impl FromStr for DeliveryId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseIdError)
    }
}

/// Hashes parts so that no two lists of parts run together.
pub(crate) fn hash_parts(parts: &[&[u8]]) -> EventId {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    EventId::from_hash(&hasher.finalize())
}

/// What people decided about an alert. Time alone never resolves a security event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody has looked at it yet.
    Open,
    /// Somebody is on it: occurrences are counted, nobody is notified of more of them.
    Acknowledged,
    /// Dealt with; the next occurrence opens a new alert.
    Resolved,
    /// Not an incident; the next occurrence opens a new alert.
    FalsePositive,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Acknowledged, Self::Resolved, Self::FalsePositive];

    /// The name in the API and the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::FalsePositive => "false_positive",
        }
    }

    /// True if further occurrences still belong to the alert.
    #[must_use]
    pub fn takes_occurrences(self) -> bool {
        matches!(self, Self::Open | Self::Acknowledged)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The word is not a status.
#[derive(Debug, thiserror::Error)]
#[error("unknown status {0:?}; known: open, acknowledged, resolved, false_positive")]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.name() == name)
            .ok_or_else(|| UnknownStatus(name.to_owned()))
    }
}

/// One alert: an episode in which a rule matched within one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its identity.
    pub id: AlertId,
    /// The rule's id, or file and title where it has none.
    pub rule_id: String,
    /// The rule's title when the alert opened.
    pub title: String,
    /// The rule's level when the alert opened.
    pub level: Level,
    /// The rule's tags when the alert opened.
    pub tags: Vec<String>,
    /// The cluster it happened in.
    pub cluster: String,
    /// What the first occurrence was about, sorted by name.
    #[serde(serialize_with = "labels_as_object")]
    pub labels: Vec<(String, String)>,
    /// One line about the first occurrence.
    pub first_summary: String,
    /// One line about the latest occurrence.
    pub last_summary: String,
    /// When the earliest occurrence happened.
    pub first_event_time: Timestamp,
    /// When the latest occurrence happened.
    pub last_event_time: Timestamp,
    /// When the first occurrence arrived.
    pub first_received: Timestamp,
    /// When the latest occurrence arrived.
    pub last_received: Timestamp,
    /// How often it occurred, counting each request once.
    pub count: u64,
    /// What people decided.
    pub status: Status,
    /// True while all occurrences are imported history, of which nobody is notified.
    pub history: bool,
    /// Why the rule matched the first occurrence, and what to do.
    pub explanation: Explanation,
}

fn labels_as_object<S: serde::Serializer>(
    labels: &[(String, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().map(|(name, value)| (name, value)))
}

/// An event that belongs to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LinkedEvent {
    /// The event.
    pub id: EventId,
    /// Where it stands in the log.
    pub position: Position,
    /// When it happened.
    pub event_time: Timestamp,
}

/// A change of an alert's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusChange {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// The new status.
    pub status: Status,
}

/// One alert with everything the store knows about it, except its deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertDetails {
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// Its first events, oldest first; how many are kept is a setting.
    pub events: Vec<LinkedEvent>,
    /// How many events were counted that have no entry in `events`.
    pub events_beyond: u64,
    /// What people decided and when, oldest first.
    pub trail: Vec<StatusChange>,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Queued, not yet part of a message.
    Pending,
    /// An attempt is in flight.
    Sending,
    /// The receiver took it.
    Sent,
    /// The last attempt failed; there will be another.
    Retry,
    /// Given up; the reason says why.
    Dead,
}

impl DeliveryState {
    pub(crate) const ALL: [Self; 5] = [Self::Pending, Self::Sending, Self::Sent, Self::Retry, Self::Dead];

    /// The name in the API and the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Retry => "retry",
            Self::Dead => "dead",
        }
    }
}

/// What became of one notice: one alert for one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryRecord {
    /// The message it went into, once there is one.
    pub id: Option<DeliveryId>,
    /// The receiver's name.
    pub receiver: String,
    /// False for the first notice of an alert, true for a later "N more".
    pub digest: bool,
    /// Where it stands.
    pub state: DeliveryState,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// When the next attempt is due, if there will be one.
    pub not_before: Option<Timestamp>,
    /// Why it is dead or will be tried again.
    pub reason: Option<String>,
    /// How many alerts share the message.
    pub alerts: u64,
    /// The latest attempts, oldest first.
    pub attempts: Vec<AttemptRecord>,
}

/// One attempt to send a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptRecord {
    /// One-based.
    pub number: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When its outcome was known.
    pub ended_at: Option<Timestamp>,
    /// What came of it, without secrets.
    pub outcome: Option<String>,
}

/// Which alerts to list. Everything given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// This level or above.
    pub min_level: Option<Level>,
    /// This status.
    pub status: Option<Status>,
    /// This rule.
    pub rule_id: Option<String>,
    /// This cluster.
    pub cluster: Option<String>,
    /// The latest occurrence arrived at this time or later.
    pub since: Option<Timestamp>,
    /// The first occurrence arrived before this time.
    pub until: Option<Timestamp>,
}

/// One page of a list, newest alert first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The alerts.
    pub alerts: Vec<Alert>,
    /// Continues the list; absent at its end. Alerts that open meanwhile do not shift it.
    pub next_cursor: Option<String>,
}

/// A message that was given up or refused for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// The message.
    pub id: DeliveryId,
    /// The receiver's name.
    pub receiver: String,
    /// How many alerts it was about.
    pub alerts: u64,
    /// How often it was tried.
    pub attempts: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was given up.
    pub died_at: Timestamp,
    /// Why, without secrets.
    pub reason: String,
}
