"""Which shipped rules are meant by the detections that steps name: an alert by any of them will do."""

import re

from tools import ROOT

LIBRARY = ROOT / "rules" / "library"

RULES = {
    # getting in
    "failed authentication": ["failed-auth/authentication-failed"],
    "anonymous access": ["failed-auth/anonymous-access-denied"],
    "anonymous access allowed": ["failed-auth/anonymous-access-allowed"],
    "denied request": ["failed-auth/request-forbidden"],
    "denied impersonation": ["failed-auth/impersonation-denied"],
    "permission enumeration": ["discovery/permissions-listed"],
    "creation refused": ["failed-auth/creation-refused"],
    # secrets
    "denied secret access": ["secret-access/secret-access-denied"],
    "node denied secret access": ["secret-access/node-secret-access-denied"],
    "secret read": ["secret-access/secret-read"],
    "scripted secret access": ["secret-access/secret-access-scripted"],
    "secret list": ["secret-access/secrets-listed"],
    "cluster-wide secret list": ["secret-access/secrets-listed-cluster-wide"],
    "system secret list": ["secret-access/system-secrets-listed"],
    "secret changed": ["secret-access/secret-changed"],
    "service account token issued": ["secret-access/service-account-token-issued"],
    "secret created": ["secret-access/secret-created"],
    "service account used by hand": ["secret-access/service-account-used-by-hand"],
    # rights
    "cluster-admin binding": ["rbac/cluster-admin-bound"],
    "privileged role binding": ["rbac/privileged-role-bound"],
    "anonymous binding": ["rbac/everyone-bound"],
    "wildcard role": ["rbac/wildcard-role"],
    "role with sensitive verbs": ["rbac/role-escalates"],
    "role with exec": ["rbac/role-reaches-into-pods"],
    "system role changed": ["rbac/built-in-role-changed"],
    "impersonation": ["rbac/impersonation"],
    "privileged impersonation": ["rbac/privileged-impersonation"],
    "node proxy": ["rbac/kubelet-through-api-server"],
    "role that reaches kubelets": ["rbac/role-reaches-kubelets"],
    "rights changed by a service account": ["rbac/rights-changed-by-service-account"],
    "default service account reads secrets": ["secret-access/default-service-account-reads-secrets"],
    "service account lists its rights": ["discovery/service-account-lists-permissions"],
    "binding made": ["rbac/binding-made-or-deleted"],
    "role made": ["rbac/role-made-or-deleted"],
    "role that allows everything": ["rbac/role-allows-everything"],
    "role that writes": ["rbac/role-writes"],
    "service account bound": ["rbac/service-account-bound"],
    "administrator at work": ["rbac/admin-identity-used"],
    # policies
    "pod security denied": ["admission/pod-security-denied"],
    "pod security audited": ["admission/pod-security-audited"],
    "pod security weakened": ["admission/pod-security-weakened"],
    "admission policy changed": ["admission/policy-changed"],
    "admission policy denied": ["admission/policy-denied"],
    "admission policy violated": ["admission/policy-violated"],
    "webhook configuration changed": ["admission/webhook-changed"],
    "webhook failed open": ["admission/webhook-failed-open"],
    "denied by a webhook": ["admission/webhook-denied"],
    # pods and workloads
    "privileged container": ["workload/privileged-container"],
    "host path": ["workload/host-path"],
    "sensitive host path": ["workload/sensitive-host-path"],
    "host network": ["workload/host-network"],
    "host processes": ["workload/host-processes"],
    "host IPC": ["workload/host-ipc"],
    "dangerous capability": ["workload/dangerous-capabilities"],
    "daemon set created": ["workload/daemon-set-created"],
    "pod in a system namespace": ["workload/pod-in-system-namespace"],
    "controller identity in a pod": ["workload/controller-identity-in-pod"],
    "container patched in": ["workload/container-patched-into-workload"],
    "deployment created": ["workload/deployment-created"],
    # reaching into them
    "exec": ["exec/exec"],
    "exec: cloud metadata": ["exec/exec-cloud-metadata"],
    "exec: credential file": ["exec/exec-credential-file"],
    "exec: reverse shell": ["exec/exec-reverse-shell"],
    "exec: download": ["exec/exec-downloads"],
    "exec: copy": ["exec/exec-copies-files"],
    "exec in a system namespace": ["exec/exec-in-system-namespace"],
    "attach": ["exec/attach"],
    "port-forward": ["exec/port-forward"],
    "ephemeral container": ["exec/ephemeral-container"],
    # staying
    "certificate requested": ["persistence/client-certificate-requested"],
    "certificate approved": ["persistence/certificate-approved"],
    "node made by a person": ["persistence/node-made-by-person"],
    "cron job changed": ["persistence/cron-job-changed"],
    "service account in a system namespace": ["persistence/service-account-in-system-namespace"],
    "AWS identities changed": ["persistence/aws-auth-changed"],
    "API service changed": ["persistence/api-service-changed"],
    "service account created": ["persistence/service-account-created"],
    "config map created": ["persistence/config-map-created"],
    "namespace created": ["persistence/namespace-created"],
    "long-lived token made": ["persistence/long-lived-token"],
    # exposure and destruction
    "node port service": ["network/node-port-service"],
    "ingress without TLS": ["network/ingress-without-tls"],
    "service created": ["network/service-created"],
    "DNS configuration changed": ["network/dns-configuration-changed"],
    "network policy deleted": ["network/network-policy-deleted"],
    "limits removed": ["impact/limits-removed"],
    "system workload deleted": ["impact/system-workload-deleted"],
    "workload deleted": ["impact/workload-deleted"],
    "namespace deleted": ["impact/namespace-deleted"],
    "events deleted": ["audit/events-deleted"],
}


def rule_ids(detection):
    """The ids of the detection's rules, read from the library."""
    return {_rule_id(path) for path in RULES.get(detection, [])}


def _rule_id(path):
    return re.search(r"^id: *(\S+)", (LIBRARY / f"{path}.yml").read_text(), re.MULTILINE).group(1)
