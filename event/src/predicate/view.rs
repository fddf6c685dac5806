use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

use super::{Kind, Number, Scalar, Target, Test, indexed_time, leaves};
use crate::{Envelope, Outcome};

/// An event taken apart once, to be held against any number of predicates.
pub struct EventView<'a> {
    envelope: &'a Envelope,
    paths: String,
    leaves: Vec<(Range<usize>, Scalar<'a>)>,
}

impl<'a> EventView<'a> {
    /// Takes an event apart.
    #[must_use]
    pub fn new(envelope: &'a Envelope) -> Self {
        let (mut paths, mut leaves) = (String::new(), Vec::new());
        leaves::visit(&envelope.bytes, &mut |path, value| {
            let start = paths.len();
            paths.push_str(path);
            leaves.push((start..paths.len(), value));
        });
        Self { envelope, paths, leaves }
    }

    /// True if one of the field's values passes.
    pub(super) fn passes(&self, target: Target<'_>, test: &Test) -> bool {
        let general = |text: &str| test.accepts(Kind::General, &Scalar::Text(Cow::Borrowed(text)));
        match target {
            Target::Path(path) if *test == Test::Exists => self.exists(path),
            Target::Path(path) => self.values(path).any(|value| test.accepts(target.kind(), value)),
            Target::Shared(audit, own) => {
                self.passes(Target::Path(audit), test) || self.passes(Target::Path(own), test)
            }
            Target::Actor => {
                let impersonated = self.exists("impersonatedUser.username");
                let path = if impersonated { "impersonatedUser.username" } else { "user.username" };
                self.passes(Target::Shared(path, "user.name"), test)
            }
            Target::Outcome if self.exists("event.outcome") => {
                self.passes(Target::Path("event.outcome"), test)
            }
            Target::Outcome => general(self.outcome().name()),
            Target::SourceAddress => {
                self.source_address().is_some_and(|ip| test.accepts_address(ip))
                    || self.passes(Target::Path("source.ip"), test)
            }
            Target::Cluster => general(&self.envelope.cluster),
            Target::Format => general(self.envelope.format.name()),
            Target::Id => {
                *test == Test::Exists
                    || test.accepts(Kind::Id, &Scalar::Text(Cow::Owned(self.envelope.id.to_string())))
            }
            Target::Time => test.accepts_micros(indexed_time(self.envelope.event_time)),
        }
    }

    fn values(&self, path: &str) -> impl Iterator<Item = &Scalar<'a>> {
        self.leaves.iter().filter(move |(range, _)| self.paths[range.clone()] == *path).map(|leaf| &leaf.1)
    }

    fn exists(&self, path: &str) -> bool {
        self.leaves.iter().any(|(range, _)| {
            let below = self.paths[range.clone()].strip_prefix(path);
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    fn source_address(&self) -> Option<IpAddr> {
        match self.values("sourceIPs").last()? {
            Scalar::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn outcome(&self) -> Outcome {
        let forbidden = Test::Is("forbid".to_owned());
        let decision = |value: &Scalar<'_>| forbidden.accepts(Kind::General, value);
        if self.values("annotations.authorization.k8s.io/decision").any(decision) {
            return Outcome::Failure;
        }
        match self.values("responseStatus.code").filter_map(status_code).max() {
            None => Outcome::Unknown,
            Some(code) if code >= 400 => Outcome::Failure,
            Some(_) => Outcome::Success,
        }
    }
}

fn status_code(value: &Scalar<'_>) -> Option<u64> {
    match value {
        Scalar::Number(Number::I64(code)) => u64::try_from(*code).ok(),
        Scalar::Number(Number::U64(code)) => Some(*code),
        _ => None,
    }
}
