use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use crate::{EventId, Position, Timestamp};

/// Version of the envelope's stored form. Readers refuse a version they do not know.
pub const ENVELOPE_VERSION: u8 = 1;

/// What an event's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// One `audit.k8s.io` Event as a JSON object.
    KubernetesAudit,
    /// One line of a log as a JSON object in the names of the Elastic Common Schema.
    Log,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::KubernetesAudit, Self::Log];

    /// The name used in configuration, the log and search (`source` of a hit).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KubernetesAudit => "kubernetes_audit",
            Self::Log => "log",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not one of a known format.
#[derive(Debug, thiserror::Error)]
#[error("unknown format {0:?}; known: kubernetes_audit, log")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// One event on its way into the log: decoded, redacted, identified, not yet durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Identity, by which duplicates are recognised.
    pub id: EventId,
    /// When the event arrived here.
    pub received_at: Timestamp,
    /// When it happened, as [`Timestamp::event_time`] says.
    pub event_time: Timestamp,
    /// The configured source it came through, such as `audit`.
    pub source: Arc<str>,
    /// The cluster it belongs to.
    pub cluster: Arc<str>,
    /// What `bytes` are.
    pub format: Format,
    /// The address that sent it, if it came over a network.
    pub peer: Option<IpAddr>,
    /// Imported history: stored, searchable and detected, but nobody is notified.
    pub history: bool,
    /// The event after redaction. This is "the original" for everything downstream.
    pub bytes: Bytes,
}

/// One event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands in the log.
    pub position: Position,
    /// What the log keeps of it.
    pub envelope: Envelope,
}
