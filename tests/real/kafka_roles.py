"""One watchbell run as eight processes on one Kafka, killed one after the other, again and again: every event is stored once,
every alert raised and told once, and what correlations count is exact."""

import json
import random
import re
import signal
import threading
import time
from collections import Counter

from broker import PASSWORD, USER, unique
from kafka_topics import Events
from processes import Failure, wait_until
from watchbell import Watchbell, collector

CLUSTERS = ("east", "west", "north")
IN_PLACE = "shared"  # the cluster of the topic that others fill
PARTITIONS = 6
GROUP = "roles"
BURST = 7  # events that a correlation asks for
ROUNDS = 3  # in each of which every process is killed once
SESSION_S = 10  # after which a process that detects is taken for dead
# how often what a killed process left open may hold its partitions back, at most
CATCH_UP_S = 90

PROCESSES = {"receive-1": "receive", "receive-2": "receive", "receive-3": "receive", "detect-1": "detect", "detect-2": "detect",
             "detect-3": "detect", "search": "index,query", "alert": "alert"}

SETTINGS = """\
roles: [{roles}]
ingest: {{redaction_key_file: {key}}}
rules: {{directory: {rules}}}
kafka:
  brokers: {brokers}
  group: {group}
  tls: {{ca_file: {ca}}}
  sasl: {{mechanism: SCRAM-SHA-512, username: {user}, password: {password}}}
  log: {{topic: events, allow_single_replica: true}}
  topics: [{{topic: audit, cluster: {in_place}}}]
"""

RULES = """\
title: Marked
id: 6b6e5a40-6a49-4a39-8a3c-6f2f5b3f0001
name: marked
status: test
level: low
logsource: {{product: kubernetes, service: audit}}
detection: {{selection: {{objectRef.name: marked}}, condition: selection}}
---
title: Marked often
id: 6b6e5a40-6a49-4a39-8a3c-6f2f5b3f0002
status: test
level: high
correlation: {{type: event_count, rules: [marked], group-by: [user.username], timespan: 10m, condition: {{gte: {count}}}, generate: true}}
---
title: Marked too often
id: 6b6e5a40-6a49-4a39-8a3c-6f2f5b3f0003
status: test
level: high
correlation: {{type: event_count, rules: [marked], group-by: [user.username], timespan: 10m, condition: {{gte: {beyond}}}}}
---
title: Unmarked
id: 6b6e5a40-6a49-4a39-8a3c-6f2f5b3f0004
name: unmarked
status: test
level: low
logsource: {{product: kubernetes, service: audit}}
detection: {{selection: {{objectRef.name: unmarked}}, condition: selection}}
---
title: Unmarked after marked
id: 6b6e5a40-6a49-4a39-8a3c-6f2f5b3f0005
status: test
level: high
correlation: {{type: temporal_ordered, rules: [marked, unmarked], group-by: [user.username], timespan: 10m, generate: true}}
"""


def prepare(binary, directory, kafka, authority, hook):
    """The processes by name; none runs yet."""
    directory.mkdir()
    key, rules = directory / "redaction.key", directory / "rules"
    key.write_bytes(random.randbytes(32))
    rules.mkdir()
    (rules / "marked.yml").write_text(RULES.format(count=BURST, beyond=BURST + 1))

    def settings(roles):
        return collector(hook) + SETTINGS.format(roles=roles, key=key, rules=rules, brokers=kafka.secure, group=GROUP,
                                                 ca=authority.cert, user=USER, password=PASSWORD, in_place=IN_PLACE)
    return {name: Watchbell(binary, directory / name, authority, settings(roles)) for name, roles in PROCESSES.items()}


def checks(kafka, processes, hook):
    """Names and actions, in order."""
    made = Made()
    return [
        ("roles: what cannot work is refused", lambda: _refused(processes)),
        ("roles: eight processes start", lambda: _start(kafka, processes)),
        ("roles: each process answers for what it does", lambda: _answers(processes)),
        ("roles: killed, paused and without a broker while events come", lambda: _killed(kafka, processes, made)),
        ("roles: every event is stored exactly once", lambda: _exactly_once(processes, made)),
        ("roles: every alert is there with exact counts", lambda: _alerted(processes, made)),
        ("roles: every alert was told once", lambda: _told(processes, hook)),
        ("roles: nobody is behind, and nothing was lost", lambda: _no_lag(kafka, processes)),
        ("roles: all end when told to", lambda: [process.stop() for process in processes.values()] and None),
    ]


class Made(Events):
    """Events with what is to come of them."""

    def __init__(self):
        super().__init__()
        self.bursts = []

    def exec(self, cluster):
        """A command run in a pod: an alert of its own."""
        attacker = unique("eve")
        with self.lock:
            self.attackers.add(attacker)
        return self.ordinary(
            cluster, verb="create", requestURI="/api/v1/namespaces/shop/pods/web-0/exec?command=id&container=web",
            objectRef={"resource": "pods", "subresource": "exec", "namespace": "shop", "name": "web-0", "apiVersion": "v1"},
            user={"username": attacker, "groups": ["system:authenticated"]}, responseStatus={"metadata": {}, "code": 101})

    def marked(self, cluster, user, name="marked"):
        return self.ordinary(cluster, objectRef={"resource": "configmaps", "namespace": "shop", "name": name, "apiVersion": "v1"},
                             user={"username": user, "groups": ["system:authenticated"]})


