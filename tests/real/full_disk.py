"""A disk that fills up: what is answered is kept, what cannot be kept is refused with a time to come again, and
when there is room again all goes on by itself."""

import ctypes
import json
import os
import threading
import time
import uuid

from processes import Failure, wait_until

CLUSTER = "full"
DISK_MIB = 64
SETTINGS = """\
journal:
  segment_size: 1MiB
  min_free_disk: 2MiB
index:
  heap: 16MiB
"""
BATCH_EVENTS = 20
USERS = 5  # so many alerts, with many occurrences each
REFUSALS = (429, 503)
# of mount(2), umount(2) and unshare(2)
MS_REC, MS_PRIVATE, MNT_DETACH, CLONE_NEWNS = 0x4000, 1 << 18, 2, 0x20000
_libc = ctypes.CDLL(None, use_errno=True)


class SmallDisk:
    """A tmpfs of its own, with a file that takes all of its room."""

    def __init__(self, directory):
        self.path = directory
        self.path.mkdir()
        # Mounts of this process and its children end with them, however they end.
        self._try(_libc.unshare(CLONE_NEWNS))
        self._try(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
        self._try(_libc.mount(b"tmpfs", bytes(self.path), b"tmpfs", 0, f"size={DISK_MIB}m".encode()))
        self.data, self.ballast = self.path / "data", self.path / "ballast"

    @staticmethod
    def _try(result):
        if result != 0:
            raise PermissionError(f"cannot mount a tmpfs: {os.strerror(ctypes.get_errno())}")

    def fill(self):
        """Until not a byte is left."""
        with open(self.ballast, "ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass

    def free_bytes(self):
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def empty(self):
        self.ballast.unlink()

    def unmount(self):
        _libc.umount2(bytes(self.path), MNT_DETACH)


class Sender:
    """Sends batch after batch as an API server does: what is refused is sent again later, never given up."""

    def __init__(self, watchbell):
        self.watchbell, self.token = watchbell, watchbell.admin_token()
        self.batches, self.answered, self.waiting, self.refusals, self.wrong = 0, [], [], [], []
        self.unreachable = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        while not self.stopping.is_set():
            self.batches += 1
            self._send(_batch(self.batches))
            time.sleep(0.05)

    def _send(self, events):
        body = "".join(json.dumps(event) + "\n" for event in events).encode()
        try:
            status, headers, text = self.watchbell.request(f"/ingest/audit/{CLUSTER}", self.token, body)
        except OSError:
            self.unreachable += 1
            self.waiting.append(events)
            return
        if status == 200:
            self.answered += events
            return
        self.waiting.append(events)
        self.refusals.append(status)
        after = headers.get("Retry-After") or ""
        if status not in REFUSALS or not after.isdigit() or int(after) < 1:
            self.wrong.append(f"{status}, Retry-After {after!r}: {text[:200]}")

    def stop(self):
        self.stopping.set()
        self.thread.join(30)

    def repeat(self):
        """Sends again what was not answered."""
        waiting, self.waiting = self.waiting, []
        for events in waiting:
            self._send(events)
        return not self.waiting


def _batch(number):
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    return [_event(number, index, f"{now}.{index:06}Z") for index in range(BATCH_EVENTS)]


def _event(number, index, at):
    """The first of a batch is a command run in a pod."""
    ref, uri = {"resource": "configmaps", "namespace": "shop", "name": "web", "apiVersion": "v1"}, "/api/v1/namespaces/shop/configmaps/web"
    if index == 0:
        ref = {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": "web-0", "apiVersion": "v1"}
        uri = "/api/v1/namespaces/shop/pods/web-0/exec?command=id&container=web"
    return {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": str(uuid.uuid4()), "stage": "ResponseComplete",
        "requestURI": uri, "verb": "get", "user": {"username": f"user-{number % USERS}", "groups": ["system:authenticated"]},
        "sourceIPs": ["203.0.113.9"], "userAgent": "kubectl/v1.35.4", "objectRef": ref,
        "responseStatus": {"metadata": {}, "code": 101 if index == 0 else 200},
        "requestReceivedTimestamp": at, "stageTimestamp": at, "annotations": {"example.com/noise": os.urandom(200).hex()},
    }


def checks(watchbell, disk, hook):
    """Names and actions, in order, sharing one sender."""
    state = {}

    def begin():
        watchbell.start()
        state["sender"] = Sender(watchbell)
        wait_until("answered batches", lambda: len(state["sender"].answered) >= 10 * BATCH_EVENTS, 30, server=watchbell.server)

    return [
        ("full disk: takes events while there is room", begin),
        ("full disk: refuses with a time to come again", lambda: _refuses(state["sender"], watchbell, disk)),
        ("full disk: goes on by itself when there is room", lambda: _recovers(state["sender"], disk)),
        ("full disk: killed while full, started with room", lambda: _killed(state["sender"], watchbell, disk)),
        ("full disk: every event is there exactly once", lambda: _complete(state["sender"], watchbell)),
        ("full disk: every alert arrived", lambda: _alerted(state["sender"], watchbell, hook)),
        ("full disk: ends when told to", lambda: watchbell.stop()),
    ]


def _refuses(sender, watchbell, disk):
    disk.fill()
    refused = len(sender.refusals)
    wait_until("refusals", lambda: len(sender.refusals) >= refused + 20, 30, server=watchbell.server)
    time.sleep(3)
    disk.fill()
    watchbell.get("/api/v1/search", q=f"cluster:{CLUSTER}", limit=1)
    if watchbell.request("/healthz")[0] != 200:
        raise Failure("a full disk is no reason to be killed, but /healthz fails")
    if sender.wrong:
        raise Failure(f"{len(sender.wrong)} wrong answers, such as {sender.wrong[0]}")
    return f"{len(sender.answered)} events answered, {len(sender.refusals)} bodies refused with {sorted(set(sender.refusals))}, {disk.free_bytes()} bytes free"


def _recovers(sender, disk):
    disk.empty()
    answered, started = len(sender.answered), time.monotonic()
    wait_until("answered batches", lambda: len(sender.answered) > answered, 30, 0.05)
    seconds = time.monotonic() - started
    sender.stop()
    wait_until("answers to all that was refused", sender.repeat, 30, 0.5)
    return f"after {seconds:.1f} s"


def _killed(sender, watchbell, disk):
    again = Sender(watchbell)
    again.batches = 100_000
    disk.fill()
    wait_until("refusals", lambda: len(again.refusals) >= 5, 30, server=watchbell.server)
    watchbell.kill()
    again.stop()
    disk.empty()
    watchbell.start()
    wait_until("answers to all that was refused", again.repeat, 30, 0.5)
    sender.answered += again.answered
    if again.wrong:
        raise Failure(f"{len(again.wrong)} wrong answers, such as {again.wrong[0]}")


def _complete(sender, watchbell):
    wanted = sorted(event["auditID"] for event in sender.answered)
    watchbell.wait_for_events(len(wanted), CLUSTER)
    found = sorted(hit["event"]["auditID"] for hit in watchbell.search(f"cluster:{CLUSTER}"))
    if found != wanted:
        raise Failure(f"{len(wanted)} events, {len(found)} found; missing {len(set(wanted) - set(found))}, "
                      f"surplus {len(found) - len(set(found) & set(wanted))}")
    return f"{len(wanted)} events"


def _alerted(sender, watchbell, hook):
    wanted = sum(event["objectRef"].get("subresource") == "exec" for event in sender.answered)

    def listed():
        alerts = [alert for alert in watchbell.alerts(level="medium") if alert["cluster"] == CLUSTER]
        return alerts, sum(alert["count"] for alert in alerts)
    wait_until(f"{wanted} occurrences", lambda: listed()[1] >= wanted, 30, 0.5)
    alerts, occurrences = listed()
    if (len(alerts), occurrences) != (USERS, wanted):
        raise Failure(f"{USERS} alerts with {wanted} occurrences expected, but there are {len(alerts)} with {occurrences}")

    def delivered():
        text = "\n".join(post.body.decode() for post in hook.received())
        return all(alert["id"] in text for alert in alerts)
    wait_until(f"{len(alerts)} alerts by webhook", delivered, 60, 1)
    return f"{len(alerts)} alerts, {occurrences} occurrences"
