"""A real OpenTelemetry Collector reads containers' logs and sends them by OTLP over HTTP and gRPC and through Kafka, while
watchbell and the broker are killed, paused and restarted, and answers are kept back."""

import random
import re
import signal
import time
from collections import Counter

from broker import PASSWORD, USER
from otelcol import CONTAINER, NAMESPACE, POD, Collector, PodLog, Writer, configuration, kafka_configuration
from processes import Failure, wait_until

# By route, the cluster its lines belong to.
CLUSTERS = {"http": "by-http", "grpc": "by-grpc", "kafka": "by-kafka"}
TOPIC = "otlp-prod"
# The collector waits for an answer less long than watchbell pauses, or answers are kept back.
WAIT_S, PAUSE_S = 2, 5

SETTINGS = """\
kafka:
  brokers: {brokers}
  tls: {{ca_file: {ca}}}
  sasl: {{mechanism: SCRAM-SHA-512, username: {user}, password: {password}}}
  topics: [{{topic: {topic}, cluster: {cluster}, format: otlp}}]
"""


def settings(kafka, authority):
    return SETTINGS.format(brokers=kafka.secure, ca=authority.cert, user=USER, password=PASSWORD, topic=TOPIC, cluster=CLUSTERS["kafka"])


def collector(binary, directory, watchbell, proxy, kafka, pods):
    """As deploy/senders configures it, but for how long it waits for an answer."""
    directory.mkdir()
    authority, logs = watchbell.authority, {"/var/log/pods": pods}

    def token(route):
        return watchbell.add_token(f"collector-{route}", f"ingest:{CLUSTERS[route]}")
    short = {"timeout: 10s": f"timeout: {WAIT_S}s"}
    return Collector(binary, directory, [
        configuration("otelcol-http.yaml", directory, authority, {
            "watchbell.example.org:8080": f"127.0.0.1:{proxy.port}", "TOKEN": token("http"), **short, **logs}),
        configuration("otelcol-grpc.yaml", directory, authority, {
            "watchbell.example.org:8080": f"127.0.0.1:{proxy.port}", "TOKEN": token("grpc"), **short, **logs}),
        kafka_configuration("otelcol-kafka.yaml", directory, authority, kafka, {"otlp-prod": TOPIC, **logs}),
    ])


class Run:
    """What was written."""

    def __init__(self, kafka, watchbell, proxy, sender, pods):
        self.kafka, self.watchbell, self.proxy, self.collector = kafka, watchbell, proxy, sender
        self.log = PodLog(pods)

    def hits(self, route):
        return [hit["event"] for hit in self.watchbell.search(f"cluster:{CLUSTERS[route]}")]

    def wait(self, timeout_s=60):
        """Until all lines have come by all routes."""
        for route in CLUSTERS:
            def missing(route=route):
                return set(self.log.lines) - {event["message"] for event in self.hits(route)}
            try:
                wait_until("lines", lambda: not missing(), timeout_s, 1, server=self.watchbell.server)
            except Failure:
                lines = missing()
                raise Failure(f"{len(lines)} of {len(self.log.lines)} missing by {route}: "
                              f"{[line[:80] for line in list(lines)[:3]]}\n{self.collector.server.tail(5)}") from None


def checks(kafka, watchbell, proxy, sender, pods):
    """Names and actions, in order."""
    run = Run(kafka, watchbell, proxy, sender, pods)
    return [
        ("collector: sends by OTLP over HTTP and gRPC, and through Kafka", lambda: _begin(run)),
        ("collector: lines and where they come from arrive as they are", lambda: _unusual(run)),
        ("collector: guessed passwords raise an alert on each route", lambda: _alerted(run)),
        ("collector: watchbell killed, paused and restarted, the broker restarted, while lines come", lambda: _interrupted(run)),
        ("collector: answers are kept back, and requests sent again are recognised", lambda: _unanswered(run)),
        ("collector: every line is there exactly once on each route", lambda: _exactly_once(run)),
        ("collector: both end when told to", lambda: _end(run)),
    ]


def _begin(run):
    run.log.ordinary(200)
    run.collector.start()
    run.wait()


def _unusual(run):
    lines = run.log.unusual()
    run.wait()
    wanted = {"orchestrator.namespace": NAMESPACE, "orchestrator.resource.name": POD, "container.name": CONTAINER,
              "log.iostream": "stdout"}
    for route in CLUSTERS:
        found = {event["message"]: event for event in run.hits(route)}
        for line in lines:
            said = {field: found[line].get(field) for field in wanted}
            if said != wanted:
                raise Failure(f"by {route}, {line[:60]!r} comes from {said}")


def _alerted(run):
    run.log.break_in("203.0.113.78")

    def clusters():
        return {alert["cluster"] for alert in run.watchbell.alerts(level="medium")}
    wait_until("an alert on each route", lambda: clusters() >= set(CLUSTERS.values()), 40, 0.5, server=run.watchbell.server)


def _interrupted(run):
    before = len(run.log.lines)
    with Writer(run.log):
        for interrupt in (_kill, _pause, _restart, _restart_broker, _kill):
            time.sleep(random.uniform(1.5, 3))
            interrupt(run)
        time.sleep(2)
    run.wait(90)
    return f"{len(run.log.lines) - before} lines"


def _kill(run):
    run.watchbell.kill()
    time.sleep(random.uniform(0, 1.5))
    run.watchbell.start()


def _restart(run):
    run.watchbell.stop()
    run.watchbell.start()


def _pause(run):
    run.watchbell.server.process.send_signal(signal.SIGSTOP)
    time.sleep(PAUSE_S)
    run.watchbell.server.process.send_signal(signal.SIGCONT)


def _restart_broker(run):
    run.kafka.stop()
    run.kafka.start()


def _unanswered(run):
    before = _copies(run)
    with Writer(run.log):
        run.proxy.keep_answers()
        time.sleep(PAUSE_S)
        run.proxy.release_answers()
        time.sleep(2)
    run.wait()
    copies = _copies(run) - before
    if copies == 0:
        raise Failure("nothing came twice, so nothing was shown")
    return f"{copies} copies"


def _exactly_once(run):
    time.sleep(5)  # what is sent again comes later
    for route in CLUSTERS:
        found = Counter(event["message"] for event in run.hits(route))
        surplus = found - Counter(run.log.lines)
        if surplus:
            raise Failure(f"{sum(surplus.values())} lines too many by {route}: {[line[:80] for line in list(surplus)[:3]]}")
    return f"{len(run.log.lines)} lines"


def _copies(run):
    metrics = run.watchbell.request("/metrics", run.watchbell.admin_token())[2]
    return int(re.search(r"^watchbell_ingest_duplicate_events_total (\d+)", metrics, re.MULTILINE).group(1))


def _end(run):
    run.collector.stop()
    run.watchbell.stop()
