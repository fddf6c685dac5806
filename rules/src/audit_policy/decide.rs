//! Which rule of a policy decides about a request.

use super::{AuditLevel, AuditPolicy, GroupResources, PolicyRule};

/// What a policy sees of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// The user; nobody if authentication failed.
    pub user: Option<&'a str>,
    /// The user's groups.
    pub groups: Vec<&'a str>,
    /// Such as `get`.
    pub verb: &'a str,
    /// What it is about, if that is a resource.
    pub resource: Option<Resource<'a>>,
    /// The path, without the query.
    pub path: &'a str,
}

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource<'a> {
    /// Empty for the core.
    pub group: &'a str,
    /// Such as `pods`.
    pub resource: &'a str,
    /// Such as `exec`, or empty.
    pub subresource: &'a str,
    /// Empty for what is in none.
    pub namespace: &'a str,
    /// Empty for lists.
    pub name: &'a str,
}

/// What a policy says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What is logged.
    pub level: AuditLevel,
    /// The rule that decided; none if no rule matches, and then nothing is logged.
    pub rule: Option<&'a PolicyRule>,
    /// Whether `managedFields` are left out.
    pub omit_managed_fields: bool,
    policy: &'a AuditPolicy,
}

impl Decision<'_> {
    /// Whether no event is logged at this stage.
    #[must_use]
    pub fn omits_stage(&self, stage: &str) -> bool {
        let of_rule = self.rule.map(|rule| rule.omit_stages.as_slice()).unwrap_or_default();
        self.policy.omit_stages.iter().chain(of_rule).any(|omitted| omitted == stage)
    }
}

impl AuditPolicy {
    /// What is logged of a request.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision<'_> {
        let rule = self.rules.iter().find(|rule| rule.matches(request));
        Decision {
            level: rule.map_or(AuditLevel::None, |rule| rule.level),
            rule,
            omit_managed_fields: rule
                .and_then(|rule| rule.omit_managed_fields)
                .unwrap_or(self.omit_managed_fields),
            policy: self,
        }
    }
}

impl PolicyRule {
    fn matches(&self, request: &Request<'_>) -> bool {
        let any_or = |list: &[String], holds: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|member| holds(member))
        };
        any_or(&self.users, &|user| request.user == Some(user))
            && any_or(&self.user_groups, &|group| request.user.is_some() && request.groups.contains(&group))
            && any_or(&self.verbs, &|verb| verb == request.verb)
            && self.matches_object(request)
    }

    fn matches_object(&self, request: &Request<'_>) -> bool {
        let wants_resource = !self.namespaces.is_empty() || !self.resources.is_empty();
        match &request.resource {
            Some(resource) if wants_resource => {
                let namespaces = &self.namespaces;
                (namespaces.is_empty() || namespaces.iter().any(|namespace| namespace == resource.namespace))
                    && (self.resources.is_empty()
                        || self.resources.iter().any(|group| group.matches(resource)))
            }
            None if wants_resource => false,
            _ if self.non_resource_urls.is_empty() => true,
            Some(_) => false,
            None => self.non_resource_urls.iter().any(|url| path_matches(url, request.path)),
        }
    }
}

impl GroupResources {
    fn matches(&self, request: &Resource<'_>) -> bool {
        if self.group != "*" && self.group != request.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named =
            self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == request.name);
        named && self.resources.iter().any(|resource| resource_matches(resource, request))
    }
}

fn resource_matches(wanted: &str, request: &Resource<'_>) -> bool {
    if wanted == "*" {
        return true;
    }
    match wanted.split_once('/') {
        // `pods/*` means the pods themselves, too.
        Some((resource, "*")) => resource == request.resource,
        Some(("*", subresource)) => !request.subresource.is_empty() && subresource == request.subresource,
        Some((resource, subresource)) => {
            resource == request.resource && !subresource.is_empty() && subresource == request.subresource
        }
        None => wanted == request.resource && request.subresource.is_empty(),
    }
}

fn path_matches(wanted: &str, path: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix.trim_end_matches('*')),
        None => wanted == path,
    }
}
