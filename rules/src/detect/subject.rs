//! What alerting wants to know of an event, whatever its format.

use std::borrow::Cow;

use watchbell_event::audit::AuditEvent;
use watchbell_event::log::LogDocument;
use watchbell_event::secrets::redact;
use watchbell_event::{Envelope, EventId, Facets, Format};

use super::{MAX_LABEL_CHARACTERS, describe};

/// The hot fields of an event.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
pub(super) enum EventView<'a> {
    Audit(AuditEvent<'a>),
    Log(LogDocument<'a>),
}

type Labels = Vec<(Cow<'static, str>, String)>;

impl<'a> EventView<'a> {
    pub(super) fn read(envelope: &'a Envelope) -> Self {
        match envelope.format {
            Format::Log => Self::Log(LogDocument::parse(&envelope.bytes)),
            _ => Self::Audit(AuditEvent::parse(&envelope.bytes)),
        }
    }

    pub(super) fn facets(&self) -> Facets<'_> {
        match self {
            Self::Audit(event) => event.facets(),
            Self::Log(document) => document.facets(),
        }
    }

    /// The key by which several events are one occurrence: the stages of one request are, and each line is its own.
    pub(super) fn request_key(&self, envelope: &Envelope) -> EventId {
        match self {
            Self::Audit(event) => event.request_key(&envelope.cluster),
            Self::Log(_) => envelope.id,
        }
    }

    /// The value of a facet, if the name is one.
    pub(super) fn facet(&self, name: &str, facets: &Facets<'_>) -> Option<Option<String>> {
        match self {
            Self::Audit(event) => named(name, facets, event.object_ref.name.as_deref()),
            Self::Log(document) => named(name, facets, document.resource_name.as_deref()),
        }
    }

    /// Secrets that a program printed are not sent on.
    pub(super) fn labels(&self) -> Labels {
        let facets = self.facets();
        let label = |name: &'static str| {
            let value = self.facet(name, &facets)??;
            (!value.is_empty()).then_some((Cow::Borrowed(name), value))
        };
        let mut labels: Labels = LABELS.into_iter().filter_map(label).collect();
        if let Self::Log(document) = self {
            let more = [("container.name", &document.container), ("event.dataset", &document.dataset)];
            labels.extend(
                more.into_iter()
                    .filter_map(|(name, value)| Some((Cow::Borrowed(name), value.as_deref()?.to_owned()))),
            );
            labels.iter_mut().for_each(|(_, value)| *value = redact(value).into_owned());
        }
        for (_, value) in &mut labels {
            *value = describe::plain(value, MAX_LABEL_CHARACTERS);
        }
        labels.retain(|(_, value)| !value.is_empty());
        labels
    }

    pub(super) fn summary(&self) -> String {
        match self {
            Self::Audit(event) => describe::summary(event),
            Self::Log(document) => describe::log_summary(document),
        }
    }
}

fn named(name: &str, facets: &Facets<'_>, resource_name: Option<&str>) -> Option<Option<String>> {
    Some(match name {
        "user.name" => facets.actor.map(str::to_owned),
        "event.action" => facets.action.map(str::to_owned),
        "event.outcome" => Some(facets.outcome.name().to_owned()),
        "orchestrator.namespace" => facets.namespace.map(str::to_owned),
        "orchestrator.resource.type" => facets.resource.map(str::to_owned),
        "orchestrator.resource.name" => resource_name.map(str::to_owned),
        "source.ip" => facets.source_ip.map(|address| address.to_string()),
        _ => return None,
    })
}

const LABELS: [&str; 7] = [
    "user.name",
    "event.action",
    "event.outcome",
    "orchestrator.namespace",
    "orchestrator.resource.type",
    "orchestrator.resource.name",
    "source.ip",
];
