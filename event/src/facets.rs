use std::net::IpAddr;

/// What nearly every security event says, whatever its source. The names people search by are those of the
/// Elastic Common Schema, because they are the ones Kibana and Grafana users know:
///
/// | field | name in search and labels |
/// |---|---|
/// | actor | `user.name` |
/// | action | `event.action` |
/// | namespace | `orchestrator.namespace` |
/// | resource | `orchestrator.resource.type` |
/// | source_ip | `source.ip` |
/// | outcome | `event.outcome` |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facets<'a> {
    /// Who acted.
    pub actor: Option<&'a str>,
    /// What they did.
    pub action: Option<&'a str>,
    /// In which namespace.
    pub namespace: Option<&'a str>,
    /// On which kind of object.
    pub resource: Option<&'a str>,
    /// From which address; never one the client can choose.
    pub source_ip: Option<IpAddr>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an action ended, in the words of the Elastic Common Schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was carried out.
    Success,
    /// It was refused or it failed.
    Failure,
    /// The event does not say.
    #[default]
    Unknown,
}

impl Outcome {
    /// The value of `event.outcome`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Unknown => "unknown",
        }
    }
}