class Stream(threading.Thread):
    """Makes events of one cluster on and on, and sends each batch until it is taken. Bursts go on over many batches, so that
    each meets several kills."""

    def __init__(self, made, cluster, send):
        super().__init__(daemon=True)
        self.made, self.cluster, self.send = made, cluster, send
        self.stopping, self.batches, self.repeated, self.broken = threading.Event(), 0, 0, None

    def run(self):
        open_bursts = []
        try:
            while not self.stopping.is_set() or open_bursts:
                batch = [self.made.ordinary(self.cluster) for _ in range(6)]
                if self.batches % 10 == 0:
                    batch.append(self.made.exec(self.cluster))
                if self.batches % 15 == 0 and not self.stopping.is_set():
                    open_bursts.append([unique("bob"), 0])
                for burst in open_bursts:
                    if random.random() < 0.4 or self.stopping.is_set():
                        name = "marked" if burst[1] < BURST else "unmarked"
                        batch.append(self.made.marked(self.cluster, burst[0], name))
                        burst[1] += 1
                done = [burst for burst in open_bursts if burst[1] > BURST]
                open_bursts = [burst for burst in open_bursts if burst[1] <= BURST]
                self._deliver(batch)
                with self.made.lock:
                    self.made.bursts += [user for user, _ in done]
                time.sleep(0.12)
        except Exception as error:  # whatever it is, the check has to say it
            self.broken = error

    def _deliver(self, batch):
        deadline = time.monotonic() + 60
        while not self.send(self.cluster, batch):
            self.repeated += 1
            if time.monotonic() > deadline:
                raise Failure(f"a batch of {self.cluster} was not taken within 60 s")
            time.sleep(random.uniform(0.1, 0.6))
        self.batches += 1


def _refused(processes):
    for words, expect in (("index", "index and query go together"), ("receive,search", "unknown role"),
                          ("receive", "Kafka lacks topics that the roles receive need: events")):
        process = processes["receive-1"]
        said = process.try_roles(words)
        if expect not in said:
            raise Failure(f"--roles {words}: {said[-400:]!r} does not say {expect!r}")


def _start(kafka, processes):
    kafka.create_topic("events", PARTITIONS)
    kafka.create_topic("events-matches", PARTITIONS + 3)
    kafka.create_topic("audit", 3)
    for process in processes.values():
        process.start()
    detecting = [process for name, process in processes.items() if name.startswith("detect")]

    def shared():
        held = [len(process.get("/api/v1/status")["share"]["partitions"]) for process in detecting]
        return sum(held) == PARTITIONS + 3 and min(held) == 3
    wait_until("nine partitions, three for each", shared, 40, 0.5)


def _answers(processes):
    asked = {"/api/v1/search": "query", "/api/v1/alerts": "alert", "/api/v1/rules": "detect or alert",
             "/api/v1/sources": "receive or index", "/ingest/audit/x": "receive"}
    for name, process in processes.items():
        for path, wanted in asked.items():
            body = b"{}" if path.startswith("/ingest") else None
            status, _, text = process.request(path, process.admin_token(), body)
            has = any(role in PROCESSES[name].split(",") for role in wanted.split(" or "))
            if has != (status != 421) or not has and wanted not in json.loads(text)["error"]["message"]:
                raise Failure(f"{name} answers {path} with {status}: {text[:300]}")
    query = "rule:x"
    status, _, text = processes["search"].request(f"/api/v1/search?q={query}", processes["search"].admin_token())
    if status != 421 or "role alert" not in text:
        raise Failure(f"rule: in a search was answered {status}: {text[:300]}")


def _killed(kafka, processes, made):
    receivers = [process for name, process in processes.items() if name.startswith("receive")]
    tokens = {id(process): process.admin_token() for process in receivers}

    def post(cluster, batch):
        receiver = random.choice(receivers)
        body = "\n".join(map(json.dumps, batch)).encode()
        try:
            return receiver.request(f"/ingest/audit/{cluster}", tokens[id(receiver)], body)[0] == 200
        except OSError:
            return False

    def produce(_, batch):
        kafka.produce("audit", map(json.dumps, batch))
        return True
    streams = [Stream(made, cluster, post) for cluster in CLUSTERS] + [Stream(made, IN_PLACE, produce)]
    for stream in streams:
        stream.start()
    kills = Counter()
    try:
        for number in range(ROUNDS):
            for name in random.sample(sorted(processes), len(processes)):
                time.sleep(random.uniform(0.2, 2))
                processes[name].kill()
                time.sleep(random.choice((0, 0.3, 3)))
                processes[name].start()
                kills[PROCESSES[name]] += 1
            if number == 0:
                _taken_for_dead(processes["detect-2"])
            if number == 1:
                kafka.kill()
                kafka.start()
    finally:
        for stream in streams:
            stream.stopping.set()
        for stream in streams:
            stream.join(90)
    if broken := [stream.broken for stream in streams if stream.broken or stream.is_alive()]:
        raise Failure(f"the senders themselves failed: {broken[0]}")
    events = sum(map(len, made.ids.values()))
    return f"{events} events, batches repeated {sum(stream.repeated for stream in streams)}, kills {dict(kills)}"


