"""The programs of ./clients, which send what they are told with the libraries that applications use."""

import json
import subprocess
import sys
import time

from background import Background
from broker import unique
from processes import Failure, Server, wait_until
from tools import HERE

CLIENTS = HERE / "clients"
END_S = 40
# What a machine says about authorities and proxies; `requests` prefers it to what it is told itself.
SURROUNDINGS = {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


class Client:
    """One program. What it is told to send it gets as a list of records in a line of its standard input; what it learned to be
    stored it writes to a file, if its library tells."""

    def __init__(self, name, argv, directory, environment):
        self.name, self.argv = name, argv
        self.log_path, self.confirmed_path = directory / f"{name}.log", directory / f"{name}.confirmed"
        self.environment = {**SURROUNDINGS, **environment, "CONFIRMED": str(self.confirmed_path)}
        self.server = None
        # what was sent, and when, by its message
        self.sent = {}

    def start(self):
        self.server = Server(self.name, self.argv, self.log_path, env=self.environment, stdin=subprocess.PIPE)

    def send(self, records):
        for record in records:
            self.sent[record["message"]] = time.monotonic()
        try:
            self.server.process.stdin.write(json.dumps(records).encode() + b"\n")
            self.server.process.stdin.flush()
        except BrokenPipeError:
            raise Failure(f"{self.name} has ended:\n{self.server.tail()}") from None

    def ordinary(self, count):
        """Sends ordinary messages, and gives them."""
        messages = [f"{unique(self.name)} is ordinary" for _ in range(count)]
        self.send([self.record(message) for message in messages])
        return messages

    def record(self, message):
        return {"message": message}

    def confirmed(self):
        """What it wrote, line by line."""
        text = self.confirmed_path.read_text() if self.confirmed_path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for_confirmation(self):
        """Until it has learned that everything is stored."""
        def missing():
            return set(self.sent) - {message for line in self.confirmed() if isinstance(line, list) for message in line}
        wait_until(f"confirmation for {self.name}", lambda: not missing(), 40, server=self.server)

    def end(self):
        """Nothing more comes: it sends what it has, and ends by itself."""
        self.server.process.stdin.close()
        code = self.server.process.wait(END_S)
        if code != 0:
            raise Failure(f"{self.name} ended with {code}:\n{self.server.tail()}")


class BulkClient(Client):
    """The Elasticsearch client, with one of its helpers. With `ids` each document has an `_id`."""

    def __init__(self, name, directory, packages, arguments, helper, ids):
        super().__init__(name, [sys.executable, "-B", CLIENTS / "bulk.py"], directory, {
            "PYTHONPATH": str(packages), "CLIENT": json.dumps(arguments), "HELPER": helper})
        self.ids = ids

    def record(self, message):
        document = {"_index": "logs", "message": message}
        return {**document, "_id": unique("id")} if self.ids else document


def otlp_client(name, directory, packages, url, authority, token, protocol):
    """OpenTelemetry's SDK, as the README configures it."""
    return Client(name, [sys.executable, "-B", CLIENTS / "otlp.py"], directory, {
        "PYTHONPATH": str(packages), "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer%20{token}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.cert),
        "OTEL_SERVICE_NAME": "orders", "OTEL_RESOURCE_ATTRIBUTES": "k8s.namespace.name=shop,k8s.pod.name=orders-0"})


def python_forward_client(name, directory, packages, port):
    return Client(name, [sys.executable, "-B", CLIENTS / "forward.py"], directory, {"PYTHONPATH": str(packages), "PORT": str(port)})


def go_forward_client(name, directory, binary, port):
    return Client(name, [binary], directory, {"PORT": str(port)})


def syslog_client(name, directory, port):
    return Client(name, [sys.executable, "-B", CLIENTS / "syslog_handler.py"], directory, {"PORT": str(port)})


def log_with(logger, *words):
    """One message by util-linux's logger."""
    ran = subprocess.run([logger, "--server", "127.0.0.1", *words], capture_output=True, text=True, timeout=20)
    if ran.returncode != 0 or ran.stderr:
        raise Failure(f"logger {' '.join(words)[:200]} ended with {ran.returncode}: {ran.stderr.strip()}")


class Writer(Background):
    """Lets one client send on and on, in a thread."""

    def __init__(self, client):
        super().__init__()
        self.client = client

    def _work(self):
        while not self.stopping.is_set():
            self.client.ordinary(10)
            time.sleep(0.1)
