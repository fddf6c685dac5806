"""The client libraries that applications send with: Elasticsearch's, OpenTelemetry's SDK, Fluentd's for Python and Go, and syslog's,
while watchbell is killed and restarted, and answers are lost."""

import contextlib
import random
import re
import time
from collections import Counter, namedtuple

import client_fields
from broker import unique
from client_programs import BulkClient, Writer, go_forward_client, log_with, otlp_client, python_forward_client, syslog_client
from processes import Failure, free_ports, wait_until
from proxy import Proxy

# By route, the cluster its messages belong to.
CLUSTERS = {route: f"by-{route}" for route in ("bulk", "http", "grpc", "forward", "syslog")}
# By client, its route.
ROUTES = {"bulk": "bulk", "stream": "bulk", "stream-without-id": "bulk", "otlp-http": "http", "otlp-grpc": "grpc",
          "fluent-python": "forward", "fluent-go": "forward", "syslog-handler": "syslog"}
# Those that send while watchbell is killed. Datagrams are lost then, and nobody expects otherwise.
THROUGHOUT = ("stream", "stream-without-id", "otlp-http", "otlp-grpc", "fluent-python", "fluent-go")
# Those of which each message is there once. Equal documents without an `_id` are several, and fluent-python is not answered.
ONCE = ("stream", "otlp-http", "otlp-grpc", "fluent-go")
# So long before and after it is killed messages are on their way.
ON_ITS_WAY_S = 2

SETTINGS = """\
syslog:
  listen_tcp: 127.0.0.1:{tcp}
  listen_udp: 127.0.0.1:{udp}
  cluster: {syslog}
forward:
  listen: 127.0.0.1:{forward}
  cluster: {forward_cluster}
"""


# How watchbell went away, and from when to when it was gone.
Interruption = namedtuple("Interruption", "how began ended")


class Ports:
    def __init__(self):
        self.tcp, self.udp, self.forward = free_ports(3)


def settings(ports):
    return SETTINGS.format(tcp=ports.tcp, udp=ports.udp, syslog=CLUSTERS["syslog"], forward=ports.forward,
                           forward_cluster=CLUSTERS["forward"])


class Run:
    """The clients, and when watchbell was away."""

    def __init__(self, watchbell, ports, directory, packages, go_program, logger):
        directory.mkdir()
        self.watchbell, self.ports, self.directory, self.logger = watchbell, ports, directory, logger
        self.packages, self.go_program = packages, go_program
        self.tokens = {route: watchbell.add_token(route, f"ingest:{CLUSTERS[route]}") for route in ("bulk", "http", "grpc")}
        self.clients, self.interruptions = self.make("", watchbell.url, ports.forward), []
        # those whose answers get lost, by way of a proxy
        self.unanswered = {}

    def make(self, suffix, url, forward_port):
        """One of each client, with each kind of credential."""
        token, authority = self.tokens["bulk"], self.watchbell.authority
        place = (self.directory, self.packages)
        elasticsearch = {"hosts": f"{url}/elasticsearch", "ca_certs": str(authority.cert)}
        clients = [
            BulkClient(f"bulk{suffix}", *place, {**elasticsearch, "bearer_auth": token}, "bulk", ids=False),
            BulkClient(f"stream{suffix}", *place, {**elasticsearch, "basic_auth": ["watchbell", token]}, "streaming_bulk", ids=True),
            BulkClient(f"stream-without-id{suffix}", *place, {**elasticsearch, "api_key": token}, "streaming_bulk", ids=False),
            otlp_client(f"otlp-http{suffix}", *place, url, authority, self.tokens["http"], "http/protobuf"),
            otlp_client(f"otlp-grpc{suffix}", *place, url, authority, self.tokens["grpc"], "grpc"),
            python_forward_client(f"fluent-python{suffix}", *place, forward_port),
            go_forward_client(f"fluent-go{suffix}", self.directory, self.go_program, forward_port),
            syslog_client(f"syslog-handler{suffix}", self.directory, self.ports.udp),
        ]
        return dict(zip(ROUTES, clients))

    def hits(self, route):
        return [hit["event"] for hit in self.watchbell.search(f"cluster:{CLUSTERS[route]}")]

    def wait(self, clients, timeout_s=30):
        """Until what clients sent has come; gives it all by client, as often as it came."""
        return {name: self.wait_for(ROUTES[name], client.sent, timeout_s, client) for name, client in clients.items()}

    def wait_for(self, route, messages, timeout_s=30, client=None):
        wanted = set(messages)

        def missing():
            return wanted - {event["message"] for event in self.hits(route)}
        try:
            wait_until("messages", lambda: not missing(), timeout_s, 0.5, server=self.watchbell.server)
        except Failure:
            lost = missing()
            said = f"\n{client.server.tail(5)}" if client else ""
            raise Failure(f"{len(lost)} of {len(wanted)} missing by {client.name if client else route}: "
                          f"{[text[:80] for text in list(lost)[:3]]}{said}") from None
        return self.counted(route, wanted)

    def counted(self, route, messages):
        """How often each of them came."""
        found = Counter(event["message"] for event in self.hits(route))
        return Counter({message: found[message] for message in messages})


