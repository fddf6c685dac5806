//! What audit events are made of, and which resources Kubernetes has.
//!
//! Source: `audit.k8s.io/v1` and the API groups of Kubernetes 1.36.

use crate::formula::Field;

/// Members of an event. Below one that ends with `.*` anything may stand.
const FIELDS: [&str; 44] = [
    "kind",
    "apiVersion",
    "metadata.*",
    "timestamp",
    "level",
    "auditID",
    "stage",
    "requestURI",
    "verb",
    "userAgent",
    "sourceIPs",
    "user.username",
    "user.uid",
    "user.groups",
    "user.extra.*",
    "impersonatedUser.username",
    "impersonatedUser.uid",
    "impersonatedUser.groups",
    "impersonatedUser.extra.*",
    "authenticationMetadata.*",
    "objectRef.resource",
    "objectRef.namespace",
    "objectRef.name",
    "objectRef.uid",
    "objectRef.apiGroup",
    "objectRef.apiVersion",
    "objectRef.resourceVersion",
    "objectRef.subresource",
    "responseStatus.metadata.*",
    "responseStatus.status",
    "responseStatus.message",
    "responseStatus.reason",
    "responseStatus.details.*",
    "responseStatus.code",
    "requestObject.*",
    "responseObject.*",
    "requestReceivedTimestamp",
    "stageTimestamp",
    "annotations.*",
    // Facets.
    "user.name",
    "source.ip",
    "event.*",
    "orchestrator.namespace",
    "orchestrator.resource.*",
];

/// Whether some audit event has a field of this name.
pub(crate) fn has_field(name: &str) -> bool {
    FIELDS.iter().any(|field| match field.strip_suffix(".*") {
        // The object itself is a field, too.
        Some(object) => name == object || name.strip_prefix(object).is_some_and(|rest| rest.starts_with('.')),
        None => name == *field || field.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')),
    })
}

/// Whether some audit event may have this field.
pub(crate) fn has(field: &Field) -> bool {
    match field {
        Field::Path(path) => has_field(path),
        Field::Anywhere | Field::Derived(_) => true,
    }
}

/// Fields of objects that Kubernetes itself serves which stand in no array and hold none.
const OBJECT_VALUES: [&str; 26] = [
    "apiVersion",
    "automountServiceAccountToken",
    "kind",
    "metadata.generateName",
    "metadata.generation",
    "metadata.name",
    "metadata.namespace",
    "roleRef.kind",
    "roleRef.name",
    "spec.activeDeadlineSeconds",
    "spec.backoffLimit",
    "spec.completions",
    "spec.expirationSeconds",
    "spec.maxReplicas",
    "spec.minReadySeconds",
    "spec.minReplicas",
    "spec.nodeName",
    "spec.parallelism",
    "spec.priority",
    "spec.priorityClassName",
    "spec.replicas",
    "spec.revisionHistoryLimit",
    "spec.schedule",
    "spec.serviceAccountName",
    "spec.terminationGracePeriodSeconds",
    "spec.ttlSecondsAfterFinished",
];

/// Whether a field has one value at most, and no members.
pub(crate) fn has_one_value(name: &str) -> bool {
    const LISTS: [&str; 3] = ["sourceIPs", "user.groups", "impersonatedUser.groups"];
    let in_object = ["requestObject.", "responseObject."].iter().find_map(|body| name.strip_prefix(body));
    match in_object {
        Some(name) => OBJECT_VALUES.contains(&name),
        None => FIELDS.contains(&name) && !LISTS.contains(&name),
    }
}

/// Resources that Kubernetes itself serves, by group.
pub(crate) const RESOURCES: [(&str, &[&str]); 20] = [
    (
        "",
        &[
            "bindings",
            "componentstatuses",
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "namespaces",
            "nodes",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "podtemplates",
            "replicationcontrollers",
            "resourcequotas",
            "secrets",
            "serviceaccounts",
            "services",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ],
    ),
    ("apiextensions.k8s.io", &["customresourcedefinitions"]),
    ("apiregistration.k8s.io", &["apiservices"]),
    ("apps", &["controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"]),
    ("authentication.k8s.io", &["selfsubjectreviews", "tokenreviews"]),
    (
        "authorization.k8s.io",
        &[
            "localsubjectaccessreviews",
            "selfsubjectaccessreviews",
            "selfsubjectrulesreviews",
            "subjectaccessreviews",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    ("certificates.k8s.io", &["certificatesigningrequests", "clustertrustbundles", "podcertificaterequests"]),
    ("coordination.k8s.io", &["leases"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("events.k8s.io", &["events"]),
    ("flowcontrol.apiserver.k8s.io", &["flowschemas", "prioritylevelconfigurations"]),
    ("networking.k8s.io", &["ingressclasses", "ingresses", "ipaddresses", "networkpolicies", "servicecidrs"]),
    ("node.k8s.io", &["runtimeclasses"]),
    ("policy", &["poddisruptionbudgets"]),
    ("rbac.authorization.k8s.io", &["clusterrolebindings", "clusterroles", "rolebindings", "roles"]),
    ("scheduling.k8s.io", &["priorityclasses"]),
    ("storage.k8s.io", &["csidrivers", "csinodes", "storageclasses", "volumeattachments"]),
];

/// The group of a resource; of two groups, the first. None if Kubernetes itself does not serve it.
pub(crate) fn group_of(resource: &str) -> Option<&'static str> {
    RESOURCES.iter().find(|(_, resources)| resources.contains(&resource)).map(|(group, _)| *group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_event_and_what_may_stand_below() {
        for (name, expect) in [
            ("verb", true),
            ("objectRef", true),
            ("objectRef.resource", true),
            ("requestObject", true),
            ("requestObject.spec.containers.image", true),
            ("annotations.authorization.k8s.io/decision", true),
            ("user.name", true),
            ("responseStatus.code", true),
            ("hostPath", false),
            ("capabilities", false),
            ("apiGroup", false),
            ("objectRef.kind", false),
            ("requestObjectX.a", false),
            ("user.usernam", false),
        ] {
            assert_eq!(has_field(name), expect, "{name}");
        }
    }
}
