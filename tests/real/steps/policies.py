"""What admission refuses, notes and misses, and changes to it."""

import base64
import json
import time

from match import values
from objects import bare_pod, container, namespace, obj, pod_spec, workload
from processes import Failure, wait_until
from sink import Sink
from steps.base import PRIVILEGED, Step, create, created, event, expect, pod_created, ran, refused

PSA = "annotations.pod-security.kubernetes.io/"
VIOLATION = "annotations.validation.policy.admission.k8s.io/validation_failure"
FAILED_OPEN = "annotations.failed-open.validating.webhook.admission.k8s.io/round_0_index_0"


def make_policed_namespaces(cluster):
    create(cluster, "olivia", namespace("prod", enforce="restricted"), namespace("legacy", audit="restricted"),
           namespace("warned", warn="restricted"))
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
    until_noted(cluster, FAILED_OPEN, lambda attempt: create(cluster, "mallory", obj("ConfigMap", f"slip-{attempt}", "warned")))


def too_many_replicas(cluster):
    until_noted(cluster, VIOLATION, lambda attempt: create(
        cluster, "olivia", workload("Deployment", f"many-{attempt}", "warned", replicas=6)))


def until_noted(cluster, annotation, act):
    """Does it again until admission has taken note: changes to it take effect a moment after they are made."""
    for attempt in range(20):
        act(attempt)
        time.sleep(0.2)
        events, _ = cluster.audit_events()
        if any(values(event, annotation) for event in events):
            return
        time.sleep(0.5)
    raise Failure(f"no event has {annotation}")


def add_strict_webhook(cluster):
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
    Step("namespaces under Pod Security", make_policed_namespaces, event("namespaces", "create", 201, "prod", user="olivia"), ("namespace created", "administrator at work")),
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
         event("validatingadmissionpolicies", "create", 201), ("admission policy changed",), count=2),
    Step("admission policy denies", latest_denied,
         event("deployments", "create", 422, namespace="warned", user="olivia", requestURI="*fieldManager=kubectl-create*"),
         ("admission policy denied",)),
    Step("admission policy audits", too_many_replicas,
         {**event("deployments", "create", 201, "many-*", "warned"), VIOLATION: "*five replicas*"}, ("admission policy violated", "deployment created")),
    Step("webhook configuration added", add_dead_webhook,
         event("validatingwebhookconfigurations", "create", 201, "dead-end"), ("webhook configuration changed",)),
    Step("admission webhook failed open", slip_through,
         {**event("configmaps", "create", 201, namespace="warned"), FAILED_OPEN: "*"}, ("webhook failed open",)),
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
