"""A real Kubernetes control plane on loopback, with one node that runs nothing."""

import json
import os
import secrets
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from pki import Authority
from processes import Failure, Server, free_ports, wait_until

NODE = "worker-1"

# People, by the token file. Their rights come from RBAC, except for the operator's group.
PEOPLE = {
    "olivia": ["system:masters"],
    "alice": ["developers"],
    "bob": ["auditors"],
    "deputy": ["deputies"],
    "mallory": ["contractors"],
}


def webhook_flags(kubeconfig):
    """Events are sent to what the kubeconfig names."""
    return (f"--audit-webhook-config-file={kubeconfig}", "--audit-webhook-mode=batch", "--audit-webhook-batch-max-wait=1s",
            "--audit-webhook-initial-backoff=2s")


class Answer:
    def __init__(self, code, body):
        self.code, self.body = code, body

    def __repr__(self):
        return f"{self.code}: {self.body.strip()[:400]}"


class Cluster:
    def __init__(self, kube, directory, audit_policy, audit_flags):
        """`audit_flags` say what happens to audit events beside being written to the log."""
        self.kube, self.directory = kube, Path(directory)
        self.audit_policy, self.audit_flags = audit_policy, audit_flags
        self.directory.mkdir(parents=True, exist_ok=True)
        self.audit_log = self.directory / "audit.jsonl"
        self.pod_tokens = self.directory / "pod-tokens"
        self.pod_tokens.mkdir()
        self.ca = Authority(self.directory / "pki")
        self.tokens = {name: secrets.token_hex(16) for name in PEOPLE}
        self.etcd_port, self.etcd_peer_port, self.port, self.kubelet_port, self.manager_port, self.scheduler_port = free_ports(6)
        self.url = f"https://127.0.0.1:{self.port}"
        self.servers = []
        self.apiserver = self.node_kubeconfig = self.scheduler_kubeconfig = self.signing_key = None

    # ---- life ----

    def start(self):
        self._start_etcd()
        self._start_apiserver()
        # As in any cluster, others come while the API server is still making its own roles, and are refused a few
        # times. The controller manager would end at the first refusal.
        self._start_scheduler()
        self._start_node()
        wait_until("ready API server", lambda: self._probe("/readyz").code == 200, 90, 1, server=self.apiserver)
        self._start_controller_manager()

    def quiesce(self):
        """Ends all callers but the API server itself, so that its audit log comes to rest."""
        for server in self.servers:
            if server.name not in ("etcd", "kube-apiserver"):
                server.kill()

    def stop(self):
        """Ends everything; the API server first hands over what its audit buffers hold."""
        self.quiesce()
        if self.apiserver:
            self.apiserver.stop(60)
        for server in self.servers:
            server.kill()

    def _serve(self, name, *flags):
        server = Server(name, [self.kube, name, *flags], self.directory / f"{name}.log")
        self.servers.append(server)
        return server

    def _start_etcd(self):
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_peer_port}"
        etcd = self._serve(
            "etcd", "--name=default", f"--data-dir={self.directory / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        )
        wait_until("etcd", lambda: urllib.request.urlopen(client + "/health", timeout=2).status == 200, 30, server=etcd)

    def _start_apiserver(self):
        serving_cert, serving_key = self.ca.issue("apiserver", "kube-apiserver", server=True)
        kubelet_cert, kubelet_key = self.ca.issue("apiserver-kubelet-client", "kube-apiserver-kubelet-client",
                                                  "kubeadm:cluster-admins")
        self.signing_key, signing_public = self.ca.signing_pair("service-accounts")
        token_file = self.directory / "tokens.csv"
        token_file.write_text("".join(
            f'{self.tokens[name]},{name},uid-{name},"{",".join(groups)}"\n' for name, groups in PEOPLE.items()))
        self.apiserver = self._serve(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self.port}",
            f"--tls-cert-file={serving_cert}", f"--tls-private-key-file={serving_key}",
            f"--client-ca-file={self.ca.cert}", f"--token-auth-file={token_file}",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={signing_public}", f"--service-account-signing-key-file={self.signing_key}",
            "--service-cluster-ip-range=10.96.0.0/24", "--endpoint-reconciler-type=none",
            f"--kubelet-certificate-authority={self.ca.cert}", "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={kubelet_cert}", f"--kubelet-client-key={kubelet_key}",
            f"--audit-policy-file={self.audit_policy}", f"--audit-log-path={self.audit_log}", "--audit-log-mode=blocking",
            *self.audit_flags,
            # A stop waits for nothing but the audit buffers.
            "--shutdown-delay-duration=0s", "--shutdown-send-retry-after=false",
        )
        wait_until("listening API server", lambda: self._probe("/livez").code, 60, server=self.apiserver)

    def _probe(self, path):
        return self.http(None, "GET", path, headers={"User-Agent": "kube-probe/1.35"})

    def _start_controller_manager(self):
        manager = self.certificate_kubeconfig("kube-controller-manager", "system:kube-controller-manager")
        self._serve(
            "kube-controller-manager", f"--kubeconfig={manager}", f"--authentication-kubeconfig={manager}",
            f"--authorization-kubeconfig={manager}", "--bind-address=127.0.0.1", f"--secure-port={self.manager_port}",
            f"--cert-dir={self.directory / 'manager-serving'}", "--use-service-account-credentials=true",
            f"--root-ca-file={self.ca.cert}", f"--service-account-private-key-file={self.signing_key}",
            f"--cluster-signing-cert-file={self.ca.cert}", f"--cluster-signing-key-file={self.ca.key}",
            "--horizontal-pod-autoscaler-sync-period=5s", "--concurrent-deployment-syncs=2",
        )

    def _start_scheduler(self):
        scheduler = self.scheduler_kubeconfig = self.certificate_kubeconfig("kube-scheduler", "system:kube-scheduler")
        self._serve(
            "kube-scheduler", f"--kubeconfig={scheduler}", f"--authentication-kubeconfig={scheduler}",
            f"--authorization-kubeconfig={scheduler}", "--bind-address=127.0.0.1", f"--secure-port={self.scheduler_port}",
            f"--cert-dir={self.directory / 'scheduler-serving'}",
        )

    def _start_node(self):
        cert, key = self.ca.issue("kubelet-serving", f"system:node:{NODE}", "system:nodes", server=True)
        node = self.certificate_kubeconfig("kubelet", f"system:node:{NODE}", "system:nodes")
        self._serve(
            "kubelet", f"--kubeconfig={node}", f"--node-name={NODE}", f"--port={self.kubelet_port}",
            f"--tls-cert-file={cert}", f"--tls-private-key-file={key}", f"--client-ca-file={self.ca.cert}",
            f"--pod-token-dir={self.pod_tokens}",
        )
        self.node_kubeconfig = node

    def check_alive(self):
        for server in self.servers:
            if not server.alive():
                raise Failure(f"{server.name} ended:\n{server.tail()}")

    # ---- callers ----

    def certificate_kubeconfig(self, name, common_name, organization=None):
        cert, key = self.ca.issue(name, common_name, organization)
        return self._kubeconfig(name, {"client-certificate": str(cert), "client-key": str(key)})

    def token_kubeconfig(self, name, token):
        return self._kubeconfig(name, {"token": token})

    def _kubeconfig(self, name, user):
        path = self.directory / f"{name}.kubeconfig"
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "clusters": [{"name": "real", "cluster": {"server": self.url, "certificate-authority": str(self.ca.cert)}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": name}}],
        }))
        path.chmod(0o600)
        return path

    def kubectl(self, who, *words, stdin=None, timeout_s=60, check=True, env=None):
        """Runs kubectl as one of PEOPLE or with a kubeconfig; objects given as stdin are sent as JSON."""
        config = who if isinstance(who, Path) else self.token_kubeconfig(who, self.tokens[who])
        if stdin is not None and not isinstance(stdin, str):
            items = stdin if isinstance(stdin, list) else [stdin]
            stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        command = [str(self.kube), "kubectl", f"--kubeconfig={config}", f"--cache-dir={self.directory / 'kubectl-cache'}",
                   *map(str, words)]
        ran = subprocess.run(command, input=stdin or "", capture_output=True, text=True, timeout=timeout_s,
                             env={**os.environ, **(env or {})})
        if check and ran.returncode != 0:
            raise Failure(f"kubectl {' '.join(map(str, words))} failed: {ran.stderr.strip()[:600]}")
        return Answer(ran.returncode, ran.stdout + ran.stderr)

    def http(self, token, method, path, body=None, headers=None, timeout_s=10, certificate=None):
        """One bare request, with a token, a client certificate or nothing; refusals are answers, too."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("User-Agent", "python-requests/2.32.3")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            request.data = body if isinstance(body, bytes) else json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        context = ssl.create_default_context(cafile=str(self.ca.cert))
        if certificate:
            context.load_cert_chain(*map(str, certificate))
        try:
            with urllib.request.urlopen(request, timeout=timeout_s, context=context) as response:
                return Answer(response.status, response.read(1 << 22).decode(errors="replace"))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(1 << 20).decode(errors="replace"))

    def audit_events(self, offset=0):
        """The API server's own record of what it sent, from a byte offset: events and the next offset."""
        with open(self.audit_log, "rb") as log:
            log.seek(offset)
            data = log.read()
        data = data[: data.rfind(b"\n") + 1]
        return [json.loads(line) for line in data.splitlines()], offset + len(data)
