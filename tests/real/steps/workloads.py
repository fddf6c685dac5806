"""Pods and workloads that break out of their containers."""

import json

from objects import bare_pod, container, job_spec, namespace, obj, pod_spec, workload
from processes import wait_until
from steps.base import PRIVILEGED, Step, create, created, event, pod_created

HOST_ROOT = {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}
ROOT_MOUNT = {"volumeMounts": [{"name": "root", "mountPath": "/host"}]}


def risky(name, container_fields=None, **fields):
    return created(bare_pod(name, "lab", container_fields, **fields))


def make_lab(cluster):
    create(cluster, "mallory", namespace("lab"))
    wait_until("service account in lab", lambda: cluster.kubectl("mallory", "get", "sa", "default", "-n", "lab").code == 0, 20, 0.5)


def sneak_into_deployment(cluster):
    create(cluster, "mallory", workload("Deployment", "quiet", "lab", pod_spec(container("quiet"))))
    cluster.kubectl("mallory", "patch", "deployment", "quiet", "-n", "lab", "--type=json", "-p", json.dumps([
        {"op": "replace", "path": "/spec/template/spec/containers/0/securityContext", "value": {"privileged": True}}]))


WORKLOADS = [
    Step("namespace without limits", make_lab, event("namespaces", "create", 201, "lab", user="mallory"), ("namespace created",)),
    Step("privileged pod", risky("privileged", PRIVILEGED), pod_created("privileged"), ("privileged container",)),
    Step("pod with the host's disk", risky("host-path", ROOT_MOUNT, **HOST_ROOT), pod_created("host-path"), ("host path", "sensitive host path")),
    Step("pod on the host's network", risky("host-network", hostNetwork=True), pod_created("host-network"), ("host network",)),
    Step("pod among the host's processes", risky("host-pid", hostPID=True), pod_created("host-pid"), ("host processes",)),
    Step("pod with the host's IPC", risky("host-ipc", hostIPC=True), pod_created("host-ipc"), ("host IPC",)),
    Step("pod with a dangerous capability", risky("capable", {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}),
         pod_created("capable"), ("dangerous capability",)),
    Step("privileged init container",
         risky("init", initContainers=[{"name": "setup", "image": "registry.example/tools/shell:latest", **PRIVILEGED}]),
         pod_created("init"), ("privileged container",)),
    Step("deployment made privileged by a JSON patch", sneak_into_deployment,
         event("deployments", "patch", 200, "quiet", "lab", "mallory"), ("privileged container", "container patched in")),
    Step("privileged daemon on every node",
         created(workload("DaemonSet", "miner", "lab", {"containers": [
             {"name": "miner", "image": "registry.example/xmrig:6", **PRIVILEGED, **ROOT_MOUNT}], **HOST_ROOT})),
         event("daemonsets", "create", 201, "miner", "lab", "mallory"), ("privileged container", "host path", "sensitive host path", "daemon set created")),
    Step("privileged cron job",
         created(obj("CronJob", "every-night", "lab", "batch/v1", spec={"schedule": "0 3 * * *", "jobTemplate": {"spec": job_spec(
             [], {"restartPolicy": "Never", "containers": [{"name": "c", "image": "registry.example/c:1", **PRIVILEGED}]})}})),
         event("cronjobs", "create", 201, "every-night", "lab", "mallory"), ("privileged container", "cron job changed")),
    Step("pod in kube-system", created(bare_pod("kube-proxy-2", "kube-system")),
         pod_created("kube-proxy-2", "kube-system"), ("pod in a system namespace",)),
    Step("pod with a controller's identity",
         created(bare_pod("borrower", "kube-system", serviceAccountName="clusterrole-aggregation-controller")),
         pod_created("borrower", "kube-system"), ("controller identity in a pod",)),
]
