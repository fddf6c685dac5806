//! Audit policies of the API server: which level a request is logged at.
//!
//! Source of the format and of what it means: `audit.k8s.io/v1` (and `v1beta1`, which says the same) and
//! `pkg/audit/policy` of `k8s.io/apiserver`.

mod decide;
mod generate;
mod read;

pub use decide::{Decision, Request, Resource};
pub use generate::generate;

use crate::problems::LoadError;

/// How much of a request is logged, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuditLevel {
    /// Nothing.
    None,
    /// Everything but the bodies.
    Metadata,
    /// Also the body of the request.
    Request,
    /// Also the body of the response.
    RequestResponse,
}

impl AuditLevel {
    /// All levels, least first.
    pub const ALL: [Self; 4] = [Self::None, Self::Metadata, Self::Request, Self::RequestResponse];

    /// The name as policies write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When in the course of a request an event is made.
pub const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];

/// An audit policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPolicy {
    /// The rules in their order; the first that matches decides.
    pub rules: Vec<PolicyRule>,
    /// Stages that are not logged, whatever the rule.
    pub omit_stages: Vec<String>,
    /// Whether `managedFields` are left out, where a rule does not say otherwise.
    pub omit_managed_fields: bool,
}

/// One rule of an audit policy. An empty list matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// The line it begins on.
    pub line: usize,
    /// What is logged.
    pub level: AuditLevel,
    /// Names of users.
    pub users: Vec<String>,
    /// Groups, of which the user is in one.
    pub user_groups: Vec<String>,
    /// Such as `get`.
    pub verbs: Vec<String>,
    /// Resources by group.
    pub resources: Vec<GroupResources>,
    /// Namespaces; the empty one holds what is in none.
    pub namespaces: Vec<String>,
    /// Paths of requests for no resource, such as `/healthz*`.
    pub non_resource_urls: Vec<String>,
    /// Stages that are not logged, besides those of the policy.
    pub omit_stages: Vec<String>,
    /// Whether `managedFields` are left out.
    pub omit_managed_fields: Option<bool>,
}

/// Resources of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupResources {
    /// The group; empty is the core, `*` every one.
    pub group: String,
    /// Such as `pods`, `pods/exec`, `pods/*`, `*/scale` or `*`. None is all.
    pub resources: Vec<String>,
    /// Names of objects.
    pub resource_names: Vec<String>,
}

impl AuditPolicy {
    /// Reads a policy, given as the file's name and text.
    ///
    /// # Errors
    /// All places that the API server would refuse, or would not understand.
    pub fn read(file: &str, text: &str) -> Result<Self, Vec<LoadError>> {
        read::read(file, text)
    }
}

#[cfg(test)]
mod tests;
