"""What reached the mail server and the HTTP receiver, compared with the alerts that are listed."""

import re
import time

from processes import Failure
from smtp import text_of
from watchbell import MAIL_TO

DEADLINE_S = 60
ALERTING_LEVELS = ("medium", "high", "critical")


def checks(watchbell, mail, hook, alerts, kills):
    """Names and actions. `kills` is how many attempts may have been repeated, because they were in flight."""
    due = {alert["id"]: alert for alert in alerts if alert["level"] in ALERTING_LEVELS}
    return [
        ("mail: every alert arrived", lambda: _arrived(due, lambda: "\n".join(map(text_of, mail.messages())))),
        ("webhook: every alert arrived", lambda: _arrived(due, lambda: "\n".join(post.body.decode() for post in hook.received()))),
        ("mail: addressed as configured", lambda: _addressed(mail.messages())),
        ("mail: one message for one id, and each alert told once", lambda: _told_once(due, _mails(mail), kills)),
        ("webhook: one message for one id, and each alert told once", lambda: _told_once(due, _posts(hook), kills)),
        ("delivery: the server's own record agrees", lambda: _recorded(watchbell, due)),
    ]


def _arrived(due, read):
    deadline = time.monotonic() + DEADLINE_S
    while (missing := _missing(due, read())) and time.monotonic() < deadline:
        time.sleep(1)
    if missing:
        raise Failure(f"{len(missing)} of {len(due)} alerts missing: {sorted({alert['title'] for alert in missing})}")
    return f"{len(due)} alerts"


def _missing(due, text):
    return [alert for alert in due.values() if alert["id"] not in text]


def _addressed(messages):
    wrong = [message["to"] for message in messages if MAIL_TO not in str(message["to"])]
    if wrong or not messages:
        raise Failure(f"{len(messages)} messages; recipients {wrong[:3]}")


def _mails(mail):
    """Message id and alerts of each mail, repeated ones too."""
    found = []
    for message in mail.messages():
        reply_to = re.findall(r"<alert\.([^@>]+)@", str(message["references"] or ""))
        found.append((str(message["message-id"]), frozenset(reply_to) | frozenset(re.findall(r"\b[0-9a-f]{32}\b", text_of(message)))))
    return found


def _posts(hook):
    found = []
    for post in hook.received():
        body, headers = post.json(), {name.lower(): value for name, value in post.headers.items()}
        if headers.get("webhook-id") != body["watchbell"]["delivery_id"] or not headers.get("webhook-timestamp"):
            raise Failure(f"headers do not name the message: {headers}")
        found.append((headers["webhook-id"], frozenset(alert["watchbell"]["alert_id"] for alert in body["alerts"])))
    return found


def _told_once(due, messages, kills):
    by_id = {}
    for message_id, about in messages:
        if by_id.setdefault(message_id, about) != about:
            raise Failure(f"two different messages have the id {message_id}")
    repeated = len(messages) - len(by_id)
    if repeated > kills:
        raise Failure(f"{repeated} messages were repeated, but watchbell was killed only {kills} times")
    for alert in due.values():
        told = sum(alert["id"] in about for about in by_id.values())
        if told != 1:
            raise Failure(f"{told} messages tell of {alert['title']}: {alert['first_summary']}")
    return f"{len(by_id)} messages, {repeated} repeated"


def _recorded(watchbell, due):
    attempts = 0
    for alert in due.values():
        # A digest waits for its time, hours later: it tells of repetitions.
        deliveries = [d for d in watchbell.get(f"/api/v1/alerts/{alert['id']}")["deliveries"] if not d["digest"]]
        states = sorted((delivery["receiver"], delivery["state"]) for delivery in deliveries)
        if states != [("collector", "sent"), ("oncall-mail", "sent")]:
            raise Failure(f"{alert['title']}: {states}")
        attempts += sum(len(delivery["attempts"]) for delivery in deliveries)
    return f"{attempts} attempts"
