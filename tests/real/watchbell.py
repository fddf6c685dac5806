"""The binary under test: started, stopped, killed and asked as a user would."""

import json
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path

from processes import Failure, Server, free_ports, wait_until

CLUSTER = "real"
CLIENT = "real-apiserver"  # the name in the certificate that the API server sends with
PAGE = 1000
SEARCH_DEADLINE_S = 30
MAX_PAGES = 500
MAIL_FROM, MAIL_TO = "watchbell@example.org", "oncall@example.org"

CONFIGURATION = """\
tls:
  cert_file: {cert}
  key_file: {key}
  client_ca_file: {ca}
  client_clusters: {{{client}: {cluster}}}
  reload_interval: 1s
"""

NOTIFICATIONS = """\
alerting:
  external_url: https://watchbell.example.org
  receivers:
    - name: oncall-mail
      group_wait: 1s
      email:
        smtp: 127.0.0.1:{smtp_port}
        from: {mail_from}
        to: [{mail_to}]
        username: {smtp_user}
        password_file: {password_file}
        ca_file: {ca}
    - name: collector
      group_wait: 1s
      webhook:
        url: http://127.0.0.1:{hook_port}/alerts
  route:
    routes:
      - receiver: oncall-mail
        min_level: medium
        continue: true
      - receiver: collector
        min_level: medium
"""


def notifications(mail, hook):
    """The part of the configuration that sends alerts to both."""
    return NOTIFICATIONS.format(smtp_port=mail.port, smtp_user=mail.user, password_file=mail.password_file, ca=mail.authority.cert,
                                mail_from=MAIL_FROM, mail_to=MAIL_TO, hook_port=hook.port)


COLLECTOR = """\
alerting:
  receivers:
    - name: collector
      group_wait: 1s
      webhook:
        url: http://127.0.0.1:{hook_port}/alerts
  route:
    receiver: collector
    min_level: medium
"""


def collector(hook):
    """The part of the configuration that sends alerts to the HTTP receiver alone."""
    return COLLECTOR.format(hook_port=hook.port)


