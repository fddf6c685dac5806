"""Getting in, and taking secrets."""

import base64

from objects import bare_pod, binding, group, person, role, rule
from pki import Authority
from steps.base import Step, anonymous, create, created, event, expect, failed, first_pod, ran, refused
from work import stock_token


def guess_tokens(cluster):
    for attempt in range(6):
        expect(cluster.http(f"guess-{attempt}", "GET", "/api/v1/namespaces/shop/configmaps"), 401)


def strange_certificate(cluster):
    stranger = Authority(cluster.directory / "stranger").issue("stranger", "kubernetes-admin", "system:masters")
    expect(cluster.http(None, "GET", "/api/v1/namespaces/shop/endpoints", certificate=stranger), 401)


def expired_pod_token(cluster):
    token = stock_token(cluster).split(".")
    forged = ".".join([token[0], token[1], base64.urlsafe_b64encode(b"x" * 256).decode().rstrip("=")])
    expect(cluster.http(forged, "GET", "/api/v1/namespaces/shop/services"), 401)


def same_audit_id(cluster):
    """The client chooses the id of the audit event: twice the same must still be two events."""
    for name in ("decoy", "web"):
        answer = cluster.http(cluster.tokens["alice"], "GET", f"/api/v1/namespaces/shop/secrets/{name}",
                              headers={"Audit-ID": "11111111-2222-3333-4444-555555555555", "User-Agent": "curl/8.5.0"})
        expect(answer, 404 if name == "decoy" else 200)


def escalate_by_role(cluster):
    """Whoever may write roles still may not grant what they do not have."""
    create(cluster, "olivia", role("Role", "role-writer", [rule(["rbac.authorization.k8s.io"], ["roles"], ["create"])], "shop"),
           binding("RoleBinding", "deputies", "Role", "role-writer", [group("deputies")], "shop"))
    everything = role("Role", "more", [rule(["*"], ["*"], ["*"])], "shop")
    expect(create(cluster, "deputy", everything, check=False), 1, "attempting to grant RBAC permissions")


