"""The real API server's audit log through real agents into Kafka topics, from where watchbell reads it: once by the OpenTelemetry
Collector and once by rsyslog, while everything is restarted and the API server rotates the log."""

import json
import time
from collections import Counter

import otelcol
import rsyslog
import work
from broker import PASSWORD, USER
from detections import rule_ids
from objects import namespace, obj, role, rule
from processes import Failure, wait_until
from scenario import identity

# By agent, the topic it writes; the cluster has the same name.
TOPICS = {"collector": "audit-by-collector", "rsyslog": "audit-by-rsyslog"}
# The API server begins a new file after so many megabytes.
ROTATION = ("--audit-log-maxsize=1", "--audit-log-maxbackup=50")
MAX_MESSAGE_BYTES = 4_000_000
LONG_TEXT = 100_000

SETTINGS = """\
kafka:
  brokers: {brokers}
  tls: {{ca_file: {ca}}}
  sasl: {{mechanism: SCRAM-SHA-512, username: {user}, password: {password}}}
  topics:
    - {{topic: {collector}, cluster: {collector}}}
    - {{topic: {rsyslog}, cluster: {rsyslog}}}
"""


def settings(kafka, authority):
    return SETTINGS.format(brokers=kafka.secure, ca=authority.cert, user=USER, password=PASSWORD, **TOPICS)


def agents(binaries, directory, cluster, kafka, authority):
    """Both, as deploy/senders configures them."""
    log = {"/var/log/kubernetes/audit*.log": cluster.audit_log.parent / "audit*.jsonl"}
    made = []
    for name in TOPICS:
        (directory / name).mkdir(parents=True)
    configuration = otelcol.kafka_configuration("otelcol-audit.yaml", directory / "collector", authority, kafka,
                                                {"audit-prod": TOPICS["collector"], **log})
    made.append(otelcol.Collector(binaries["collector"], directory / "collector", [configuration]))
    configuration = rsyslog.kafka_configuration("rsyslog-audit.conf", directory / "rsyslog", kafka, authority,
                                                {"audit-prod": TOPICS["rsyslog"], **log}, directory / "rsyslog" / "spool")
    made.append(rsyslog.Rsyslog(binaries["rsyslog"], directory / "rsyslog", [configuration], listens=False))
    return made


class Run:
    def __init__(self, cluster, kafka, watchbell, senders):
        self.cluster, self.kafka, self.watchbell, self.senders = cluster, kafka, watchbell, senders

    def written(self):
        """Every event in the API server's log files."""
        files = sorted(self.cluster.audit_log.parent.glob("audit*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()], len(files)

    def hits(self, agent):
        return [hit["event"] for hit in self.watchbell.search(f"cluster:{TOPICS[agent]}")]


def checks(cluster, kafka, watchbell, senders):
    """Names and actions, in order."""
    run = Run(cluster, kafka, watchbell, senders)
    return [
        ("audit topics: the API server's log is read from its beginning", lambda: _begin(run)),
        ("audit topics: a secret that is read raises its alert by both agents", lambda: _secret(run)),
        ("audit topics: watchbell, the broker and the agents are restarted while people work", lambda: _interrupted(run)),
        ("audit topics: every event in the log files is stored exactly once by both agents", lambda: _exactly_once(run)),
        ("audit topics: nothing is in quarantine", lambda: _no_quarantine(run)),
        ("audit topics: all end when told to", lambda: _end(run)),
    ]


def _begin(run):
    for topic in TOPICS.values():
        run.kafka.create_topic(topic, 2, max_message_bytes=MAX_MESSAGE_BYTES)
    run.watchbell.start()
    run.cluster.start()
    work.bootstrap_done(run.cluster)
    for sender in run.senders:
        sender.start()
    events = len(run.written()[0])
    for topic in TOPICS.values():
        run.watchbell.wait_for_events(events, topic)
    return f"{events} events"


def _secret(run):
    run.cluster.kubectl("olivia", "create", "-f", "-", stdin=[
        namespace("vault"), obj("Secret", "database", "vault", stringData={"password": "an-ordinary-secret"})])
    run.cluster.kubectl("olivia", "get", "secret", "database", "-n", "vault", "-o", "yaml")
    rules = rule_ids("secret read")

    def clusters():
        return {alert["cluster"] for alert in run.watchbell.alerts() if alert["rule_id"] in rules}
    wait_until("an alert by both agents", lambda: clusters() == set(TOPICS.values()), 30, 0.5, server=run.watchbell.server)
    if any("an-ordinary-secret" in json.dumps(hit) for agent in TOPICS for hit in run.hits(agent)):
        raise Failure("the secret's value is in a stored event")


def _interrupted(run):
    work.operator_prepares(run.cluster)
    run.watchbell.kill()
    _people_work(run, "first")
    run.watchbell.start()
    run.kafka.stop()
    _people_work(run, "second")
    run.kafka.start()
    for sender in run.senders:
        sender.stop()
    _people_work(run, "third")
    for sender in run.senders:
        sender.start()
    run.watchbell.kill()
    run.watchbell.start()


def _people_work(run, name):
    """Objects are made, read and deleted, one of which makes a very long event."""
    objects = [obj("ConfigMap", f"{name}-{number}", "shop", data={"text": "ü"}) for number in range(12)]
    run.cluster.kubectl("alice", "create", "-f", "-", stdin=objects)
    run.cluster.kubectl("alice", "get", "configmaps", "-n", "shop")
    run.cluster.kubectl("alice", "delete", "configmaps", "-n", "shop", *(item["metadata"]["name"] for item in objects[:6]))
    long = role("Role", name, [rule([""], ["configmaps"], ["get"])], "shop")
    long["metadata"]["annotations"] = {"note": "ü" * LONG_TEXT}
    run.cluster.kubectl("olivia", "create", "-f", "-", stdin=[long])


def _exactly_once(run):
    run.cluster.quiesce()
    time.sleep(1)
    events, files = run.written()
    longest = max(len(json.dumps(event, ensure_ascii=False).encode()) for event in events)
    if files < 2 or longest < LONG_TEXT:
        raise Failure(f"{files} files, the longest event {longest} bytes: too little was tried")
    wanted = Counter(map(identity, events))
    for agent in TOPICS:
        def found(agent=agent):
            return Counter(map(identity, run.hits(agent)))
        try:
            wait_until("all events", lambda: not wanted - found(), 60, 1, server=run.watchbell.server)
        except Failure:
            missing = list(wanted - found())
            raise Failure(f"{len(missing)} of {len(events)} missing by {agent}: {missing[:3]}") from None
        if surplus := found() - wanted:
            raise Failure(f"{sum(surplus.values())} too many by {agent}: {list(surplus)[:3]}")
    return f"{len(events)} events in {files} files, the longest {longest} bytes"


def _no_quarantine(run):
    entries = run.watchbell.get("/api/v1/quarantine", limit=100)["entries"]
    if entries:
        raise Failure(f"{len(entries)} entries, such as {entries[0]}")


def _end(run):
    for sender in run.senders:
        sender.stop()
    run.cluster.stop()
    run.watchbell.stop()