class Watchbell:
    """`settings` are appended to the configuration; `data` is another place for the data directory."""

    def __init__(self, binary, directory, authority, settings="", data=None):
        self.binary, self.directory, self.authority = binary, Path(directory), authority
        self.directory.mkdir(parents=True)
        self.data = data or self.directory / "data"
        (self.port,) = free_ports(1)
        self.url = f"https://127.0.0.1:{self.port}"
        self.context = ssl.create_default_context(cafile=str(authority.cert))
        self.cert, self.key = authority.issue(self.directory.name, "watchbell", server=True)
        self.config = self.directory / "watchbell.yaml"
        self.config.write_text(CONFIGURATION.format(cert=self.cert, key=self.key, ca=authority.cert, client=CLIENT,
                                                    cluster=CLUSTER) + settings)
        self.server = None

    # ---- life ----

    def start(self):
        self.server = Server("watchbell", [self.binary, "serve", "--config", self.config, "--data-dir", self.data,
                                           "--listen", f"127.0.0.1:{self.port}"], self.directory / "watchbell.log")
        wait_until("ready watchbell", lambda: self.request("/readyz")[0] == 200, 30, 0.1, server=self.server)

    def try_configuration(self, name, text):
        """Starts another one with this configuration for a Kubernetes cluster, its paths moved to here."""
        directory = self.directory / name
        directory.mkdir()
        (directory / "smtp-password").write_text("secret\n")
        (port,) = free_ports(1)
        for there, here in {"0.0.0.0:8080": f"127.0.0.1:{port}", "/var/lib/watchbell": directory / "data",
                            "/etc/watchbell/tls/tls.crt": self.cert, "/etc/watchbell/tls/tls.key": self.key,
                            "/etc/watchbell/receivers": directory}.items():
            text = text.replace(there, str(here))
        (directory / "watchbell.yaml").write_text(text)
        server = Server(name, [self.binary, "serve", "--config", directory / "watchbell.yaml"], directory / "watchbell.log")
        wait_until(f"ready {name}", lambda: self.request("/readyz", url=f"https://127.0.0.1:{port}")[0] == 200, 30, 0.1, server=server)
        if server.stop(30) != 0:
            raise Failure(f"{name} did not end well:\n{server.tail()}")

    def try_roles(self, roles):
        """Starts it with these roles, which must be refused, and gives what it says."""
        ran = subprocess.run([str(self.binary), "serve", "--config", str(self.config), "--data-dir", str(self.data), "--listen",
                              f"127.0.0.1:{self.port}", "--roles", roles], capture_output=True, text=True, timeout=40)
        if ran.returncode == 0:
            raise Failure(f"--roles {roles} was not refused")
        return ran.stdout + ran.stderr

    def stop(self):
        code = self.server.stop(30)
        if code != 0:
            raise Failure(f"watchbell ended with {code} after SIGTERM:\n{self.server.tail()}")

    def kill(self):
        self.server.kill()

    def renew(self):
        """Another certificate and key in the same files; waits until it is shown to new connections."""
        self.authority.issue(self.directory.name, "watchbell", server=True)
        renewed = self.cert.read_text()
        wait_until("the renewed certificate",
                   lambda: ssl.get_server_certificate(("127.0.0.1", self.port)).strip() == renewed.strip(), 20, 0.2,
                   server=self.server)

    def log(self):
        return (self.directory / "watchbell.log").read_text(errors="replace")

    def add_cluster(self, path, certificate=None):
        """The webhook kubeconfig for the API server, as the command prints it: with a token, or with a client
        certificate and its key, given by their paths."""
        command = [self.binary, "cluster", "add", CLUSTER, "--server", self.url, "--ca-file", self.authority.cert,
                   "--data-dir", self.data]
        if certificate:
            command += ["--client-cert", certificate[0], "--client-key", certificate[1]]
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30)
        if ran.returncode != 0:
            raise Failure(f"watchbell cluster add failed: {ran.stderr.strip()}")
        path.write_text(ran.stdout)
        path.chmod(0o600)
        return path

    def add_token(self, name, scope):
        """A token with this scope, as the command prints it, once the server that runs takes it."""
        command = [self.binary, "token", "create", name, "--scope", scope, "--data-dir", self.data]
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30)
        if ran.returncode != 0:
            raise Failure(f"watchbell token create failed: {ran.stderr.strip()}")
        token = ran.stdout.strip()
        wait_until("a token that is taken", lambda: self.request("/", token)[0] != 401, 10, 0.1, server=self.server)
        return token

    # ---- questions ----

    def admin_token(self):
        return (self.data / "admin.token").read_text().strip()

    def get(self, path, **params):
        query = urllib.parse.urlencode({name: value for name, value in params.items() if value is not None})
        status, _, body = self.request(path + ("?" + query if query else ""), self.admin_token())
        if status != 200:
            raise Failure(f"GET {path} {params} answered {status}: {body[:500]}")
        return json.loads(body)

    def request(self, path, token=None, body=None, url=None):
        """One request, a POST if there is a body: status, headers, text. Refusals are answers, too."""
        request = urllib.request.Request((url or self.url) + path, data=body)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=20, context=self.context) as response:
                return response.status, response.headers, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode(errors="replace")

    def pages(self, path, member, **params):
        """Every item of a paged answer."""
        items, cursor = [], None
        for _ in range(MAX_PAGES):
            page = self.get(path, limit=PAGE, cursor=cursor, **params)
            items += page[member]
            cursor = page.get("next_cursor")
            if not cursor:
                return items
        raise Failure(f"{path} did not end within {MAX_PAGES} pages")

    def search(self, query):
        return self.pages("/api/v1/search", "hits", q=query)

    def wait_for_events(self, count, cluster=CLUSTER):
        """Until so many events of the cluster are searchable."""
        def indexed():
            return self.get("/api/v1/search", q=f"cluster:{cluster}", limit=1)["total"]["value"] >= count
        wait_until(f"{count} events of {cluster} by search", indexed, SEARCH_DEADLINE_S, 0.5, server=self.server)

    def alerts(self, level=None):
        return self.pages("/api/v1/alerts", "alerts", level=level)

    def alert_events(self, alert_id):
        """Ids of the events that an alert is linked to."""
        found = self.get(f"/api/v1/alerts/{alert_id}")["alert"]
        return {linked["id"] for linked in found["events"]}

    def evaluate(self, events):
        """How many of these requests each shipped rule matches, by `rules eval`, which needs no server. A request may
        have events of several stages."""
        path = self.directory / "events.jsonl"
        path.write_text("".join(json.dumps(event) + "\n" for event in events))
        ran = subprocess.run([self.binary, "rules", "eval", "--strict", "--events", path], capture_output=True, text=True, timeout=60)
        if ran.returncode != 0:
            raise Failure(f"watchbell rules eval failed: {ran.stderr.strip()[:600]}")
        matches = (json.loads(line) for line in ran.stdout.splitlines())
        requests = {(found["rule_id"], _request_of(events[found["event"]])) for found in matches}
        return Counter(rule for rule, _ in requests)


def _request_of(event):
    """The client chooses the audit id: it alone does not tell one request from another."""
    return event["auditID"], event["requestReceivedTimestamp"], event["requestURI"]
