//! A borrowed view of a log document: the fields that every stage needs, read in one pass.
//!
//! A log document is one line of a log as a JSON object in the names of the Elastic Common Schema. What the fields
//! below say was decided by `ingest`: each stands at the top of the document with its whole path as the key.

use std::net::IpAddr;

use serde::Deserialize;

use crate::audit::{Text, text};
use crate::{Facets, Outcome, Timestamp};

/// The hot fields of one log document. A field that is absent or of another type than expected reads as absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LogDocument<'a> {
    /// When the line was written.
    #[serde(rename = "@timestamp", borrow, deserialize_with = "text")]
    pub timestamp: Text<'a>,
    /// The line, or of a JSON line the text that is for people.
    #[serde(borrow, deserialize_with = "text")]
    pub message: Text<'a>,
    /// The format of the line, such as `sshd` or `nginx.access`.
    #[serde(rename = "event.dataset", borrow, deserialize_with = "text")]
    pub dataset: Text<'a>,
    /// What was done, such as `ssh_login`.
    #[serde(rename = "event.action", borrow, deserialize_with = "text")]
    pub action: Text<'a>,
    /// success or failure.
    #[serde(rename = "event.outcome", borrow, deserialize_with = "text")]
    pub outcome: Text<'a>,
    /// Who did it, as the line says.
    #[serde(rename = "user.name", borrow, deserialize_with = "text")]
    pub user: Text<'a>,
    /// From where, as the line says.
    #[serde(rename = "source.ip", borrow, deserialize_with = "text")]
    pub source_ip: Text<'a>,
    /// The namespace of the pod that wrote the line.
    #[serde(rename = "orchestrator.namespace", borrow, deserialize_with = "text")]
    pub namespace: Text<'a>,
    /// pod, where it is known.
    #[serde(rename = "orchestrator.resource.type", borrow, deserialize_with = "text")]
    pub resource: Text<'a>,
    /// The pod that wrote the line.
    #[serde(rename = "orchestrator.resource.name", borrow, deserialize_with = "text")]
    pub resource_name: Text<'a>,
    /// The container that wrote the line.
    #[serde(rename = "container.name", borrow, deserialize_with = "text")]
    pub container: Text<'a>,
    /// The machine it came from.
    #[serde(rename = "host.name", borrow, deserialize_with = "text")]
    pub host: Text<'a>,
}

impl<'a> LogDocument<'a> {
    /// Reads the hot fields. What is not a JSON object reads as a document without any field.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// When the line was written.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.timestamp.as_deref()?.parse().ok()
    }

    /// The common facets, under which one query and one rule span sources.
    #[must_use]
    pub fn facets(&self) -> Facets<'_> {
        Facets {
            actor: self.user.as_deref(),
            action: self.action.as_deref(),
            namespace: self.namespace.as_deref(),
            resource: self.resource.as_deref(),
            source_ip: self.source_ip.as_deref().and_then(|address| address.parse::<IpAddr>().ok()),
            outcome: match self.outcome.as_deref() {
                Some("success") => Outcome::Success,
                Some("failure") => Outcome::Failure,
                _ => Outcome::Unknown,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_login() {
        let document =
            br#"{"@timestamp":"2026-01-31T08:15:00Z","message":"Failed password","event.dataset":"sshd",
            "event.outcome":"failure","user.name":"root","source.ip":"10.0.0.9","line":{"user.name":"forged"},
            "orchestrator.namespace":7}"#;
        let document = LogDocument::parse(document);
        let facets = document.facets();
        assert_eq!((document.message.as_deref(), facets.actor), (Some("Failed password"), Some("root")));
        assert_eq!(facets.source_ip, Some("10.0.0.9".parse().unwrap()));
        assert_eq!((facets.outcome, facets.namespace), (Outcome::Failure, None));
        assert_eq!(LogDocument::parse(b"[]").message, None);
    }
}