GETTING_IN = [
    Step("wrong tokens", guess_tokens,
         event(verb="list", code=401, requestURI="/api/v1/namespaces/shop/configmaps", stage="ResponseStarted"),
         ("failed authentication",), count=6),
    Step("certificate of a strange authority", strange_certificate,
         event(code=401, requestURI="/api/v1/namespaces/shop/endpoints", stage="ResponseStarted"), ("failed authentication",)),
    Step("forged service account token", expired_pod_token,
         event(code=401, requestURI="/api/v1/namespaces/shop/services", stage="ResponseStarted"), ("failed authentication",)),
    Step("anonymous asks for secrets", anonymous("/api/v1/namespaces/kube-system/secrets", 403),
         event("secrets", "list", 403, user="system:anonymous", userAgent="curl/8.5.0"), ("anonymous access", "denied secret access")),
    Step("anonymous looks around", anonymous("/api", 403),
         event(verb="get", code=403, user="system:anonymous", requestURI="/api"), ("anonymous access",)),
    Step("contractor may not list secrets", failed("mallory", "forbidden", "get", "secrets", "-n", "shop"),
         event("secrets", "list", 403, namespace="shop", user="mallory", **{"annotations.authorization.k8s.io/decision": "forbid"}),
         ("denied secret access",)),
    Step("contractor may not create pods", refused("forbidden", bare_pod("beachhead", "shop"), who="mallory"),
         event("pods", "create", 403, namespace="shop", user="mallory"), ("denied request", "creation refused")),
    Step("contractor asks what is allowed", ran("mallory", "auth", "can-i", "--list", "-n", "shop"),
         event("selfsubjectrulesreviews", "create", 201, user="mallory"), ("permission enumeration",)),
    Step("auditor may not exec",
         lambda cluster: failed("bob", "forbidden", "exec", first_pod(cluster), "-n", "shop", "--", "id")(cluster),
         event("pods", None, 403, namespace="shop", user="bob", objectRef__subresource="exec"), ("denied request", "creation refused")),
    Step("developer may not bind cluster-admin",
         refused("forbidden", binding("ClusterRoleBinding", "promote-me", "ClusterRole", "cluster-admin", [person("alice")])),
         event("clusterrolebindings", "create", 403, user="alice"), ("denied request", "creation refused")),
    Step("developer may not escalate by a role", escalate_by_role,
         event("roles", "create", 403, namespace="shop", user="deputy"), ("denied request",)),
    Step("stolen service account token",
         lambda cluster: expect(cluster.http(stock_token(cluster), "GET", "/api/v1/namespaces/shop/secrets"), 403),
         event("secrets", "list", 403, user="system:serviceaccount:shop:stock"), ("denied secret access",)),
    Step("node reads a foreign secret",
         lambda cluster: failed(cluster.node_kubeconfig, "forbidden", "get", "secret", "unrelated", "-n", "shop")(cluster),
         event("secrets", "get", 403, name="unrelated", user="system:node:worker-1"), ("node denied secret access",)),
    # What the audit policy leaves out for those who may must be seen of those who may not.
    Step("wrong token at a health endpoint", lambda cluster: expect(cluster.http("guess", "GET", "/readyz"), 401),
         event(code=401, requestURI="/readyz", stage="ResponseStarted"), ("failed authentication",)),
    Step("health details refused", lambda cluster: expect(cluster.http(cluster.tokens["alice"], "GET", "/livez/etcd"), 403),
         event(code=403, user="alice", requestURI="/livez/etcd"), ()),
    Step("node reaches for another node's lease",
         lambda cluster: failed(cluster.node_kubeconfig, "forbidden", "get", "lease", "worker-2", "-n", "kube-node-lease")(cluster),
         event("leases", "get", 403, "worker-2", user="system:node:worker-1"), ("denied request",)),
    Step("scheduler reaches for another's lease",
         lambda cluster: failed(cluster.scheduler_kubeconfig, "forbidden", "patch", "lease", "kube-controller-manager",
                                "-n", "kube-system", "-p", '{"spec":{"holderIdentity":"me"}}')(cluster),
         event("leases", "patch", 403, "kube-controller-manager", user="system:kube-scheduler"), ()),
    Step("one audit id twice", same_audit_id,
         event("secrets", auditID="11111111-2222-3333-4444-555555555555"), ("secret read", "scripted secret access"), count=2),
]


SECRETS = [
    Step("developer reads a secret", ran("alice", "get", "secret", "web", "-n", "shop", "-o", "yaml"),
         event("secrets", "get", 200, "web", "shop", "alice", userAgent="kubectl/*"), ("secret read",)),
    Step("developer lists the secrets of a namespace", ran("alice", "get", "secrets", "-n", "shop"),
         event("secrets", "list", 200, None, "shop", "alice"), ("secret list",)),
    Step("operator lists all secrets", ran("olivia", "get", "secrets", "-A"),
         event("secrets", "list", 200, user="olivia", requestURI="/api/v1/secrets*"), ("cluster-wide secret list",)),
    Step("token requested for a service account", ran("olivia", "create", "token", "default", "-n", "kube-system"),
         event("serviceaccounts", "create", 201, "default", "kube-system", "olivia", objectRef__subresource="token"),
         ("service account token issued",)),
    Step("long-lived service account token",
         created({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token", "metadata": {
             "name": "stock-forever", "namespace": "shop", "annotations": {"kubernetes.io/service-account.name": "stock"}}}, who="olivia"),
         event("secrets", "create", None, "stock-forever", "shop", "olivia"), ("secret created",)),
    Step("long-lived token written by its controller", lambda cluster: None,
         event("secrets", "update", 200, "stock-forever", "shop", "system:kube-controller-manager"), ("long-lived token made",)),
]