def checks(run):
    """Names and actions, in order."""
    return [
        ("clients: each of them sends", lambda: _begin(run)),
        ("clients: the Elasticsearch client takes watchbell for what it knows, with each kind of credential", lambda: _recognised(run)),
        *client_fields.checks(run),
        ("clients: guessed passwords raise an alert, whoever sends them", lambda: _alerted(run)),
        ("clients: watchbell killed and restarted while they send", lambda: _interrupted(run)),
        ("clients: with _id, by OTLP and with acknowledgement every message is there exactly once", lambda: _exactly_once(run)),
        ("clients: without _id every document is there, twice only if watchbell was gone", lambda: _without_id(run)),
        ("clients: without acknowledgement only what is on its way when watchbell goes away is lost", lambda: _unacknowledged(run)),
        ("clients: datagrams come again after restarts", lambda: _datagrams(run)),
        ("clients: watchbell killed before it has answered: what is sent again is recognised", lambda: _unanswered(run)),
        ("clients: all end when told to", lambda: _end(run)),
    ]


def _begin(run):
    for client in run.clients.values():
        client.start()
        client.ordinary(50)
    run.wait(run.clients)


def _recognised(run):
    for name in ("bulk", "stream", "stream-without-id"):
        said, *_ = run.clients[name].confirmed()
        if not said["version"] or said["tagline"] != "You Know, for Search":
            raise Failure(f"{name} was told {said}")
        run.clients[name].wait_for_confirmation()


def _alerted(run):
    addresses = {name: f"203.0.113.{number}" for number, name in enumerate([*run.clients, "logger-tcp", "logger-udp"], 90)}
    for name, client in run.clients.items():
        client.send([client.record(message) for message in _break_in(addresses[name])])
    for message in _break_in(addresses["logger-tcp"]):
        log_with(run.logger, "--tcp", "--port", str(run.ports.tcp), "--tag", "sshd", message)
    for message in _break_in(addresses["logger-udp"]):
        log_with(run.logger, "--udp", "--port", str(run.ports.udp), "--rfc3164", "--tag", "sshd", message)

    def without():
        told = {value for alert in run.watchbell.alerts(level="medium") for value in alert["labels"].values()}
        return [name for name, address in addresses.items() if address not in told]
    try:
        wait_until("an alert for each client", lambda: not without(), 40, 0.5, server=run.watchbell.server)
    except Failure:
        raise Failure(f"no alert for what came by {', '.join(without())}") from None


def _break_in(address):
    """Somebody guesses passwords."""
    return [f"Failed password for invalid user {unique('user')} from {address} port 2222 ssh2" for _ in range(12)]


def _interrupted(run):
    sending = [run.clients[name] for name in THROUGHOUT]
    before = sum(len(client.sent) for client in sending)
    with contextlib.ExitStack() as writers:
        for client in sending:
            writers.enter_context(Writer(client))
        for how, stop in (("killed", run.watchbell.kill), ("stopped", run.watchbell.stop), ("killed", run.watchbell.kill)):
            time.sleep(ON_ITS_WAY_S + random.uniform(0, 1))
            began = time.monotonic()
            stop()
            time.sleep(random.uniform(0, 1.5))
            run.watchbell.start()
            run.interruptions.append(Interruption(how, began, time.monotonic()))
        time.sleep(ON_ITS_WAY_S)
    return f"{sum(len(client.sent) for client in sending) - before} messages"


