"""The scenario from start to end, and what must be true afterwards."""

import base64
import json
import re
import time
from collections import Counter

import delivery
import manifests
import steps
import work
from detections import rule_ids
from match import matches, query
from processes import EXPECTED, Failure, wait_until
from watchbell import CLUSTER

SETTLE_S = 3

# Before these steps watchbell is told to stop or killed, and later started again: meanwhile events wait in the
# API server. And the certificate is renewed, and the mail server is dead for a while.
INTERRUPTIONS = {
    "anonymous asks for secrets": ("watchbell: a renewed certificate serves new connections", lambda scenario: scenario.watchbell.renew()),
    "contractor may not list secrets": ("watchbell: SIGTERM", lambda scenario: scenario.watchbell.stop()),
    "developer may not bind cluster-admin": ("watchbell: start after SIGTERM", lambda scenario: scenario.watchbell.start()),
    "pod on the host's network": ("watchbell: SIGKILL", lambda scenario: scenario.watchbell.kill()),
    "deployment made privileged by a JSON patch": ("watchbell: start after SIGKILL", lambda scenario: scenario.watchbell.start()),
    "exec opens a reverse shell": ("mail: the server is gone", lambda scenario: scenario.mail.stop()),
    "Pod Security enforced": ("watchbell: SIGKILL and start at once",
                              lambda scenario: (scenario.watchbell.kill(), scenario.watchbell.start())),
    "admission policy audits": ("mail: what failed meanwhile waits, and the webhook has it", lambda scenario: scenario.mail_waits()),
    "webhook configuration added": ("mail: the server is back", lambda scenario: scenario.mail.start()),
}
KILLS = 2
TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.eyJ|PRIVATE KEY")


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
        for name, action in manifests.checks(self.cluster, self.watchbell):
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
        self.watchbell.wait_for_events(len(events))
        return f"{len(events)} events"

    # ---- what must be seen ----

    def _attack(self):
        for step in steps.ALL:
            if step.name in INTERRUPTIONS:
                name, interrupt = INTERRUPTIONS[step.name]
                self.report.check(name, lambda: interrupt(self))
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
        self.report.check("search: no credential was stored", self._no_credential_stored)
        for step in self.acted:
            self.report.check(f"search: {step.name}", lambda: self._find(step))
        alerts = self.watchbell.alerts()
        linked = {alert["id"]: self.watchbell.alert_events(alert["id"]) for alert in alerts}
        for step in self.acted:
            for detection in step.alerts:
                self.report.check(f"alert: {step.name}: {detection}",
                                  lambda: self._alerted(detection, alerts, linked, self.ids.get(step.name, set())))
        self.report.check("alerts: none of level medium or above but by the steps", lambda: self._nothing_else(alerts, linked))
        self.report.check("alerts: every match counted exactly once", lambda: self._counted_once(alerts))
        for name, action in delivery.checks(self.watchbell, self.mail, self.hook, alerts, KILLS):
            self.report.check(name, action)
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
        truth, found = Counter(map(identity, self.events)), Counter()
        by_identity = {identity(event): event for event in self.events}
        for hit in self.watchbell.search(f"cluster:{CLUSTER}"):
            found[identity(hit["event"])] += 1
            original = by_identity.get(identity(hit["event"]))
            if original is not None and not _same(original, hit["event"]):
                before, after = json.dumps(original)[:1500], json.dumps(hit["event"])[:1500]
                raise Failure(f"an event was changed: {before} became {after}")
        missing, surplus = truth - found, found - truth
        if missing or surplus:
            raise Failure(f"{sum(missing.values())} missing {list(missing)[:3]}, "
                          f"{sum(surplus.values())} surplus {list(surplus)[:3]}")
        return f"{len(self.events)} events"

    def _no_credential_stored(self):
        """What people, pods and Secrets hold must not be in any event, in clear or in base64."""
        secrets = [*self.cluster.tokens.values(), *(path.read_text() for path in self.cluster.pod_tokens.iterdir()), work.DATABASE_URL]
        secrets += [base64.b64encode(secret.encode()).decode().rstrip("=") for secret in secrets]
        for hit in self.watchbell.search(f"cluster:{CLUSTER}"):
            text = json.dumps(hit["event"])
            if any(secret in text for secret in secrets) or TOKEN.search(text):
                raise Failure(f"a credential is in {text[:1500]}")
        return f"{len(secrets)} credentials looked for"

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

    def mail_waits(self):
        """While the mail server is gone, its messages are tried again and again, and others are not held up."""
        (rule,) = rule_ids("exec: reverse shell")

        def tried():
            alerts = [alert for alert in self.watchbell.alerts() if alert["rule_id"] == rule]
            record = {d["receiver"]: d for d in self.watchbell.get(f"/api/v1/alerts/{alerts[0]['id']}")["deliveries"]} if alerts else {}
            attempts = record["oncall-mail"]["attempts"] if record else []
            if record and record["oncall-mail"]["state"] == "retry" and record["collector"]["state"] == "sent" and len(attempts) > 1:
                return f"{len(attempts)} attempts, last: {attempts[-1]['outcome']}"
            return None
        return wait_until("a delivered webhook and a mail that is tried again", tried, 30, 0.5)

    def _nothing_else(self, alerts, linked):
        """Every alert of level medium or above is about a step, or about the pod that the manifests' check has refused."""
        known = set().union(*self.ids.values())
        known |= {hit["id"] for hit in self.watchbell.search(f"cluster:{CLUSTER} AND objectRef.namespace:{manifests.NAMESPACE}")}
        others = [alert for alert in alerts if alert["level"] in delivery.ALERTING_LEVELS and not linked[alert["id"]] & known]
        if others:
            raise Failure(f"{len(others)} others: " + "; ".join(f"{a['title']}: {a['first_summary']}" for a in others[:10]))

    def _counted_once(self, alerts):
        """The occurrences of the alerts are the matches of their rules: none lost, none counted twice."""
        wanted = self.watchbell.evaluate([hit["event"] for hit in self.watchbell.search(f"cluster:{CLUSTER}")])
        counted = Counter()
        for alert in alerts:
            counted[alert["rule_id"]] += alert["count"] if alert["cluster"] == CLUSTER else 0
        wrong = {rule: (wanted[rule], counted[rule]) for rule in wanted | counted if wanted[rule] != counted[rule]}
        if wrong:
            raise Failure(f"rule: matches, occurrences: {wrong}")
        return f"{sum(wanted.values())} occurrences of {len(wanted)} rules in {len(alerts)} alerts"

    def _nothing_given_up(self):
        metrics = self.cluster.http(self.cluster.tokens["olivia"], "GET", "/metrics").body
        lost = [line for line in metrics.splitlines() if line.startswith("apiserver_audit_error_total") and not line.endswith(" 0")]
        if lost:
            raise Failure(f"the API server dropped audit events: {lost}")

    def _no_secrets_logged(self):
        log = self.watchbell.log()
        secrets = {"SMTP password": self.mail.password, "admin token": self.watchbell.admin_token(),
                   "cluster token": self.cluster_token()}
        seen = [name for name, value in secrets.items() if value in log]
        if seen:
            raise Failure(f"the log contains: {seen}")

    def cluster_token(self):
        for line in self.watchbell.with_token.read_text().splitlines():
            if line.strip().startswith("token:"):
                return line.split(":", 1)[1].strip()
        raise Failure("the webhook kubeconfig has no token")


def identity(event):
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
