"""The binary under test: started, stopped, killed and asked as a user would."""

import json
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from processes import Failure, Server, free_ports, wait_until

CLUSTER = "real"
PAGE = 1000
MAX_PAGES = 500
MAIL_FROM, MAIL_TO = "watchbell@example.org", "oncall@example.org"

CONFIGURATION = """\
tls:
  cert_file: {cert}
  key_file: {key}
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
        url: {hook_url}
  route:
    routes:
      - receiver: oncall-mail
        min_level: medium
        continue: true
      - receiver: collector
        min_level: medium
"""


class Watchbell:
    def __init__(self, binary, directory, authority, mail, hook_url):
        self.binary, self.directory, self.authority = binary, Path(directory), authority
        self.directory.mkdir(parents=True)
        self.data = self.directory / "data"
        (self.port,) = free_ports(1)
        self.url = f"https://127.0.0.1:{self.port}"
        self.context = ssl.create_default_context(cafile=str(authority.cert))
        cert, key = authority.issue("watchbell", "watchbell", server=True)
        password_file = self.directory / "smtp-password"
        password_file.write_text(mail.password + "\n")
        self.config = self.directory / "watchbell.yaml"
        self.config.write_text(CONFIGURATION.format(
            cert=cert, key=key, smtp_port=mail.port, smtp_user=mail.user, password_file=password_file, ca=authority.cert,
            mail_from=MAIL_FROM, mail_to=MAIL_TO, hook_url=hook_url))
        self.server = None

    # ---- life ----

    def start(self):
        self.server = Server("watchbell", [self.binary, "serve", "--config", self.config, "--data-dir", self.data,
                                           "--listen", f"127.0.0.1:{self.port}"], self.directory / "watchbell.log")
        wait_until("ready watchbell", lambda: self._request("/readyz", token=None)[0] == 200, 30, 0.1, server=self.server)

    def stop(self):
        code = self.server.stop(30)
        if code != 0:
            raise Failure(f"watchbell ended with {code} after SIGTERM:\n{self.server.tail()}")

    def kill(self):
        self.server.kill()

    def log(self):
        return (self.directory / "watchbell.log").read_text(errors="replace")

    def add_cluster(self, path):
        """The webhook kubeconfig for the API server, as the command prints it."""
        command = [self.binary, "cluster", "add", CLUSTER, "--server", self.url, "--ca-file", self.authority.cert,
                   "--data-dir", self.data]
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30)
        if ran.returncode != 0:
            raise Failure(f"watchbell cluster add failed: {ran.stderr.strip()}")
        path.write_text(ran.stdout)
        path.chmod(0o600)
        return path

    # ---- questions ----

    def get(self, path, **params):
        query = urllib.parse.urlencode({name: value for name, value in params.items() if value is not None})
        status, body = self._request(path + ("?" + query if query else ""), (self.data / "admin.token").read_text().strip())
        if status != 200:
            raise Failure(f"GET {path} {params} answered {status}: {body[:500]}")
        return json.loads(body)

    def _request(self, path, token):
        request = urllib.request.Request(self.url + path)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=20, context=self.context) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")

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

    def alerts(self, level=None):
        return self.pages("/api/v1/alerts", "alerts", level=level)

    def alert_events(self, alert_id):
        """Ids of the events that an alert is linked to."""
        found = self.get(f"/api/v1/alerts/{alert_id}")["alert"]
        return {linked["id"] for linked in found["events"]}

    def rules(self):
        return self.get("/api/v1/rules")
