"""Topics consumed in place from a real broker: killed, paused and restarted on both sides, every message is stored once and
every alert sent."""

import json
import random
import signal
import threading
import time

from background import Background
from broker import PASSWORD, USER, unique
from processes import Failure, wait_until

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
CLUSTER = "kafka"
PARTITIONS = 3
GROUP = "watchbell-real"

SETTINGS = """\
ingest:
  max_body: 2MiB
kafka:
  brokers: {brokers}
  group: {group}
  tls: {{ca_file: {ca}}}
  sasl: {{mechanism: SCRAM-SHA-512, username: {user}, password: {password}}}
  topics:
    - {{topic: audit, cluster: {cluster}}}
    - {{topic: lines, cluster: lines, format: logs}}
    - {{topic: later, cluster: later, start: "{start}"}}
    - {{topic: recreated, cluster: recreated}}
"""


def settings(kafka, authority, start):
    return SETTINGS.format(brokers=kafka.secure, group=GROUP, ca=authority.cert, user=USER, password=PASSWORD, cluster=CLUSTER,
                           start=start)


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Events:
    """Makes audit events and log lines, and remembers them."""

    def __init__(self):
        self.ids, self.attackers, self.lock = {}, set(), threading.Lock()

    def ordinary(self, cluster=CLUSTER, **more):
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".000000Z"
        event = {
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": unique("id"), "stage": "ResponseComplete",
            "requestURI": "/api/v1/namespaces/shop/configmaps/web", "verb": "get",
            "user": {"username": "alice", "groups": ["system:authenticated"]}, "sourceIPs": ["203.0.113.9"],
            "userAgent": "kubectl/v1.35.4", "objectRef": {"resource": "configmaps", "namespace": "shop", "name": "web", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 200}, "requestReceivedTimestamp": at, "stageTimestamp": at,
            "annotations": {"authorization.k8s.io/decision": "allow"}, **more,
        }
        with self.lock:
            self.ids.setdefault(cluster, []).append(event["auditID"])
        return event

    def attack(self):
        """A command run in a pod, by somebody who does it once: an alert of its own."""
        attacker = unique("eve")
        with self.lock:
            self.attackers.add(attacker)
        return self.ordinary(
            verb="create", requestURI="/api/v1/namespaces/shop/pods/web-0/exec?command=id&container=web",
            objectRef={"resource": "pods", "subresource": "exec", "namespace": "shop", "name": "web-0", "apiVersion": "v1"},
            user={"username": attacker, "groups": ["system:authenticated"]}, responseStatus={"metadata": {}, "code": 101})

    def messages(self, count):
        """So many messages: single events, lists and lines."""
        made = []
        for number in range(count):
            events = [self.ordinary() for _ in range(1 + number % 3)]
            if number % 20 == 0:
                events.append(self.attack())
            if number % 2:
                made.append(json.dumps({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": events}))
            else:
                made.append(" ".join(map(json.dumps, events)))
        return made


    def lines(self, count):
        """So many messages of lines: plain, as an agent's record, and several of those."""
        made = []
        for number in range(count):
            lines = [f"{unique('line')} is done" for _ in range(1 + number % 3)]
            with self.lock:
                self.ids.setdefault("lines", []).extend(lines)
            records = [{"log": line + "\n", "stream": "stdout", "kubernetes": {"pod_name": "web-0"}} for line in lines]
            made.append(lines[0] if len(lines) == 1 else json.dumps(records))
        return made


class Producer(Background):
    """Writes on and on, in a thread."""

    STOP_S = 90

    def __init__(self, kafka, events):
        super().__init__()
        self.kafka, self.events, self.written, self.errors = kafka, events, 0, []

    def _work(self):
        while not self.stopping.is_set():
            messages = self.events.messages(20)
            try:
                self.kafka.produce("audit", messages, codec=random.choice(CODECS))
                self.kafka.produce("lines", self.events.lines(10), codec=random.choice(CODECS))
                self.written += len(messages)
            except (Failure, OSError) as error:
                self.errors.append(str(error))
            time.sleep(0.2)

    def __exit__(self, kind, *rest):
        super().__exit__(kind, *rest)
        if self.errors and kind is None:
            raise Failure(f"the producer itself failed: {self.errors[0]}")


def checks(kafka, watchbell, hook):
    """Names and actions, in order."""
    events = Events()
    return [
        ("kafka: starts, and watchbell reads over TLS with SCRAM", lambda: _begin(kafka, watchbell, events)),
        ("kafka: every codec", lambda: _codecs(kafka, watchbell, events)),
        ("kafka: starts at a time", lambda: _later(kafka, watchbell, events)),
        ("kafka: watchbell killed, paused and restarted while messages come", lambda: _watchbell_suffers(kafka, watchbell, events)),
        ("kafka: broker killed and restarted while messages come", lambda: _broker_suffers(kafka, watchbell, events)),
        ("kafka: poisonous and oversize messages stop nothing", lambda: _poison(kafka, watchbell, events)),
        ("kafka: what retention took is passed over and said", lambda: _expired(kafka, watchbell, events)),
        ("kafka: a topic gets more partitions", lambda: _grown(kafka, watchbell, events)),
        ("kafka: a topic is deleted and made anew", lambda: _recreated(kafka, watchbell, events)),
        ("kafka: every message is stored exactly once", lambda: _exactly_once(watchbell, events)),
        ("kafka: every alert is there and was sent", lambda: _alerted(watchbell, hook, events)),
        ("kafka: topics are among the sources, with no lag", lambda: _sources(watchbell)),
        ("kafka: other tools see no lag", lambda: _no_lag(kafka)),
        ("kafka: ends when told to", watchbell.stop),
    ]


def _begin(kafka, watchbell, events):
    kafka.create_topic("audit", PARTITIONS, max_message_bytes=10_000_000)
    kafka.create_topic("lines", PARTITIONS)
    kafka.create_topic("later", 1)
    kafka.create_topic("recreated", 1)
    kafka.produce("audit", events.messages(30))
    watchbell.start()
    _caught_up(watchbell, events)


def _codecs(kafka, watchbell, events):
    for codec in CODECS:
        kafka.produce("audit", events.messages(100), codec=codec)
        kafka.produce("lines", events.lines(30), codec=codec)
    _caught_up(watchbell, events)
    _caught_up(watchbell, events, "lines")


def _later(kafka, watchbell, events):
    """What was written before the time the configuration names is not read."""
    hits = watchbell.search("cluster:later")
    if hits:
        raise Failure(f"{len(hits)} events from before the time to start at")
    kafka.produce("later", [json.dumps(events.ordinary("later"))])
    _caught_up(watchbell, events, "later")


def _watchbell_suffers(kafka, watchbell, events):
    with Producer(kafka, events) as producer:
        for number in range(10):
            time.sleep(random.uniform(0.2, 2.5))
            if number % 4 == 3:
                watchbell.server.process.send_signal(signal.SIGSTOP)
                time.sleep(4)
                watchbell.server.process.send_signal(signal.SIGCONT)
            elif number % 4 == 2:
                watchbell.stop()
                watchbell.start()
            else:
                watchbell.kill()
                watchbell.start()
    _caught_up(watchbell, events)
    _caught_up(watchbell, events, "lines")
    return f"{producer.written} messages"


def _broker_suffers(kafka, watchbell, events):
    before = watchbell.log().count("no Kafka broker answers")
    with Producer(kafka, events) as producer:
        for clean in (True, False, False):
            time.sleep(3)
            kafka.stop() if clean else kafka.kill()
            wait_until("brokers that are away", lambda: _status(watchbell)["brokers"]["state"] == "away", 30, server=watchbell.server)
            if watchbell.request("/readyz")[0] != 200:
                raise Failure("not ready without a broker, but search must work")
            kafka.start()
            wait_until("brokers that are back", lambda: _status(watchbell)["brokers"]["state"] == "connected", 60, server=watchbell.server)
    _caught_up(watchbell, events)
    _caught_up(watchbell, events, "lines")
    said = watchbell.log().count("no Kafka broker answers") - before
    if said > 4:
        raise Failure(f"three outages were reported {said} times")
    return f"{producer.written} messages, reported {said} times"


def _poison(kafka, watchbell, events):
    kept = len(_quarantine(watchbell))
    kafka.produce("audit", ["{", "no JSON", "\x00\x01", '{"kind":"Pod"}', "x" * 3_000_000], partition=0)
    mixed = json.dumps(events.ordinary()) + ' {"kind":"Pod"} ' + json.dumps(events.ordinary())
    kafka.produce("audit", [mixed, *events.messages(5)], partition=0)
    _caught_up(watchbell, events)
    # the other object of kind Pod is the same bytes, which are kept once
    wait_until("five in quarantine", lambda: len(_quarantine(watchbell)) == kept + 5, 10, server=watchbell.server)


def _quarantine(watchbell):
    return [entry for entry in watchbell.get("/api/v1/quarantine", limit=1000)["entries"] if entry["source"] == "kafka/audit"]


def _expired(kafka, watchbell, events):
    _caught_up(watchbell, events)
    watchbell.stop()
    lost = Events()
    kafka.produce("audit", lost.messages(25), partition=1)
    end = kafka.end("audit", 1)
    kafka.produce("audit", events.messages(25), partition=1)
    kafka.delete_records("audit", 1, end)
    watchbell.start()
    _caught_up(watchbell, events)
    if "messages were deleted from the topic before they were read" not in watchbell.log():
        raise Failure("the loss is not in the log")

    def told():
        metrics = watchbell.request("/metrics", watchbell.admin_token())[2]
        lines = [line for line in metrics.splitlines() if line.startswith("watchbell_kafka_lost_messages_total")]
        return sorted(float(line.split()[-1]) for line in lines) == [25.0, 25.0]
    wait_until("25 lost messages of each reader in the metrics", told, 20, server=watchbell.server)


def _grown(kafka, watchbell, events):
    kafka.grow_topic("audit", PARTITIONS + 1)
    kafka.produce("audit", events.messages(20), partition=PARTITIONS)
    _caught_up(watchbell, events)


def _recreated(kafka, watchbell, events):
    kafka.produce("recreated", [json.dumps(events.ordinary("recreated")) for _ in range(20)])
    _caught_up(watchbell, events, "recreated")
    kafka.delete_topic("recreated")
    kafka.create_topic("recreated", 1)
    kafka.produce("recreated", [json.dumps(events.ordinary("recreated")) for _ in range(7)])
    _caught_up(watchbell, events, "recreated")
    # once more, while watchbell is away
    watchbell.stop()
    kafka.delete_topic("recreated")
    kafka.create_topic("recreated", 1)
    kafka.produce("recreated", [json.dumps(events.ordinary("recreated")) for _ in range(3)])
    watchbell.start()
    _caught_up(watchbell, events, "recreated")


def _status(watchbell):
    return watchbell.get("/api/v1/status")["kafka"]


def _caught_up(watchbell, events, cluster=CLUSTER):
    wanted = len(events.ids.get(cluster, []))

    def found():
        return watchbell.get("/api/v1/search", q=f"cluster:{cluster}", limit=1)["total"]["value"] >= wanted
    wait_until(f"{wanted} events of {cluster} by search", found, 60, 0.5, server=watchbell.server)


def _exactly_once(watchbell, events):
    wanted = sorted(event for ids in events.ids.values() for event in ids)
    hits = (hit["event"] for cluster in events.ids for hit in watchbell.search(f"cluster:{cluster}"))
    found = sorted(hit.get("auditID") or hit["message"] for hit in hits)
    if found != wanted:
        missing = set(wanted) - set(found)
        raise Failure(f"{len(wanted)} events, {len(found)} found; missing {len(missing)}, "
                      f"surplus {len(found) - len(set(found) & set(wanted))}")
    return f"{len(wanted)} events"


def _alerted(watchbell, hook, events):
    wanted = len(events.attackers)

    def listed():
        alerts = [alert for alert in watchbell.alerts(level="medium") if alert["cluster"] == CLUSTER]
        return alerts, sum(alert["count"] for alert in alerts)
    wait_until(f"{wanted} occurrences", lambda: listed()[1] >= wanted, 30, 0.5)
    alerts, occurrences = listed()
    if (len(alerts), occurrences) != (wanted, wanted):
        raise Failure(f"{wanted} alerts with as many occurrences expected, but there are {len(alerts)} with {occurrences}")

    def delivered():
        text = "\n".join(post.body.decode() for post in hook.received())
        return all(alert["id"] in text for alert in alerts)
    wait_until(f"{len(alerts)} alerts by webhook", delivered, 60, 1)
    return f"{len(alerts)} alerts"


def _sources(watchbell):
    def rows():
        return {row["route"]: row["lag"] for row in watchbell.get("/api/v1/sources")["sources"]}
    wanted = {f"kafka/{topic}": {"messages": 0} for topic in ("audit", "lines", "later", "recreated")}
    wait_until("four topics without lag", lambda: rows() == wanted, 20, server=watchbell.server)


def _no_lag(kafka):
    def rows():
        lines = [line.split() for line in kafka.group(GROUP).splitlines() if line.split()[:1] == [GROUP]]
        return {(row[1], row[2]): row[5] for row in lines}

    def none():
        found = rows()
        return len(found) >= PARTITIONS + 1 and all(lag == "0" for lag in found.values())
    try:
        wait_until("no lag", none, 40, 2)
    except Failure:
        raise Failure(f"lag by topic and partition: {rows()}") from None
