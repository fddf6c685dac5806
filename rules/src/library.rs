//! The rules that ship, as Sigma files by the headings of the catalogue.
//!
//! Beside each file stands `NAME.samples.yml` with events that the rule must and must not match.

/// A rule file of the folder `library`, with its samples.
struct File {
    /// Without `.yml`.
    name: &'static str,
    rules: &'static str,
    samples: &'static str,
}

macro_rules! file {
    ($name:literal) => {
        File {
            name: $name,
            rules: include_str!(concat!("../library/", $name, ".yml")),
            samples: include_str!(concat!("../library/", $name, ".samples.yml")),
        }
    };
}

const FILES: &[File] = &[
    file!("admission/namespace-not-listed"),
    file!("admission/pod-security-audited"),
    file!("admission/pod-security-denied"),
    file!("admission/pod-security-exempt"),
    file!("admission/pod-security-weakened"),
    file!("admission/policy-changed"),
    file!("admission/policy-denied"),
    file!("admission/policy-violated"),
    file!("admission/webhook-changed"),
    file!("admission/webhook-changed-by-service-account"),
    file!("admission/webhook-denied"),
    file!("admission/webhook-failed-open"),
    file!("audit/api-server-panic"),
    file!("audit/api-server-restarted"),
    file!("audit/api-server-without-audit"),
    file!("audit/audit-configuration-changed"),
    file!("audit/audit-event-left-out"),
    file!("audit/audit-event-truncated"),
    file!("audit/events-deleted"),
    file!("audit/watched-user"),
    file!("discovery/many-resources-listed"),
    file!("discovery/permission-asked"),
    file!("discovery/permissions-listed"),
    file!("discovery/service-account-lists-permissions"),
    file!("exec/attach"),
    file!("exec/ephemeral-container"),
    file!("exec/exec"),
    file!("exec/exec-cloud-metadata"),
    file!("exec/exec-copies-files"),
    file!("exec/exec-credential-file"),
    file!("exec/exec-downloads"),
    file!("exec/exec-in-system-namespace"),
    file!("exec/exec-reverse-shell"),
    file!("exec/port-forward"),
    file!("failed-auth/anonymous-access-allowed"),
    file!("failed-auth/anonymous-access-denied"),
    file!("failed-auth/anonymous-writes-workload"),
    file!("failed-auth/authentication-failed"),
    file!("failed-auth/authentication-failures"),
    file!("failed-auth/creation-refused"),
    file!("failed-auth/endpoints-probed-anonymously"),
    file!("failed-auth/hostile-address"),
    file!("failed-auth/impersonation-denied"),
    file!("failed-auth/new-user"),
    file!("failed-auth/node-joined"),
    file!("failed-auth/node-refused"),
    file!("failed-auth/permissions-mapped"),
    file!("failed-auth/refusals-from-outside"),
    file!("failed-auth/refusals-of-new-client"),
    file!("failed-auth/request-forbidden"),
    file!("failed-auth/stale-token-used"),
    file!("failed-auth/system-identity-from-outside"),
    file!("failed-auth/unknown-user"),
    file!("failed-auth/unusual-decision"),
    file!("impact/api-server-overloaded"),
    file!("impact/helper-object-deleted"),
    file!("impact/limits-removed"),
    file!("impact/namespace-deleted"),
    file!("impact/system-workload-deleted"),
    file!("impact/workload-deleted"),
    file!("network/dns-configuration-changed"),
    file!("network/ingress-without-tls"),
    file!("network/network-policy-allows-all"),
    file!("network/network-policy-deleted"),
    file!("network/node-port-service"),
    file!("network/service-created"),
    file!("persistence/api-service-changed"),
    file!("persistence/aws-auth-changed"),
    file!("persistence/certificate-approved"),
    file!("persistence/client-certificate-requested"),
    file!("persistence/config-map-created"),
    file!("persistence/cron-job-changed"),
    file!("persistence/job-made"),
    file!("persistence/long-lived-token"),
    file!("persistence/long-token-requested"),
    file!("persistence/namespace-created"),
    file!("persistence/node-made-by-person"),
    file!("persistence/service-account-created"),
    file!("persistence/service-account-in-system-namespace"),
    file!("rbac/admin-identity-used"),
    file!("rbac/binding-changed"),
    file!("rbac/binding-made-or-deleted"),
    file!("rbac/built-in-role-changed"),
    file!("rbac/cluster-admin-bound"),
    file!("rbac/everyone-bound"),
    file!("rbac/impersonation"),
    file!("rbac/kubelet-through-api-server"),
    file!("rbac/privileged-impersonation"),
    file!("rbac/privileged-role-bound"),
    file!("rbac/rights-changed-by-service-account"),
    file!("rbac/rights-then-workload"),
    file!("rbac/role-escalates"),
    file!("rbac/role-made-or-deleted"),
    file!("rbac/role-reaches-into-pods"),
    file!("rbac/role-reaches-kubelets"),
    file!("rbac/role-writes"),
    file!("rbac/service-account-bound"),
    file!("rbac/wildcard-role"),
    file!("secret-access/azure-arc-proxy"),
    file!("secret-access/config-map-holds-credentials"),
    file!("secret-access/config-map-named-like-secret"),
    file!("secret-access/default-service-account-reads-secrets"),
    file!("secret-access/legacy-token-used"),
    file!("secret-access/node-secret-access-denied"),
    file!("secret-access/secret-access-denied"),
    file!("secret-access/secret-access-scripted"),
    file!("secret-access/secret-changed"),
    file!("secret-access/secret-created"),
    file!("secret-access/secret-read"),
    file!("secret-access/secrets-listed"),
    file!("secret-access/secrets-listed-cluster-wide"),
    file!("secret-access/secrets-new-reader"),
    file!("secret-access/secrets-swept"),
    file!("secret-access/service-account-token-issued"),
    file!("secret-access/service-account-used-by-hand"),
    file!("secret-access/system-secrets-listed"),
    file!("secret-access/token-used-from-two-addresses"),
    file!("workload/container-patched-into-workload"),
    file!("workload/controller-identity-in-pod"),
    file!("workload/daemon-set-created"),
    file!("workload/dangerous-capabilities"),
    file!("workload/deployment-created"),
    file!("workload/host-ipc"),
    file!("workload/host-network"),
    file!("workload/host-path"),
    file!("workload/host-processes"),
    file!("workload/pod-in-system-namespace"),
    file!("workload/privileged-container"),
    file!("workload/sensitive-host-path"),
    file!("workload/system-workload-changed-by-new-client"),
];

/// Name and text of every rule file, as [`load`](crate::load) takes them.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    FILES.iter().map(|file| (format!("{}.yml", file.name), file.rules.to_owned())).collect()
}

/// Name and text of every file of samples, as [`samples::read`](crate::samples::read) takes them.
#[must_use]
pub fn sample_files() -> Vec<(String, String)> {
    FILES.iter().map(|file| (format!("{}.samples.yml", file.name), file.samples.to_owned())).collect()
}

#[cfg(test)]
mod tests;