def _taken_for_dead(process):
    """The others take over what it detected; what it had read and not passed on must not be passed on twice when it goes on."""
    process.server.process.send_signal(signal.SIGSTOP)
    time.sleep(SESSION_S + 3)
    process.server.process.send_signal(signal.SIGCONT)


def _exactly_once(processes, made):
    wanted = Counter(event for ids in made.ids.values() for event in ids)
    search = processes["search"]

    def all_found():
        return all(search.get("/api/v1/search", q=f"cluster:{cluster}", limit=1)["total"]["value"] >= len(ids)
                   for cluster, ids in made.ids.items())
    wait_until(f"{len(wanted)} events by search", all_found, CATCH_UP_S, 1, server=search.server)
    found = Counter(hit["event"]["auditID"] for cluster in made.ids for hit in search.search(f"cluster:{cluster}"))
    if found != wanted:
        raise Failure(f"{len(wanted)} events, but {len(wanted - found)} are missing and {sum((found - wanted).values())} surplus")
    return f"{len(wanted)} events"


def _alerted(processes, made):
    """Alerts by rule and person: how often each occurred."""
    wanted = Counter({("exec", attacker): 1 for attacker in made.attackers})
    for user in made.bursts:
        wanted += Counter({("Marked often", user): 1, ("Unmarked after marked", user): 1, ("Marked", user): BURST, ("Unmarked", user): 1})
    titles = {"Marked often", "Unmarked after marked", "Marked too often", "Marked", "Unmarked"}
    alert = processes["alert"]

    def listed():
        found, alerts = Counter(), 0
        for one in alert.alerts():
            user = one["labels"].get("user.name") or one["labels"].get("user.username")
            title = one["title"] if one["title"] in titles else "exec" if user in made.attackers else None
            if title:
                found[title, user] += one["count"]
                alerts += 1
        return found, alerts
    try:
        wait_until("all occurrences", lambda: not wanted - listed()[0], CATCH_UP_S, 2, server=alert.server)
    except Failure:
        missing = wanted - listed()[0]
        raise Failure(f"{len(missing)} of {len(wanted)} are missing or too low, such as {list(missing.items())[:4]}") from None
    time.sleep(5)
    found, alerts = listed()
    if found != wanted or alerts != len(wanted):
        surplus = found - wanted
        raise Failure(f"{alerts} alerts instead of {len(wanted)}, too often {list(surplus.items())[:4]}")
    return f"{alerts} alerts, {sum(found.values())} occurrences"


def _told(processes, hook):
    due = {one["id"] for one in processes["alert"].alerts(level="medium")}

    def told():
        found = {}
        for post in hook.received():
            headers = {name.lower(): value for name, value in post.headers.items()}
            for one in post.json()["alerts"]:
                found.setdefault(one["watchbell"]["alert_id"], set()).add(headers["webhook-id"])
        return found
    wait_until(f"{len(due)} alerts by webhook", lambda: due <= set(told()), 60, 1)
    often = {one: ids for one, ids in told().items() if len(ids) != 1}
    if often:
        raise Failure(f"{len(often)} alerts were told under several ids: {list(often.items())[:2]}")
    return f"{len(due)} alerts"


def _no_lag(kafka, processes):
    def lags():
        held = [process.get("/api/v1/status")["share"]["lag"] for name, process in processes.items() if name.startswith("detect")]
        return held + [processes["search"].get("/api/v1/status")["index"]["lag"], processes["alert"].get("/api/v1/status")["detect"]["lag"]]
    try:
        wait_until("no lag", lambda: not any(lags()), 40, 1)
    except Failure:
        raise Failure(f"lag of detect-1 to 3, search, alert: {lags()}") from None
    rows = [line.split() for line in kafka.group(f"{GROUP}-detect").splitlines() if line.split()[:1] == [f"{GROUP}-detect"]]
    if len(rows) < PARTITIONS or any(row[5] not in ("0", "-") for row in rows):
        raise Failure(f"Kafka's tool says of the group: {[(row[1], row[2], row[5]) for row in rows]}")
    for name, process in processes.items():
        if lost := re.findall(r".*(?:were deleted from the topic|begins anew|ends before messages).*", process.log()):
            raise Failure(f"{name} speaks of losses: {lost[0][:300]}")
