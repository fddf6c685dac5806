"""An OpenTelemetry Collector with the configurations of deploy/senders, and the containers' logs that it reads."""

import json
import os
import time

from background import Background
from broker import PASSWORD, USER, unique
from examples import fill
from processes import Server

NAMESPACE, POD, CONTAINER = "shop", "web-0", "web"
# A runtime cuts lines into parts of this length.
PART_BYTES = 16 << 10
# Metrics of its own would take a port.
QUIET = {"service": {"telemetry": {"metrics": {"level": "none"}}}}


class Collector:
    """One collector with all `configurations`, paths of files."""

    def __init__(self, binary, directory, configurations):
        self.binary, self.directory = binary, directory
        quiet = directory / "quiet.yaml"
        quiet.write_text(json.dumps(QUIET))
        self.arguments = [f"--config=file:{path}" for path in [*configurations, quiet]]
        self.server = None

    def start(self):
        self.server = Server("otelcol", [self.binary, *self.arguments], self.directory / "otelcol.log")

    def stop(self):
        self.server.stop(60)

    def kill(self):
        self.server.kill()


def configuration(name, directory, authority, replacements):
    """One of deploy/senders. Those of one collector share its directory for what waits."""
    (directory / "state").mkdir(exist_ok=True)
    return fill(name, directory, {"/var/lib/otelcol": directory / "state", "/etc/otelcol/ca.crt": authority.cert, **replacements})


def kafka_configuration(name, directory, authority, kafka, replacements):
    """One of those that send to Kafka."""
    own = {"kafka.example.org:9093": kafka.secure, "USER": USER, "PASSWORD": PASSWORD}
    return configuration(name, directory, authority, {**own, **replacements})


class PodLog:
    """The log of a container as a runtime writes it, rotated every so many lines; remembers the lines."""

    def __init__(self, pods, lines_per_file=2_000):
        self.directory = pods / f"{NAMESPACE}_{POD}_{unique('uid')[4:]}" / CONTAINER
        self.directory.mkdir(parents=True)
        self.lines_per_file, self.in_file, self.rotated = lines_per_file, 0, 0
        self.lines = []
        self._open()

    def _open(self):
        self.file = open(self.directory / "0.log", "a", encoding="utf-8")

    def write(self, lines):
        for line in lines:
            parts = [line[at:at + PART_BYTES] for at in range(0, len(line), PART_BYTES)] or [""]
            for part in parts:
                self.file.write(f"{_time()} stdout {'F' if part is parts[-1] else 'P'} {part}\n")
            self.lines.append(line)
        self.file.flush()
        self.in_file += len(lines)
        if self.in_file >= self.lines_per_file:
            self._rotate()

    def _rotate(self):
        """By renaming, as a kubelet does; of older files as many stay as it keeps."""
        self.file.close()
        self.rotated += 1
        os.rename(self.directory / "0.log", self.directory / f"0.log.{self.rotated:06}")
        self._open()
        self.in_file = 0

    def ordinary(self, count):
        self.write([f"{unique('line')} is ordinary" for _ in range(count)])

    def unusual(self):
        """One of each kind that is easily broken on the way."""
        lines = [
            f"{unique('umlauts')} Grüße – 你好 🎉",
            f"{unique('long')} " + "0123456789abcdef" * 6_000,
            f"{unique('quotes')} \"quoted\" back\\slash \t tab </script> %{{x}} $x",
            f"{unique('spaces')}   in    between",
        ]
        self.write(lines)
        return lines

    def break_in(self, address):
        """Somebody guesses passwords."""
        self.write([f"Failed password for invalid user {unique('user')} from {address} port 2222 ssh2" for _ in range(12)])


def _time():
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09}Z"


class Writer(Background):
    """Writes on and on, in a thread."""

    def __init__(self, log):
        super().__init__()
        self.log = log

    def _work(self):
        while not self.stopping.is_set():
            self.log.ordinary(20)
            time.sleep(0.05)
