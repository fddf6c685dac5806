"""Whether a real API server accepts what deploy/manifests and deploy/roles.yaml say, by server-side dry run."""

import json
import re

from processes import Failure, wait_until
from tools import ROOT
from watchbell import CLUSTER
from webhook import TEMPLATE, write_kubeconfig

MANIFESTS = ROOT / "deploy" / "manifests"
APART = ROOT / "deploy" / "roles.yaml"
NAMESPACE = "watchbell"


def checks(cluster, watchbell):
    """Names and actions, in order. The namespace and the service account are made, all else is a dry run."""
    return [
        ("deploy: namespace and service account are made", lambda: _prepare(cluster)),
        ("deploy: every manifest is accepted", lambda: _dry_run_all(cluster)),
        ("deploy: the StatefulSet's pod is accepted under Pod Security restricted", lambda: _dry_run_pod(cluster)),
        ("deploy: the same pod is refused once it is not restricted", lambda: _refuse_loose_pod(cluster)),
        ("deploy: watchbell starts with the ConfigMap's configuration", lambda: _serve_configuration(cluster, watchbell)),
        ("deploy: the webhook kubeconfig is what `watchbell cluster add` prints", lambda: _same_kubeconfig(cluster, watchbell)),
    ]


def _prepare(cluster):
    for name in ("namespace.yaml", "serviceaccount.yaml"):
        cluster.kubectl("olivia", "apply", "-f", MANIFESTS / name)
    labels = cluster.kubectl("olivia", "get", "namespace", NAMESPACE, "-o", "json").body
    if json.loads(labels)["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        raise Failure(f"{NAMESPACE} does not enforce Pod Security restricted")
    wait_until("default service account", lambda: cluster.kubectl("olivia", "get", "sa", "default", "-n", NAMESPACE), 20, 0.5)


def _dry_run_all(cluster):
    answer = cluster.kubectl("olivia", "apply", "--dry-run=server", "--validate=strict", "-f", MANIFESTS, "-f", APART)
    if "Warning" in answer.body:
        raise Failure(f"the API server warns: {answer.body.strip()}")
    return f"{len(answer.body.splitlines())} objects"


def _pod(cluster):
    """The pod that the StatefulSet's controller would make."""
    stateful_set = json.loads(cluster.kubectl(
        "olivia", "create", "--dry-run=client", "-o", "json", "-f", MANIFESTS / "statefulset.yaml").body)
    template = stateful_set["spec"]["template"]
    for claim in stateful_set["spec"]["volumeClaimTemplates"]:
        name = claim["metadata"]["name"]
        template["spec"]["volumes"].append({"name": name, "persistentVolumeClaim": {"claimName": f"{name}-watchbell-0"}})
    metadata = {**template["metadata"], "name": "watchbell-0", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def _dry_run_pod(cluster):
    answer = cluster.kubectl("olivia", "create", "--dry-run=server", "-f", "-", stdin=_pod(cluster))
    if "Warning" in answer.body:
        raise Failure(f"the API server warns: {answer.body.strip()}")


def _refuse_loose_pod(cluster):
    pod = _pod(cluster)
    del pod["spec"]["securityContext"]["seccompProfile"]
    answer = cluster.kubectl("olivia", "create", "--dry-run=server", "-f", "-", stdin=pod, check=False)
    if "violates PodSecurity" not in answer.body:
        raise Failure(f"expected a Pod Security violation, got {answer}")


def _serve_configuration(cluster, watchbell):
    """As it is, and with the receivers that it shows as a comment."""
    config_map = cluster.kubectl("olivia", "create", "--dry-run=client", "-o", "json", "-f", MANIFESTS / "config.yaml").body
    shipped = json.loads(config_map)["data"]["watchbell.yaml"]
    with_receivers = re.sub(r"^# (?= |alerting:)", "", shipped, flags=re.MULTILINE)
    if with_receivers == shipped or "\nalerting:" not in with_receivers:
        raise Failure("the configuration shows no receivers")
    for name, text in (("shipped", shipped), ("with-receivers", with_receivers)):
        watchbell.try_configuration(f"configuration-{name}", text)


def _same_kubeconfig(cluster, watchbell):
    """As Kubernetes reads both: where events are sent, trusting whom, with which token."""
    printed = _as_read(cluster, watchbell.with_token)
    filled = write_kubeconfig(watchbell.directory / "webhook.yaml", watchbell.url, CLUSTER, printed["token"], watchbell.authority.cert)
    if _as_read(cluster, filled) != printed:
        raise Failure(f"{TEMPLATE.name} filled in says {sorted(_as_read(cluster, filled))} differently")


def _as_read(cluster, path):
    view = json.loads(cluster.kubectl(path, "config", "view", "--minify", "--flatten", "-o", "json").body)
    target, (user,) = view["clusters"][0]["cluster"], view["users"]
    return {"server": target["server"], "authority": target["certificate-authority-data"], "token": user["user"]["token"]}
