"""Kubernetes objects as the scenario's people write them."""

IMAGE = "registry.example/shop/web:1.4.2"

# What Pod Security "restricted" asks of a pod and its containers.
RESTRICTED_POD = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}
RESOURCES = {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}


def obj(kind, name, namespace=None, api="v1", labels=None, **fields):
    metadata = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}


def namespace(name, **pod_security):
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode, level in pod_security.items()}
    return obj("Namespace", name, labels=labels)


def container(name="web", image=IMAGE, **fields):
    return {"name": name, "image": image, "resources": RESOURCES, "securityContext": RESTRICTED_CONTAINER, **fields}


def pod_spec(*containers, **fields):
    return {"securityContext": RESTRICTED_POD, "containers": list(containers) or [container()], **fields}


def pod(name, namespace, spec=None):
    return obj("Pod", name, namespace, labels={"app": name}, spec=spec or pod_spec())


def bare_pod(name, namespace, container_fields=None, **fields):
    """A pod without any of the care above."""
    first = {"name": "main", "image": "registry.example/tools/shell:latest", **(container_fields or {})}
    return obj("Pod", name, namespace, labels={"app": name}, spec={"containers": [first], **fields})


def workload(kind, name, namespace, spec=None, **fields):
    template = {"metadata": {"labels": {"app": name}}, "spec": spec or pod_spec()}
    selector = {"matchLabels": {"app": name}}
    return obj(kind, name, namespace, "apps/v1", spec={"selector": selector, "template": template, **fields})


def job_spec(command, spec=None):
    template = spec or pod_spec(container("task", command=command), restartPolicy="Never")
    return {"backoffLimit": 1, "template": {"spec": template}}


def role(kind, name, rules, namespace=None):
    return obj(kind, name, namespace, "rbac.authorization.k8s.io/v1", rules=rules)


def rule(groups, resources, verbs, **fields):
    return {"apiGroups": groups, "resources": resources, "verbs": verbs, **fields}


def binding(kind, name, role_kind, role_name, subjects, namespace=None):
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role_name}
    return obj(kind, name, namespace, "rbac.authorization.k8s.io/v1", roleRef=reference, subjects=subjects)


def person(name):
    return {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}


def group(name):
    return {"kind": "Group", "name": name, "apiGroup": "rbac.authorization.k8s.io"}


def account(name, namespace):
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def service(name, namespace, **spec):
    return obj("Service", name, namespace, spec={"selector": {"app": name}, "ports": [{"port": 80}], **spec})
