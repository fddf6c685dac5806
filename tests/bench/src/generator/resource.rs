//! What the API server says about each resource: its group, version, kind and whether it has a namespace.

/// A resource of the Kubernetes API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resource {
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    /// Empty for the core group.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) namespaced: bool,
}

const CLUSTER: bool = false;
const NAMESPACED: bool = true;

/// plural, kind, group, version, namespaced
const RESOURCES: &[(&str, &str, &str, &str, bool)] = &[
    ("configmaps", "ConfigMap", "", "v1", NAMESPACED),
    ("endpoints", "Endpoints", "", "v1", NAMESPACED),
    ("events", "Event", "", "v1", NAMESPACED),
    ("limitranges", "LimitRange", "", "v1", NAMESPACED),
    ("namespaces", "Namespace", "", "v1", CLUSTER),
    ("nodes", "Node", "", "v1", CLUSTER),
    ("persistentvolumeclaims", "PersistentVolumeClaim", "", "v1", NAMESPACED),
    ("persistentvolumes", "PersistentVolume", "", "v1", CLUSTER),
    ("pods", "Pod", "", "v1", NAMESPACED),
    ("podtemplates", "PodTemplate", "", "v1", NAMESPACED),
    ("replicationcontrollers", "ReplicationController", "", "v1", NAMESPACED),
    ("resourcequotas", "ResourceQuota", "", "v1", NAMESPACED),
    ("secrets", "Secret", "", "v1", NAMESPACED),
    ("serviceaccounts", "ServiceAccount", "", "v1", NAMESPACED),
    ("services", "Service", "", "v1", NAMESPACED),
    ("daemonsets", "DaemonSet", "apps", "v1", NAMESPACED),
    ("deployments", "Deployment", "apps", "v1", NAMESPACED),
    ("replicasets", "ReplicaSet", "apps", "v1", NAMESPACED),
    ("statefulsets", "StatefulSet", "apps", "v1", NAMESPACED),
    ("clusterrolebindings", "ClusterRoleBinding", "rbac.authorization.k8s.io", "v1", CLUSTER),
    ("clusterroles", "ClusterRole", "rbac.authorization.k8s.io", "v1", CLUSTER),
    ("rolebindings", "RoleBinding", "rbac.authorization.k8s.io", "v1", NAMESPACED),
    ("roles", "Role", "rbac.authorization.k8s.io", "v1", NAMESPACED),
    ("leases", "Lease", "coordination.k8s.io", "v1", NAMESPACED),
    ("endpointslices", "EndpointSlice", "discovery.k8s.io", "v1", NAMESPACED),
    ("ingresses", "Ingress", "networking.k8s.io", "v1", NAMESPACED),
    ("ipaddresses", "IPAddress", "networking.k8s.io", "v1", CLUSTER),
    ("csidrivers", "CSIDriver", "storage.k8s.io", "v1", CLUSTER),
    ("storageclasses", "StorageClass", "storage.k8s.io", "v1", CLUSTER),
    ("priorityclasses", "PriorityClass", "scheduling.k8s.io", "v1", CLUSTER),
    ("runtimeclasses", "RuntimeClass", "node.k8s.io", "v1", CLUSTER),
    ("selfsubjectaccessreviews", "SelfSubjectAccessReview", "authorization.k8s.io", "v1", CLUSTER),
    (
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        "v1",
        CLUSTER,
    ),
];

impl Resource {
    /// Looks a resource up by its plural name.
    pub(crate) fn find(plural: &str) -> Option<Self> {
        let found = RESOURCES.iter().find(|resource| resource.0 == plural)?;
        let (plural, kind, group, version, namespaced) = *found;
        Some(Self { plural, kind, group, version, namespaced })
    }

    /// `v1` or `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path under which its objects are found.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        match namespace {
            Some(namespace) => {
                format!("{root}/{}/namespaces/{namespace}/{}", self.api_version(), self.plural)
            }
            None => format!("{root}/{}/{}", self.api_version(), self.plural),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::profile::Profile;
    use super::*;

    #[test]
    fn every_resource_of_the_profile_is_known() {
        for row in Profile::load().unwrap().rows() {
            assert!(row.resource.is_none_or(|resource| Resource::find(resource).is_some()), "{row:?}");
        }
    }

    #[test]
    fn paths_are_those_of_the_api() {
        let check = |plural, namespace, expect| {
            assert_eq!(
                Resource::find(plural).map(|resource| resource.path(namespace)).as_deref(),
                Some(expect)
            );
        };
        check("pods", Some("prod"), "/api/v1/namespaces/prod/pods");
        check("leases", Some("x"), "/apis/coordination.k8s.io/v1/namespaces/x/leases");
        check("nodes", None, "/api/v1/nodes");
    }
}
