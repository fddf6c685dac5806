"""A topic of three brokers as the log: what was answered is there, whichever broker is killed, and what too few replicas would
have is refused."""

import json
import time

from background import Background
from broker import PASSWORD, USER
from kafka_topics import Events
from processes import Failure, wait_until

CLUSTER = "replicated"
SETTINGS = """\
kafka:
  brokers: {brokers}
  tls: {{ca_file: {ca}}}
  sasl: {{mechanism: SCRAM-SHA-512, username: {user}, password: {password}}}
  log: {{topic: log}}
"""


def settings(kafka, authority):
    return SETTINGS.format(brokers=kafka.secure, ca=authority.cert, user=USER, password=PASSWORD)


class Sender(Background):
    """Posts on and on as an API server does: what is refused is sent again."""

    STOP_S = 60

    def __init__(self, watchbell):
        super().__init__()
        self.watchbell, self.token, self.events = watchbell, watchbell.admin_token(), Events()
        self.answered, self.refusals, self.wrong = [], [], []

    def _work(self):
        while not self.stopping.is_set():
            batch = [self.events.ordinary(CLUSTER) for _ in range(5)]
            while not self.send(batch) and not self.stopping.is_set():
                time.sleep(0.5)
            time.sleep(0.05)

    def send(self, batch):
        try:
            status, _, text = self.watchbell.request(f"/ingest/audit/{CLUSTER}", self.token, "\n".join(map(json.dumps, batch)).encode())
        except OSError:
            return False
        if status != 200:
            self.refusals.append(status)
            return False
        if json.loads(text)["durability"] != "in-sync replicas":
            self.wrong.append(text)
        self.answered += batch
        return True


def checks(kafka, watchbell):
    """Names and actions, in order."""
    answered = []
    return [
        ("kafka log: a topic that one replica may answer for is refused", lambda: _single(kafka, watchbell)),
        ("kafka log: one broker after another is killed", lambda: _killed(kafka, watchbell, answered)),
        ("kafka log: with one replica left nothing is taken, and searching works", lambda: _too_few(kafka, watchbell, answered)),
        ("kafka log: what was answered is there exactly once", lambda: _exactly_once(watchbell, answered)),
        ("kafka log: ends when told to", watchbell.stop),
    ]


def _single(kafka, watchbell):
    kafka.create_topic("log", 3, replicas=3, min_insync_replicas=1)
    watchbell.start()
    sender = Sender(watchbell)
    if sender.send([sender.events.ordinary(CLUSTER)]) or sender.refusals[0] not in (429, 503):
        raise Failure(f"answered {sender.refusals or 200}")
    kafka.java("kafka.admin.ConfigCommand", "--bootstrap-server", kafka.plain, "--alter", "--entity-type", "topics", "--entity-name",
               "log", "--add-config", "min.insync.replicas=2")
    wait_until("an answer", lambda: sender.send([sender.events.ordinary(CLUSTER)]), 30, 0.5, server=watchbell.server)


def _killed(kafka, watchbell, answered):
    with Sender(watchbell) as sender:
        for broker in kafka.brokers[1:]:
            time.sleep(2)
            broker.kill()
            before = len(sender.answered)
            wait_until("answers without a broker", lambda: len(sender.answered) > before + 50, 60, server=watchbell.server)
            broker.start()
            kafka.wait()
            # the next one may go only when this one is in sync again
            wait_until("replicas in sync", lambda: in_sync(kafka, 3), 60, 0.5)
    answered += sender.answered
    if sender.wrong:
        raise Failure(f"an answer of {sender.wrong[0]}")
    return f"{len(sender.answered)} events answered, {len(sender.refusals)} refusals"


def in_sync(kafka, count):
    listed = json.loads(kafka.kcat("-L", "-J", "-t", "log"))
    return all(len(partition["isrs"]) >= count for topic in listed["topics"] for partition in topic["partitions"])


def _too_few(kafka, watchbell, answered):
    for broker in kafka.brokers[1:]:
        broker.kill()
    sender = Sender(watchbell)
    event = sender.events.ordinary(CLUSTER)
    wait_until("a refusal", lambda: not sender.send([sender.events.ordinary(CLUSTER)]), 60, 0.5, server=watchbell.server)
    if sender.refusals[0] not in (429, 503) or watchbell.request("/readyz")[0] != 200:
        raise Failure(f"refused with {sender.refusals[0]}, readyz {watchbell.request('/readyz')[0]}")
    watchbell.search(f"cluster:{CLUSTER}")
    for broker in kafka.brokers[1:]:
        broker.start()
    kafka.wait()
    wait_until("an answer", lambda: sender.send([event]), 60, 0.5, server=watchbell.server)
    answered += sender.answered


def _exactly_once(watchbell, answered):
    """More than what was answered may be there, but nothing twice."""
    wanted = {event["auditID"] for event in answered}

    def found():
        return [hit["event"]["auditID"] for hit in watchbell.search(f"cluster:{CLUSTER}")]
    try:
        wait_until("answered events by search", lambda: wanted <= set(found()), 30, 1, server=watchbell.server)
    except Failure:
        raise Failure(f"{len(wanted - set(found()))} of {len(wanted)} events that were answered are missing") from None
    ids = found()
    if len(ids) != len(set(ids)):
        raise Failure(f"{len(ids) - len(set(ids))} events are there twice")
    return f"{len(wanted)} events"
