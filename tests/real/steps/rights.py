"""Taking rights."""

import base64

from objects import account, binding, group, obj, person, role, rule
from steps.base import Step, anonymous, create, created, event, expect, failed, ran


def ask_for_certificate(cluster):
    _, request = cluster.ca.request("backdoor", "backdoor", "contractors")
    create(cluster, "mallory", obj("CertificateSigningRequest", "backdoor", None, "certificates.k8s.io/v1", spec={
        "request": base64.b64encode(request.read_bytes()).decode(), "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"]}))


def admin_certificate_refused(cluster):
    _, request = cluster.ca.request("masters", "masters", "system:masters")
    wanted = obj("CertificateSigningRequest", "masters", None, "certificates.k8s.io/v1", spec={
        "request": base64.b64encode(request.read_bytes()).decode(), "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"]})
    expect(create(cluster, "mallory", wanted, check=False), 1, "system:masters")


def as_default_account(*words, **options):
    """An action: kubectl with these words and a token of the default service account."""
    def act(cluster):
        token = cluster.kubectl("mallory", "create", "token", "default", "-n", "shop").body.strip()
        cluster.kubectl(cluster.token_kubeconfig("default", token), *words, "-n", "shop", **options)
    return act


DEFAULT = "system:serviceaccount:shop:default"

RIGHTS = [
    Step("cluster-admin for a contractor",
         created(binding("ClusterRoleBinding", "breakglass", "ClusterRole", "cluster-admin", [person("mallory")]), who="olivia"),
         event("clusterrolebindings", "create", 201, "breakglass", user="olivia"), ("cluster-admin binding", "binding made")),
    Step("role with wildcards", created(role("ClusterRole", "helper", [rule(["*"], ["*"], ["*"])])),
         event("clusterroles", "create", 201, "helper"), ("wildcard role", "role made", "role that allows everything")),
    Step("role that escalates",
         created(role("ClusterRole", "helper-2", [rule(["rbac.authorization.k8s.io"], ["clusterroles"], ["escalate", "bind"]),
                                                  rule([""], ["users", "groups"], ["impersonate"])])),
         event("clusterroles", "create", 201, "helper-2"), ("role with sensitive verbs", "role made")),
    Step("role with exec", created(role("Role", "debugger", [rule([""], ["pods/exec"], ["create", "get"])], "shop")),
         event("roles", "create", 201, "debugger", "shop"), ("role with exec", "role made", "role that writes")),
    Step("rights for a default service account",
         created(binding("RoleBinding", "default-admin", "ClusterRole", "admin", [account("default", "shop")], "shop")),
         event("rolebindings", "create", 201, "default-admin", "shop"), ("privileged role binding", "binding made", "service account bound")),
    Step("token of a default service account", ran("mallory", "create", "token", "default", "-n", "shop"),
         event("serviceaccounts", "create", 201, "default", "shop", "mallory", objectRef__subresource="token"),
         ("service account token issued",)),
    Step("default service account lists its rights", as_default_account("auth", "can-i", "--list"),
         event("selfsubjectrulesreviews", "create", 201, user=DEFAULT), ("service account lists its rights", "service account used by hand")),
    Step("default service account takes secrets", as_default_account("get", "secrets"),
         event("secrets", "list", 200, None, "shop", DEFAULT), ("default service account reads secrets", "service account used by hand")),
    Step("default service account gives rights",
         as_default_account("create", "rolebinding", "friend", "--clusterrole=view", "--user=stranger"),
         event("rolebindings", "create", 201, "friend", "shop", DEFAULT), ("rights changed by a service account", "service account used by hand")),
    Step("role that reaches kubelets", created(role("ClusterRole", "prober", [rule([""], ["nodes/proxy"], ["get"])])),
         event("clusterroles", "create", 201, "prober"), ("role that reaches kubelets", "role made")),
    Step("service account among the system's", ran("mallory", "create", "serviceaccount", "metrics", "-n", "kube-system"),
         event("serviceaccounts", "create", 201, "metrics", "kube-system"), ("service account in a system namespace", "service account created")),
    Step("AWS identities given rights",
         created(obj("ConfigMap", "aws-auth", "kube-system", data={"mapUsers": "- userarn: arn:aws:iam::123456789012:user/m\n"})),
         event("configmaps", "create", 201, "aws-auth", "kube-system"), ("AWS identities changed", "config map created")),
    Step("wildcard added by a JSON patch",
         ran("mallory", "patch", "clusterrole", "helper-2", "--type=json", "-p",
             '[{"op":"add","path":"/rules/0/verbs/-","value":"*"}]'),
         event("clusterroles", "patch", 200, "helper-2"), ("wildcard role",)),
    Step("built-in role changed",
         ran("mallory", "label", "clusterrole", "system:public-info-viewer", "example.com/by=mallory"),
         event("clusterroles", "patch", 200, "system:public-info-viewer"), ("system role changed",)),
    Step("rights for everyone",
         created(binding("ClusterRoleBinding", "open-door", "ClusterRole", "view", [group("system:unauthenticated")])),
         event("clusterrolebindings", "create", 201, "open-door"), ("anonymous binding", "binding made")),
    Step("anonymous reads pods", anonymous("/api/v1/namespaces/shop/pods", 200),
         event("pods", "list", 200, namespace="shop", user="system:anonymous"), ("anonymous access allowed",)),
    Step("acts as an administrator",
         ran("mallory", "get", "secrets", "-n", "kube-system", "--as=root", "--as-group=system:masters"),
         event("secrets", "list", 200, namespace="kube-system", user="mallory", impersonatedUser__username="root"),
         ("impersonation", "privileged impersonation", "system secret list")),
    Step("may not act as another", failed("bob", "cannot impersonate", "get", "pods", "-n", "shop", "--as=olivia"),
         event("pods", "list", 403, namespace="shop", user="bob"), ("denied impersonation",)),
    Step("client certificate requested", ask_for_certificate,
         event("certificatesigningrequests", "create", 201, "backdoor", user="mallory"), ("certificate requested",)),
    Step("certificate request approved", ran("mallory", "certificate", "approve", "backdoor"),
         event("certificatesigningrequests", "update", 200, "backdoor", user="mallory", objectRef__subresource="approval"),
         ("certificate approved",)),
    Step("certificate for system:masters refused", admin_certificate_refused,
         event("certificatesigningrequests", "create", 403, user="mallory"), ("denied request",)),
    Step("stranger's node", created(obj("Node", "worker-666")),
         event("nodes", "create", 201, "worker-666", user="mallory"), ("node made by a person",)),
]