def _exactly_once(run):
    run.clients["fluent-go"].wait_for_confirmation()
    run.clients["stream"].wait_for_confirmation()
    counts = run.wait({name: run.clients[name] for name in ONCE})
    for name, counted in counts.items():
        if often := [message for message, count in counted.items() if count > 1]:
            raise Failure(f"{len(often)} messages of {name} came more than once: {[text[:80] for text in often[:3]]}")
    for route in ("http", "grpc"):
        _nothing_else(run, route)
    return f"{sum(map(len, counts.values()))} messages"


def _nothing_else(run, route):
    """Only what was sent, and what the exporter itself logs about watchbell's absence."""
    sent = run.clients[f"otlp-{route}"].sent
    strange = [event["message"] for event in run.hits(route)
               if event["message"] not in sent and not str(event.get("log.logger")).startswith("opentelemetry.")]
    if strange:
        raise Failure(f"by {route} came what was never sent: {[text[:80] for text in strange[:3]]}")


def _without_id(run):
    client = run.clients["stream-without-id"]
    client.wait_for_confirmation()
    return _only_when_away(run, "stream-without-id", run.wait({"stream-without-id": client})["stream-without-id"])


def _unacknowledged(run):
    """What was written to a connection that broke off is lost, or sent again; the library itself sees a broken connection only when
    it sends the next record."""
    client = run.clients["fluent-python"]
    run.wait_for("forward", client.ordinary(20), client=client)
    return _only_when_away(run, "fluent-python", run.counted("forward", client.sent))


def _only_when_away(run, name, counted):
    """How many messages were lost or came twice; all of them were sent about when watchbell was away."""
    sent, kinds = run.clients[name].sent, Counter()
    for message, count in counted.items():
        if count == 1:
            continue
        near = [one.how for one in run.interruptions if one.began - ON_ITS_WAY_S < sent[message] < one.ended + ON_ITS_WAY_S]
        if not near:
            raise Failure(f"{message[:80]!r} of {name} came {count} times though watchbell was there")
        kinds[f"{'twice' if count else 'lost'} ({near[0]})"] += 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _datagrams(run):
    client = run.clients["syslog-handler"]
    run.wait_for("syslog", client.ordinary(20), client=client)


def _unanswered(run):
    """Everything is stored, and watchbell dead, before the answers are lost: each client sends all of it again, to another process."""
    proxies = Proxy(run.watchbell.port), Proxy(run.ports.forward)
    made = run.make("-unanswered", f"https://127.0.0.1:{proxies[0].port}", proxies[1].port)
    run.unanswered = {name: made[name] for name in (*ONCE, "stream-without-id")}
    for client in run.unanswered.values():
        client.start()
        client.ordinary(5)
    run.wait(run.unanswered)
    for proxy in proxies:
        proxy.keep_answers()
    # acknowledged one by one, so the others of more would not be stored
    kept = {name: client.ordinary(1 if name == "fluent-go" else 20) for name, client in run.unanswered.items()}
    run.wait(run.unanswered)
    run.watchbell.kill()
    run.watchbell.start()
    for proxy in proxies:
        proxy.lose_answers()
    return _recognised_copies(run, kept)


def _recognised_copies(run, kept):
    expected = sum(len(kept[name]) for name in ONCE)
    wait_until(f"{expected} copies", lambda: _copies(run) >= expected, 20, server=run.watchbell.server)
    run.unanswered["stream-without-id"].wait_for_confirmation()
    counts = run.wait(run.unanswered)
    for name, messages in kept.items():
        # what has no _id cannot be told from one more document of the same content
        wanted = 2 if name == "stream-without-id" else 1
        if wrong := [message for message in messages if counts[name][message] != wanted]:
            raise Failure(f"{len(wrong)} messages of {name} came {counts[name][wrong[0]]} times, not {wanted}")
    return f"{_copies(run)} copies"


def _copies(run):
    metrics = run.watchbell.request("/metrics", run.watchbell.admin_token())[2]
    return int(re.search(r"^watchbell_ingest_duplicate_events_total (\d+)", metrics, re.MULTILINE).group(1))


def _end(run):
    for client in [*run.clients.values(), *run.unanswered.values()]:
        client.end()
    run.watchbell.stop()
