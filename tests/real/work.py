"""Ordinary work on a healthy cluster, done with kubectl by an operator, a developer, a node and a service
account. None of it deserves an alert of level medium or above."""

import base64
import json
import time

from objects import (account, binding, container, group, job_spec, namespace, obj, pod_spec,
                     role, rule, service, workload)
from processes import Failure, wait_until

DATABASE_URL = "postgres://web:ordinary@db/shop"


def bootstrap_done(cluster):
    """Waits until the controllers have made what every cluster has."""
    def ready():
        accounts = cluster.kubectl("olivia", "get", "serviceaccount", "default", "-n", "default", "-o", "name", check=False)
        node = cluster.kubectl("olivia", "get", "node", "worker-1", "-o", "name", check=False)
        return accounts.code == 0 and node.code == 0
    wait_until("default service account and node", ready, 60, 1)


def operator_prepares(cluster):
    """The namespace of a team with its limits and rights, and the cluster's DNS."""
    apply = lambda *objects: cluster.kubectl("olivia", "apply", "-f", "-", stdin=list(objects))
    apply(namespace("shop", enforce="baseline", warn="restricted", audit="restricted"))
    apply(
        obj("ResourceQuota", "team", "shop", spec={"hard": {"pods": "60", "requests.cpu": "8"}}),
        obj("LimitRange", "defaults", "shop", spec={"limits": [{"type": "Container", "default": {"cpu": "200m", "memory": "64Mi"},
                                                                "defaultRequest": {"cpu": "50m", "memory": "32Mi"}}]}),
        obj("NetworkPolicy", "default-deny", "shop", "networking.k8s.io/v1", spec={"podSelector": {}, "policyTypes": ["Ingress"]}),
        obj("ServiceAccount", "stock", "shop"),
        role("Role", "stock", [rule([""], ["configmaps"], ["get", "list", "watch"]),
                               rule(["coordination.k8s.io"], ["leases"], ["get", "create", "update"])], "shop"),
        binding("RoleBinding", "stock", "Role", "stock", [account("stock", "shop")], "shop"),
        binding("RoleBinding", "developers", "ClusterRole", "edit", [group("developers")], "shop"),
        binding("RoleBinding", "auditors", "ClusterRole", "view", [group("auditors")], "shop"),
    )
    apply(*dns())
    apply(binding("ClusterRoleBinding", "node-certificate-rotation", "ClusterRole",
                  "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", [group("system:nodes")]))
    wait_for_rollout(cluster, "olivia", "deployment/coredns", "kube-system")


def dns():
    reads = [rule([""], ["endpoints", "services", "pods", "namespaces"], ["list", "watch"]),
             rule(["discovery.k8s.io"], ["endpointslices"], ["list", "watch"])]
    spec = pod_spec(container("coredns", "registry.example/coredns:1.12.1", ports=[{"containerPort": 53, "protocol": "UDP"}],
                              volumeMounts=[{"name": "config", "mountPath": "/etc/coredns"}]),
                    serviceAccountName="coredns", priorityClassName="system-cluster-critical",
                    volumes=[{"name": "config", "configMap": {"name": "coredns"}}])
    return [
        obj("ServiceAccount", "coredns", "kube-system"),
        role("ClusterRole", "system:coredns", reads),
        binding("ClusterRoleBinding", "system:coredns", "ClusterRole", "system:coredns", [account("coredns", "kube-system")]),
        obj("ConfigMap", "coredns", "kube-system", data={"Corefile": ".:53 {\n  kubernetes cluster.local\n}\n"}),
        workload("Deployment", "coredns", "kube-system", spec, replicas=2),
        service("coredns", "kube-system", ports=[{"port": 53, "protocol": "UDP"}]),
    ]


