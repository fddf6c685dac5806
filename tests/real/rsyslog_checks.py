"""A real rsyslogd sends by syslog over TCP and TLS, by Elasticsearch's _bulk and through Kafka, while watchbell and the broker
are killed and restarted."""

import random
import time
from collections import Counter, namedtuple

import kafka_topics
from broker import PASSWORD, USER
from examples import fill
from processes import Failure, free_ports, wait_until
from rsyslog import Messages, Rsyslog, Sender, hand_over, kafka_configuration
from watchbell import CLIENT, CLUSTER

# By route, the cluster its messages belong to. A client certificate says so for TLS.
CLUSTERS = {"tcp": "by-tcp", "tls": CLUSTER, "bulk": "by-bulk", "kafka": "by-kafka"}
TOPIC = "logs-prod"
# So long before and after an interruption messages are on their way.
ON_ITS_WAY_S = 3
STOPPED = "watchbell, stopped"

SETTINGS = """\
syslog:
  listen_tcp: 127.0.0.1:{tcp}
  listen_tls: 127.0.0.1:{tls}
  cluster: {cluster}
kafka:
  brokers: {brokers}
  tls: {{ca_file: {ca}}}
  sasl: {{mechanism: SCRAM-SHA-512, username: {user}, password: {password}}}
  topics: [{{topic: {topic}, cluster: {kafka_cluster}, format: logs}}]
"""


# Who was away: when that began, when it had stopped or was dead, and when it was there again.
Interruption = namedtuple("Interruption", "who began gone ended")


class Ports:
    def __init__(self):
        self.tcp, self.tls = free_ports(2)


def settings(kafka, authority, ports):
    return SETTINGS.format(tcp=ports.tcp, tls=ports.tls, cluster=CLUSTERS["tcp"], brokers=kafka.secure, ca=authority.cert, user=USER,
                           password=PASSWORD, topic=TOPIC, kafka_cluster=CLUSTERS["kafka"])


def rsyslog(binary, directory, watchbell, kafka, ports, token):
    """As deploy/senders configures it."""
    directory.mkdir()
    authority, spool = watchbell.authority, directory / "spool"
    certificate, key = authority.issue("rsyslog-client", CLIENT)
    configurations = [
        fill("rsyslog-tcp.conf", directory, {"watchbell.example.org": "127.0.0.1", "6601": ports.tcp}),
        fill("rsyslog-tls.conf", directory, {
            'target="watchbell.example.org"': 'target="127.0.0.1"', 'Peers="watchbell.example.org"': 'Peers="localhost"',
            "6514": ports.tls, "/etc/rsyslog.tls/ca.crt": authority.cert, "/etc/rsyslog.tls/client.crt": certificate,
            "/etc/rsyslog.tls/client.key": key}),
        fill("rsyslog-bulk.conf", directory, {
            "https://watchbell.example.org:8080": watchbell.url, "/etc/rsyslog.tls/ca.crt": authority.cert, "TOKEN": token,
            "/var/log/watchbell-bulk-errors": directory / "bulk-errors"}),
        kafka_configuration("rsyslog-kafka.conf", directory, kafka, authority, {"logs-prod": TOPIC}, spool),
    ]
    return Rsyslog(binary, directory, configurations)


class Run:
    """What was sent, and when something was interrupted."""

    def __init__(self, kafka, watchbell, sender):
        self.kafka, self.watchbell, self.rsyslog = kafka, watchbell, sender
        self.messages, self.interruptions = Messages(), []

    def hits(self, route):
        return [hit["event"] for hit in self.watchbell.search(f"cluster:{CLUSTERS[route]}")]

    def wait(self, routes=CLUSTERS, messages=None):
        """Until messages have come by all routes."""
        wanted = {message.text for message in messages or self.messages.made}
        for route in routes:
            def come(route=route):
                return wanted <= {event["message"] for event in self.hits(route)}
            try:
                wait_until("messages", come, 60, 1, server=self.watchbell.server)
            except Failure:
                found = {event["message"] for event in self.hits(route)}
                missing = [text[:80] for text in wanted - found]
                raise Failure(f"{len(missing)} of {len(wanted)} missing by {route}: {missing[:3]}") from None


def checks(kafka, watchbell, sender):
    """Names and actions, in order."""
    run = Run(kafka, watchbell, sender)
    return [
        ("rsyslog: sends by TCP, TLS, _bulk and Kafka", lambda: _begin(run)),
        ("rsyslog: unusual messages arrive as they are", lambda: _unusual(run)),
        ("rsyslog: guessed passwords raise an alert on each route", lambda: _alerted(run)),
        ("rsyslog: watchbell killed and restarted, the broker restarted, while messages come", lambda: _interrupted(run)),
        ("rsyslog: every message by _bulk is there exactly once", lambda: _exactly_once(run)),
        ("rsyslog: every message by Kafka is there, twice only if it was sent when the broker stopped", lambda: _by_kafka(run)),
        ("rsyslog: by syslog only what is on its way when watchbell is killed is lost, and hardly anything by stops", lambda: _by_syslog(run)),
        ("rsyslog: both end when told to", lambda: _end(run)),
    ]


