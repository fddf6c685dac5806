//! The rules that ship, as Sigma files by the headings of the catalogue.
//!
//! Beside each file stands `NAME.samples.yml` with events that the rule must and must not match.

/// A rule file of the folder `library`.
macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("../library/", $name)))
    };
}

/// Name and text of every file.
pub const FILES: [(&str, &str); 82] = [
    file!("admission/pod-security-audited.yml"),
    file!("admission/pod-security-denied.yml"),
    file!("admission/pod-security-exempt.yml"),
    file!("admission/pod-security-weakened.yml"),
    file!("admission/policy-changed.yml"),
    file!("admission/policy-denied.yml"),
    file!("admission/policy-violated.yml"),
    file!("admission/webhook-changed-by-service-account.yml"),
    file!("admission/webhook-changed.yml"),
    file!("admission/webhook-denied.yml"),
    file!("admission/webhook-failed-open.yml"),
    file!("audit/api-server-panic.yml"),
    file!("audit/api-server-restarted.yml"),
    file!("audit/api-server-without-audit.yml"),
    file!("audit/audit-configuration-changed.yml"),
    file!("audit/audit-event-left-out.yml"),
    file!("audit/audit-event-truncated.yml"),
    file!("audit/events-deleted.yml"),
    file!("discovery/permissions-listed.yml"),
    file!("discovery/service-account-lists-permissions.yml"),
    file!("exec/attach.yml"),
    file!("exec/ephemeral-container.yml"),
    file!("exec/exec-cloud-metadata.yml"),
    file!("exec/exec-copies-files.yml"),
    file!("exec/exec-credential-file.yml"),
    file!("exec/exec-downloads.yml"),
    file!("exec/exec-in-system-namespace.yml"),
    file!("exec/exec-reverse-shell.yml"),
    file!("exec/exec.yml"),
    file!("exec/port-forward.yml"),
    file!("failed-auth/anonymous-access-allowed.yml"),
    file!("failed-auth/anonymous-access-denied.yml"),
    file!("failed-auth/authentication-failed.yml"),
    file!("failed-auth/impersonation-denied.yml"),
    file!("failed-auth/request-forbidden.yml"),
    file!("impact/limits-removed.yml"),
    file!("impact/namespace-deleted.yml"),
    file!("impact/system-workload-deleted.yml"),
    file!("impact/workload-deleted.yml"),
    file!("network/dns-configuration-changed.yml"),
    file!("network/ingress-without-tls.yml"),
    file!("network/network-policy-deleted.yml"),
    file!("network/node-port-service.yml"),
    file!("persistence/api-service-changed.yml"),
    file!("persistence/aws-auth-changed.yml"),
    file!("persistence/certificate-approved.yml"),
    file!("persistence/client-certificate-requested.yml"),
    file!("persistence/cron-job-changed.yml"),
    file!("persistence/node-made-by-person.yml"),
    file!("persistence/service-account-in-system-namespace.yml"),
    file!("rbac/built-in-role-changed.yml"),
    file!("rbac/cluster-admin-bound.yml"),
    file!("rbac/everyone-bound.yml"),
    file!("rbac/impersonation.yml"),
    file!("rbac/kubelet-through-api-server.yml"),
    file!("rbac/privileged-impersonation.yml"),
    file!("rbac/privileged-role-bound.yml"),
    file!("rbac/rights-changed-by-service-account.yml"),
    file!("rbac/role-escalates.yml"),
    file!("rbac/role-reaches-into-pods.yml"),
    file!("rbac/role-reaches-kubelets.yml"),
    file!("rbac/wildcard-role.yml"),
    file!("secret-access/default-service-account-reads-secrets.yml"),
    file!("secret-access/node-secret-access-denied.yml"),
    file!("secret-access/secret-access-denied.yml"),
    file!("secret-access/secret-access-scripted.yml"),
    file!("secret-access/secret-changed.yml"),
    file!("secret-access/secret-read.yml"),
    file!("secret-access/secrets-listed-cluster-wide.yml"),
    file!("secret-access/secrets-listed.yml"),
    file!("secret-access/service-account-token-issued.yml"),
    file!("secret-access/system-secrets-listed.yml"),
    file!("workload/controller-identity-in-pod.yml"),
    file!("workload/daemon-set-created.yml"),
    file!("workload/dangerous-capabilities.yml"),
    file!("workload/host-ipc.yml"),
    file!("workload/host-network.yml"),
    file!("workload/host-path.yml"),
    file!("workload/host-processes.yml"),
    file!("workload/pod-in-system-namespace.yml"),
    file!("workload/privileged-container.yml"),
    file!("workload/sensitive-host-path.yml"),
];

/// The files in the form that [`load`](crate::load) takes.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    FILES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[cfg(test)]
mod tests;
