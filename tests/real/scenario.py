"""The scenario from start to end, and what must be true afterwards."""

import json
import time
from collections import Counter

import manifests
import steps
import work
from detections import rule_ids
from match import matches, query
from processes import EXPECTED, Failure, wait_until
from smtp import text_of
from watchbell import CLUSTER, MAIL_TO

SETTLE_S = 3
SEARCH_DEADLINE_S = 30
DELIVERY_DEADLINE_S = 60
ALERTING_LEVELS = ("medium", "high", "critical")

# Before these steps watchbell is told to stop or killed, and later started again: meanwhile events wait in the
# API server.
INTERRUPTIONS = {
    "contractor may not list secrets": ("SIGTERM", lambda watchbell: watchbell.stop()),
    "developer may not bind cluster-admin": ("start after SIGTERM", lambda watchbell: watchbell.start()),
    "pod on the host's network": ("SIGKILL", lambda watchbell: watchbell.kill()),
    "deployment made privileged by a JSON patch": ("start after SIGKILL", lambda watchbell: watchbell.start()),
    "Pod Security enforced": ("SIGKILL and start at once", lambda watchbell: (watchbell.kill(), watchbell.start())),
}


class Scenario:
    def __init__(self, report, cluster, watchbell, mail, hook):
        self.report, self.cluster, self.watchbell, self.mail, self.hook = report, cluster, watchbell, mail, hook
        self.acted = []   # steps that went as they should
        self.events = []  # what the API server wrote
        self.ids = {}     # step name -> ids of its events

    def run(self):
        self._ordinary()
        self._attack()
        self._afterwards()

    # ---- a healthy cluster ----

    def _ordinary(self):
        check = self.report.check
        check("cluster: bootstrap", lambda: work.bootstrap_done(self.cluster))
        for part in work.PARTS:
            check("work: " + part.__name__.replace("_", " "), lambda part=part: part(self.cluster))
        check("work: every event so far is searchable", self._wait_for_all_events)
        check("work: no alert of level medium or above", self._no_alerts)
        for name, action in manifests.checks(self.cluster):
            check(name, action)

    def _no_alerts(self):
        time.sleep(SETTLE_S)
        alerts = self.watchbell.alerts(level="medium")
        if alerts:
            said = "; ".join(f"[{a['level']}] {a['title']}: {a['first_summary']} (x{a['count']})" for a in alerts[:20])
            raise Failure(f"{len(alerts)} alerts: {said}")
        if self.mail.messages() or self.hook.received():
            raise Failure("no alert is listed, but a notification was sent")
        return f"{len(self.watchbell.alerts())} below"

    def _wait_for_all_events(self):
        time.sleep(SETTLE_S)
        events, _ = self.cluster.audit_events()

        def indexed():
            return self.watchbell.get("/api/v1/search", q=f"cluster:{CLUSTER}", limit=1)["total"]["value"] >= len(events)
        wait_until(f"{len(events)} events by search", indexed, SEARCH_DEADLINE_S, 0.5)
        return f"{len(events)} events"

    # ---- what must be seen ----

    def _attack(self):
        for step in steps.ALL:
            if step.name in INTERRUPTIONS:
                name, interrupt = INTERRUPTIONS[step.name]
                self.report.check(f"watchbell: {name}", lambda: interrupt(self.watchbell) and None)
            try:
                step.act(self.cluster)
                self.acted.append(step)
            except EXPECTED as failure:
                self.report.fail(f"act: {step.name}", failure)

    def _afterwards(self):
        # From here on the API server's log does not grow, and is the truth.
        self.cluster.check_alive()
        self.cluster.quiesce()
        time.sleep(SETTLE_S)
        self.events, _ = self.cluster.audit_events()
        self.report.check("search: every event is there exactly once, unchanged", self._exactly_once)
        for step in self.acted:
            self.report.check(f"search: {step.name}", lambda: self._find(step))
        alerts = self.watchbell.alerts()
        linked = {alert["id"]: self.watchbell.alert_events(alert["id"]) for alert in alerts}
        for step in self.acted:
            for detection in step.alerts:
                self.report.check(f"alert: {step.name}: {detection}",
                                  lambda: self._alerted(detection, alerts, linked, self.ids.get(step.name, set())))
        self._check_delivery(alerts)
        self.report.check("API server: no audit event was given up", self._nothing_given_up)
        self.report.check("watchbell: no password or token in its log", self._no_secrets_logged)
        self.report.check("watchbell: ends when told to", lambda: self.watchbell.stop())

    def _find(self, step):
        """The search for a step finds as many events as the API server wrote."""
        wanted = sum(matches(event, step.event) for event in self.events)
        if wanted < step.count:
            raise Failure(f"the API server wrote {wanted} such events, expected {step.count}: {step.event}")
        text = f"cluster:{CLUSTER} AND {query(step.event)}"
        hits = self.watchbell.search(text)
        self.ids[step.name] = {hit["id"] for hit in hits}
        if len(hits) != wanted:
            raise Failure(f"expected {wanted} hits, got {len(hits)} for {text}")
        return f"{wanted} found"

    def _exactly_once(self):
        self._wait_for_all_events()
        truth, found = Counter(map(_identity, self.events)), Counter()
        by_identity = {_identity(event): event for event in self.events}
        for hit in self.watchbell.search(f"cluster:{CLUSTER}"):
            found[_identity(hit["event"])] += 1
            original = by_identity.get(_identity(hit["event"]))
            if original is not None and not _same(original, hit["event"]):
                before, after = json.dumps(original)[:1500], json.dumps(hit["event"])[:1500]
                raise Failure(f"an event was changed: {before} became {after}")
        missing, surplus = truth - found, found - truth
        if missing or surplus:
            raise Failure(f"{sum(missing.values())} missing {list(missing)[:3]}, "
                          f"{sum(surplus.values())} surplus {list(surplus)[:3]}")
        return f"{len(self.events)} events"

    def _alerted(self, detection, alerts, linked, ids):
        """There is an alert by one of the detection's rules that is linked to one of these events."""
        rules = rule_ids(detection)
        if not rules:
            raise Failure("detections.py names no shipped rule for it")
        of_rule = [alert for alert in alerts if alert["rule_id"] in rules]
        for alert in of_rule:
            if linked[alert["id"]] & ids:
                return f"[{alert['level']}] {alert['title']}"
        others = sorted({alert["title"] for alert in alerts if linked[alert["id"]] & ids})
        raise Failure(f"expected an alert by {rules}; {len(of_rule)} such alerts, none about this step; its alerts: {others}")

    def _check_delivery(self, alerts):
        """Every alert of level medium or above reaches the mail server and the HTTP receiver."""
        due = {alert["id"]: alert for alert in alerts if alert["level"] in ALERTING_LEVELS}

        def undelivered(text):
            return [alert for alert in due.values() if alert["id"] not in text]

        def check(read):
            def act():
                deadline = time.monotonic() + DELIVERY_DEADLINE_S
                while (missing := undelivered(read())) and time.monotonic() < deadline:
                    time.sleep(1)
                if missing:
                    raise Failure(f"{len(missing)} of {len(due)} alerts missing: {sorted({a['title'] for a in missing})}")
                return f"{len(due)} alerts"
            return act

        self.report.check("mail: every alert arrived", check(lambda: "\n".join(map(text_of, self.mail.messages()))))
        self.report.check("webhook: every alert arrived",
                          check(lambda: "\n".join(request.body.decode() for request in self.hook.received())))
        self.report.check("mail: addressed as configured", self._addressed)

    def _addressed(self):
        messages = self.mail.messages()
        wrong = [message["to"] for message in messages if MAIL_TO not in str(message["to"])]
        if wrong or not messages:
            raise Failure(f"{len(messages)} messages; recipients {wrong[:3]}")
        return f"{len(messages)} messages, {len(self.hook.received())} webhook posts"

    def _nothing_given_up(self):
        metrics = self.cluster.http(self.cluster.tokens["olivia"], "GET", "/metrics").body
        lost = [line for line in metrics.splitlines() if line.startswith("apiserver_audit_error_total") and not line.endswith(" 0")]
        if lost:
            raise Failure(f"the API server dropped audit events: {lost}")

    def _no_secrets_logged(self):
        log = self.watchbell.log()
        secrets = {"SMTP password": self.mail.password, "admin token": (self.watchbell.data / "admin.token").read_text().strip(),
                   "cluster token": self.cluster_token()}
        seen = [name for name, value in secrets.items() if value in log]
        if seen:
            raise Failure(f"the log contains: {seen}")

    def cluster_token(self):
        for line in self.cluster.audit_webhook.read_text().splitlines():
            if line.strip().startswith("token:"):
                return line.split(":", 1)[1].strip()
        raise Failure("the webhook kubeconfig has no token")


def _identity(event):
    return event["auditID"], event["stage"], event["stageTimestamp"], event["requestURI"]


def _same(original, stored):
    """Equal, but for what was redacted. In a batch, events have no kind and apiVersion of their own."""
    if isinstance(original, dict) and original.get("apiVersion") == "audit.k8s.io/v1":
        original, stored = (_without_type(event) for event in (original, stored))
    if isinstance(stored, str) and stored.startswith("redacted:"):
        return True
    if isinstance(original, dict) and isinstance(stored, dict):
        return original.keys() == stored.keys() and all(_same(value, stored[key]) for key, value in original.items())
    if isinstance(original, list) and isinstance(stored, list):
        return len(original) == len(stored) and all(map(_same, original, stored))
    return original == stored


def _without_type(event):
    return {key: value for key, value in event.items() if key not in ("kind", "apiVersion")}
