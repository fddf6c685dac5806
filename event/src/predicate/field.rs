//! The names by which a query addresses an event.
//!
//! | name | meaning |
//! |---|---|
//! | a dotted path | the event's own field |
//! | `@timestamp` | when it happened, clamped as [`crate::Timestamp::event_time`] says |
//! | `id` | the event's identity, all 32 digits |
//! | `cluster`, `orchestrator.cluster.name` | the cluster it belongs to |
//! | `source` | the name of its format |
//! | `user.name` | who acted: `impersonatedUser.username` if there is one, else `user.username` |
//! | `source.ip` | the last of `sourceIPs`, the only one the client cannot choose |
//! | `event.action` | `verb` |
//! | `event.outcome` | success, failure or unknown |
//! | `orchestrator.namespace` | `objectRef.namespace` |
//! | `orchestrator.resource.type` | `objectRef.resource` |
//! | `orchestrator.resource.name` | `objectRef.name` |
//! | `message` | the text of a log line, by its words |
//!
//! In a log document the names from `user.name` on are fields of its own. A field of its own counts in an audit
//! event, too; for `event.outcome` it then counts alone.

use std::fmt;

/// Where a value without a field name is looked for.
pub const SEARCHED_BY_DEFAULT: [&str; 16] = [
    "message",
    "verb",
    "user.username",
    "user.groups",
    "impersonatedUser.username",
    "sourceIPs",
    "userAgent",
    "requestURI",
    "objectRef.resource",
    "objectRef.subresource",
    "orchestrator.namespace",
    "orchestrator.resource.name",
    "container.name",
    "responseStatus.code",
    "responseStatus.reason",
    "cluster",
];
/// Where it is looked for only as it stands, not as a pattern: nearly every event has another value there.
pub const SEARCHED_BY_DEFAULT_WHOLE: [&str; 3] = ["auditID", "objectRef.uid", "user.uid"];

/// The names of the fields that a test without a field name is about.
pub fn searched_by_default(test: &super::Test) -> impl Iterator<Item = &'static str> + use<> {
    let whole = matches!(test, super::Test::Is(_));
    let more = if whole { &SEARCHED_BY_DEFAULT_WHOLE[..] } else { &[] };
    SEARCHED_BY_DEFAULT.iter().chain(more).copied()
}

/// A field as a query names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field(String);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The event's own field.
    Path(&'a str),
    /// A field of an audit event, and the same under the name that log documents have for it.
    Shared(&'static str, &'static str),
    /// `user.name`.
    Actor,
    /// `event.outcome`.
    Outcome,
    /// `source.ip`.
    SourceAddress,
    /// `cluster`.
    Cluster,
    /// `source`.
    Format,
    /// `id`.
    Id,
    /// `@timestamp`.
    Time,
}

/// How the values of a field are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As text or number, as they stand.
    General,
    /// By their words; a value that is no text is compared as it stands.
    Words,
    /// As network addresses; a value that is none is compared as text.
    Address,
    /// As moments in microseconds; a value that is none is compared as text.
    Time,
    /// As one identity.
    Id,
}

impl Field {
    /// Takes a name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// What the name stands for.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        target(&self.0)
    }
}

/// Written so that the query parser reads the same name.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::test::write_escaped(f, &self.0)
    }
}

impl Target<'_> {
    /// How its values are compared.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::SourceAddress | Self::Path("sourceIPs" | "source.ip") => Kind::Address,
            Self::Time | Self::Path("requestReceivedTimestamp" | "stageTimestamp") => Kind::Time,
            Self::Id => Kind::Id,
            Self::Path("message") => Kind::Words,
            _ => Kind::General,
        }
    }
}

/// What a name stands for.
#[must_use]
pub fn target(name: &str) -> Target<'_> {
    match name {
        "user.name" => Target::Actor,
        "source.ip" => Target::SourceAddress,
        "event.action" => Target::Shared("verb", "event.action"),
        "event.outcome" => Target::Outcome,
        "orchestrator.namespace" => Target::Shared("objectRef.namespace", "orchestrator.namespace"),
        "orchestrator.resource.type" => Target::Shared("objectRef.resource", "orchestrator.resource.type"),
        "orchestrator.resource.name" => Target::Shared("objectRef.name", "orchestrator.resource.name"),
        "orchestrator.cluster.name" | "cluster" => Target::Cluster,
        "source" => Target::Format,
        "id" => Target::Id,
        "@timestamp" => Target::Time,
        path => Target::Path(path),
    }
}