def _begin(run):
    run.rsyslog.start()
    hand_over(run.rsyslog, run.messages.ordinary(200))
    run.wait()


def _unusual(run):
    messages = run.messages.unusual()
    hand_over(run.rsyslog, messages)
    run.wait(messages=messages)
    for route in CLUSTERS:
        found = {event["message"]: event for event in run.hits(route)}
        for message in messages:
            _same(route, message, found[message.text])


def _same(route, message, event):
    wanted = {"host.name": {"node-7"}, "process.name": {message.app}, "log.syslog.procid": {"4711"}, **message.fields}
    data = wanted.pop("data", [])
    for field, values in wanted.items():
        if event.get(field) not in values:
            raise Failure(f"by {route}, {field} of {message.text[:60]!r} is {event.get(field)!r}, not {sorted(values)}")
    said = str(event.get("log.syslog.structured_data") or event.get("syslog.structured_data"))
    for value in data if route in ("tcp", "tls") else data[:1]:
        if value not in said and repr(value) not in said:
            raise Failure(f"by {route}, {value!r} is not in the structured data {said}")


def _alerted(run):
    hand_over(run.rsyslog, run.messages.break_in("203.0.113.77"))

    def clusters():
        return {alert["cluster"] for alert in run.watchbell.alerts(level="medium")}
    wait_until("an alert on each route", lambda: clusters() >= set(CLUSTERS.values()), 40, 0.5, server=run.watchbell.server)


def _interrupted(run):
    before = len(run.messages.made)
    with Sender(run.rsyslog, run.messages):
        for who, stop, start in (
            ("watchbell, killed", run.watchbell.kill, run.watchbell.start),
            (f"{STOPPED} once", run.watchbell.stop, run.watchbell.start),
            ("broker", run.kafka.stop, run.kafka.start),
            ("watchbell, killed", run.watchbell.kill, run.watchbell.start),
            (f"{STOPPED} again", run.watchbell.stop, run.watchbell.start),
            (f"{STOPPED} a third time", run.watchbell.stop, run.watchbell.start),
        ):
            # apart from one another, so that it can be told which one did it
            time.sleep(2 * ON_ITS_WAY_S)
            began = time.monotonic()
            stop()
            gone = time.monotonic()
            time.sleep(random.uniform(0, 1.5))
            start()
            run.interruptions.append(Interruption(who, began, gone, time.monotonic()))
        time.sleep(2)
    # what rsyslog kept meanwhile, and what it is given now
    hand_over(run.rsyslog, last := run.messages.ordinary(20))
    run.wait(messages=last)
    return f"{len(run.messages.made) - before} messages"


def _exactly_once(run):
    run.wait(routes=["bulk"])
    if said := _irregular(run, "bulk"):
        raise Failure(f"by _bulk {said}")
    return f"{len(run.messages.made)} messages"


def _by_kafka(run):
    run.wait(routes=["kafka"])
    said = _irregular(run, "kafka")
    if "lost" in said or "watchbell" in said:
        raise Failure(f"by Kafka {said}")
    return said


def _by_syslog(run):
    """Now and then rsyslog itself loses what waits for a connection (rsyslog's issues 491 and 571), so one stop proves nothing."""
    said = {route: _irregular(run, route) or "nothing" for route in ("tcp", "tls")}
    for route, kinds in said.items():
        if kinds.count(f"lost ({STOPPED}") > 1:
            raise Failure(f"by {route} stops lose what rsyslog sends: {kinds}")
    return "; ".join(f"{route}: {kinds}" for route, kinds in said.items())


def _irregular(run, route):
    """How many messages were lost or came twice, and during which interruptions; without any it is a failure."""
    found, made = Counter(event["message"] for event in run.hits(route)), {message.text: message for message in run.messages.made}
    if strange := set(found) - set(made):
        raise Failure(f"by {route} came what was never sent: {[text[:80] for text in list(strange)[:3]]}")
    kinds = Counter()
    for text, message in made.items():
        if found[text] == 1:
            continue
        near = [one for one in run.interruptions if one.began - ON_ITS_WAY_S < message.sent_at < one.ended + ON_ITS_WAY_S]
        if not near:
            raise Failure(f"by {route} {text[:80]!r} came {found[text]} times though nothing was interrupted")
        who = _cause(near[0], message) if route in ("tcp", "tls") else near[0].who
        kinds[f"{'twice' if found[text] else 'lost'} ({who})"] += 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _cause(interruption, message):
    """Who had a message that was sent by syslog. What came when a stop was over was not sent to who stopped, and rsyslog waits for
    seconds before it connects to who comes after."""
    if interruption.who.startswith(STOPPED) and message.sent_at > interruption.gone:
        return "rsyslog, not connected"
    return interruption.who


def _end(run):
    run.rsyslog.stop()
    run.watchbell.stop()
