"""Debian's rsyslogd with the configurations of deploy/senders, and what is sent through it."""

import random
import socket
import time

from background import Background
from broker import PASSWORD, USER, unique
from examples import fill
from processes import Server, free_ports, wait_until

# What all configurations stand in: where messages come from, and how long they may be.
MAIN = """\
global(workDirectory="{spool}" maxMessageSize="2m" parser.escapeControlCharactersOnReceive="off")
{input}{includes}"""
INPUT = """\
module(load="imptcp")
input(type="imptcp" address="127.0.0.1" port="{port}")
"""


class Rsyslog:
    """One rsyslogd that sends by all `configurations`, paths of files. Without `listens` it has only their inputs."""

    def __init__(self, binary, directory, configurations, listens=True):
        self.binary, self.directory = binary, directory
        self.spool = directory / "spool"
        self.spool.mkdir(parents=True)
        (self.port,) = free_ports(1)
        self.server = None
        includes = "".join(f'include(file="{path}")\n' for path in configurations)
        self.config = directory / "rsyslog.conf"
        self.config.write_text(MAIN.format(spool=self.spool, input=INPUT.format(port=self.port) if listens else "", includes=includes))

    def start(self):
        self.server = Server("rsyslogd", [self.binary, "-n", "-f", self.config, "-i", self.directory / "rsyslogd.pid"],
                             self.directory / "rsyslogd.log")

    def stop(self):
        self.server.stop(60)  # it waits for Kafka, too

    def send(self, messages):
        """Hands messages over, each with its length before it."""
        frames = (message.encode() for message in messages)
        data = b"".join(b"%d %s" % (len(frame), frame) for frame in frames)

        def connect():
            return socket.create_connection(("127.0.0.1", self.port), timeout=20)
        with wait_until("rsyslogd that listens", connect, 20, server=self.server) as connection:
            connection.sendall(data)


def kafka_configuration(name, directory, kafka, authority, topic, spool, more=None):
    """One of those that send to Kafka."""
    own = {"kafka.example.org:9093": kafka.secure, "/etc/rsyslog.tls/ca.crt": authority.cert, "USER": USER, "PASSWORD": PASSWORD,
           "/var/spool/rsyslog": spool}
    return fill(name, directory, {**own, **topic, **(more or {})})


class Message:
    """A message, and what has to be found of it."""

    def __init__(self, text, app="app", severity=6, data="-", fields=None):
        self.text, self.app, self.severity, self.data, self.fields = text, app, severity, data, fields or {}
        self.sent_at = None

    def framed(self):
        now = time.time()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06}Z"
        return f"<{16 * 8 + self.severity}>1 {at} node-7 {self.app} 4711 ID47 {self.data} {self.text}"


class Messages:
    """Makes messages, and remembers them."""

    def __init__(self):
        self.made = []

    def _make(self, text, **more):
        message = Message(text, **more)
        self.made.append(message)
        return message

    def ordinary(self, count):
        return [self._make(f"{unique('message')} is ordinary") for _ in range(count)]

    def unusual(self):
        """One of each kind that is easily broken on the way."""
        data = r'[origin@32473 software="a \"b\" \\ \]" ip="203.0.113.9"][meta@32473 n="1"]'
        return [
            self._make(f"{unique('umlauts')} Grüße – 你好 🎉", fields={"log.level": {"info"}}),
            self._make(f"{unique('trace')} java.lang.Error: x\n\tat a.B.c(D.java:1)\n\tat e.F.g(H.java:2)", severity=3,
                       fields={"log.level": {"error", "err"}}),
            self._make(f"{unique('long')} " + "0123456789abcdef" * 6_000),
            self._make(f"{unique('data')} with data", data=data, fields={"data": ["203.0.113.9", 'a "b" \\ ]']}),
            self._make(f"{unique('quotes')} \"quoted\" back\\slash \t tab </script> %msg% $!x [not=\"data\"]"),
            self._make(unique("one-word")),
            self._make(f"{unique('spaces')}   in    between"),
        ]

    def break_in(self, address):
        """Somebody guesses passwords."""
        return [self._make(f"Failed password for invalid user {unique('user')} from {address} port 2222 ssh2", app="sshd",
                           fields={"event.dataset": {"sshd"}, "source.ip": {address}}) for _ in range(12)]


class Sender(Background):
    """Hands messages to rsyslogd on and on, in a thread."""

    def __init__(self, rsyslog, messages):
        super().__init__()
        self.rsyslog, self.messages = rsyslog, messages

    def _work(self):
        while not self.stopping.is_set():
            hand_over(self.rsyslog, self.messages.ordinary(random.randrange(1, 30)))
            time.sleep(0.05)


def hand_over(rsyslog, messages):
    rsyslog.send(message.framed() for message in messages)
    for message in messages:
        message.sent_at = time.monotonic()