def shop(version="1.4.2"):
    web = container("web", f"registry.example/shop/web:{version}", ports=[{"containerPort": 8080}],
                    envFrom=[{"secretRef": {"name": "web"}}],
                    readinessProbe={"httpGet": {"path": "/healthz", "port": 8080}},
                    volumeMounts=[{"name": "config", "mountPath": "/etc/web"}, {"name": "tmp", "mountPath": "/tmp"}])
    spec = pod_spec(web, volumes=[{"name": "config", "configMap": {"name": "web"}}, {"name": "tmp", "emptyDir": {}}])
    stock = pod_spec(container("stock"), serviceAccountName="stock")
    return [
        obj("ConfigMap", "web", "shop", data={"web.yaml": "currency: EUR\n"}),
        obj("Secret", "web", "shop", stringData={"DATABASE_URL": DATABASE_URL}),
        workload("Deployment", "web", "shop", spec, replicas=3),
        workload("Deployment", "stock", "shop", stock, replicas=1),
        workload("StatefulSet", "cache", "shop", pod_spec(container("cache")), replicas=2, serviceName="cache"),
        service("web", "shop", ports=[{"port": 80, "targetPort": 8080}]),
        service("cache", "shop", clusterIP="None"),
        obj("HorizontalPodAutoscaler", "web", "shop", "autoscaling/v2", spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 2, "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]}),
        obj("PodDisruptionBudget", "web", "shop", "policy/v1", spec={"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}),
        obj("Ingress", "web", "shop", "networking.k8s.io/v1", spec={
            "tls": [{"hosts": ["shop.example.com"], "secretName": "web-tls"}],
            "rules": [{"host": "shop.example.com", "http": {"paths": [{
                "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}),
        obj("NetworkPolicy", "web", "shop", "networking.k8s.io/v1", spec={
            "podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": 8080}]}]}),
    ]


def wait_for_rollout(cluster, who, what, where):
    cluster.kubectl(who, "rollout", "status", what, "-n", where, "--timeout=60s", timeout_s=70)


def developer_deploys(cluster):
    cluster.kubectl("alice", "apply", "-f", "-", stdin=shop())
    for name in ("deployment/web", "deployment/stock", "statefulset/cache"):
        wait_for_rollout(cluster, "alice", name, "shop")
    cluster.kubectl("alice", "diff", "-f", "-", stdin=shop(), check=False)
    cluster.kubectl("alice", "apply", "-f", "-", "--server-side", "--field-manager=pipeline", "--force-conflicts", stdin=shop())


def developer_rolls(cluster):
    cluster.kubectl("alice", "set", "image", "deployment/web", "web=registry.example/shop/web:1.4.3", "-n", "shop")
    wait_for_rollout(cluster, "alice", "deployment/web", "shop")
    cluster.kubectl("alice", "rollout", "restart", "deployment/stock", "-n", "shop")
    wait_for_rollout(cluster, "alice", "deployment/stock", "shop")
    cluster.kubectl("alice", "scale", "deployment/web", "--replicas=4", "-n", "shop")
    cluster.kubectl("alice", "rollout", "undo", "deployment/web", "-n", "shop")
    wait_for_rollout(cluster, "alice", "deployment/web", "shop")
    cluster.kubectl("alice", "annotate", "deployment/web", "example.com/ticket=SHOP-7", "-n", "shop")


def batch_runs(cluster):
    command = ["/bin/report", "--yesterday"]
    cluster.kubectl("alice", "apply", "-f", "-", stdin=[
        obj("Job", "report", "shop", "batch/v1", spec=job_spec(command)),
        obj("CronJob", "report-nightly", "shop", "batch/v1",
            spec={"schedule": "*/1 * * * *", "jobTemplate": {"spec": job_spec(command)}}),
    ])
    cluster.kubectl("alice", "wait", "--for=condition=complete", "job/report", "-n", "shop", "--timeout=60s", timeout_s=70)
    cluster.kubectl("alice", "delete", "job", "report", "-n", "shop")


def service_account_works(cluster):
    """An application that follows its configuration and holds a lease, with the token its pod was given."""
    token, agent = stock_token(cluster), {"User-Agent": "stock/1.0 (linux/amd64) client-go"}
    path = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/stock"
    config = cluster.token_kubeconfig("stock", token)
    cluster.kubectl(config, "get", "configmaps", "-n", "shop")
    lease = obj("Lease", "stock", "shop", "coordination.k8s.io/v1", spec={"holderIdentity": "stock-0", "leaseDurationSeconds": 15})
    cluster.kubectl(config, "create", "-f", "-", stdin=lease)
    for renewal in range(3):
        found = cluster.http(token, "GET", path, headers=agent)
        body = json.loads(found.body)
        body["spec"]["renewTime"] = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        answer = cluster.http(token, "PUT", path, body, headers=agent)
        if answer.code != 200:
            raise Failure(f"lease renewal {renewal}: {answer}")


def stock_token(cluster):
    return wait_until("token of a stock pod", lambda: sorted(cluster.pod_tokens.glob("shop.stock-*")), 30)[0].read_text()


def node_renews_certificate(cluster):
    """A node asks for a new client certificate, and the controller approves and signs it."""
    _, request = cluster.ca.request("node-renewal", "system:node:worker-1", "system:nodes")
    wanted = obj("CertificateSigningRequest", "node-renewal", None, "certificates.k8s.io/v1", spec={
        "request": base64.b64encode(request.read_bytes()).decode(), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ["digital signature", "client auth"]})
    cluster.kubectl(cluster.node_kubeconfig, "create", "-f", "-", stdin=wanted)

    def issued():
        found = cluster.kubectl("olivia", "get", "csr", "node-renewal", "-o", "jsonpath={.status.certificate}")
        return len(found.body) > 100
    wait_until("signed node certificate", issued, 30, 1)


def people_look_around(cluster):
    for words in (["get", "pods", "-o", "wide"], ["get", "deployments,replicasets,services"], ["get", "events"],
                  ["describe", "deployment", "web"], ["logs", "deployment/stock"], ["get", "hpa"], ["get", "jobs,cronjobs"]):
        cluster.kubectl("alice", *words, "-n", "shop")
    cluster.kubectl("alice", "auth", "can-i", "create", "deployments", "-n", "shop")
    for words in (["get", "pods"], ["get", "networkpolicies"], ["describe", "service", "web"]):
        cluster.kubectl("bob", *words, "-n", "shop")
    cluster.kubectl("olivia", "get", "nodes")
    cluster.kubectl("olivia", "describe", "node", "worker-1")
    cluster.kubectl("olivia", "get", "pods", "-A")
    for path in ("/livez", "/readyz", "/version"):
        cluster.http(None, "GET", path, headers={"User-Agent": "kube-probe/1.35"})


def operator_maintains(cluster):
    """A node agent is rolled out, a node is cordoned and back, an old namespace goes."""
    cluster.kubectl("olivia", "apply", "-f", "-", stdin=[
        namespace("monitoring", enforce="restricted"),
        workload("DaemonSet", "agent", "monitoring", pod_spec(container("agent", "registry.example/agent:2.0"))),
    ])
    wait_for_rollout(cluster, "olivia", "daemonset/agent", "monitoring")
    cluster.kubectl("olivia", "cordon", "worker-1")
    cluster.kubectl("olivia", "uncordon", "worker-1")
    cluster.kubectl("olivia", "label", "node", "worker-1", "example.com/rack=r1")
    cluster.kubectl("alice", "delete", "pod", "-l", "app=stock", "-n", "shop", "--wait=false")
    wait_for_rollout(cluster, "alice", "deployment/stock", "shop")


PARTS = (operator_prepares, developer_deploys, developer_rolls, batch_runs, service_account_works, node_renews_certificate,
         people_look_around, operator_maintains)
