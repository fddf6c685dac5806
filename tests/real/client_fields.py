"""What the clients say of a message besides its text, and where it is found."""

import logging
import re
import socket
import time

from broker import unique
from client_programs import log_with
from processes import Failure

UNUSUAL = "Grüße – 你好 🎉\n\tat a.B.c(D.java:1) \"quoted\" back\\slash </script>"


def checks(run):
    """Names and actions, in order."""
    return [
        ("clients: documents of the Elasticsearch client arrive as they are", lambda: _documents(run)),
        ("clients: severity, resource, attributes and stack traces of OpenTelemetry's SDK arrive", lambda: _log_records(run)),
        ("clients: records of Fluentd's loggers arrive with their values and times", lambda: _records(run)),
        ("clients: util-linux's logger says host, program, level and more, over UDP and TCP, in the old format and the new",
         lambda: _logger(run)),
        ("clients: messages of Python's SysLogHandler arrive without the NUL that ends them", lambda: _syslog_handler(run)),
    ]


def _same(client, event, wanted):
    for field, value in wanted.items():
        if event.get(field) != value:
            raise Failure(f"by {client}, {field} of {event['message'][:60]!r} is {event.get(field)!r}, not {value!r}")


def _found(run, route, message):
    """The one event with this message."""
    run.wait_for(route, [message], 15)
    events = [event for event in run.hits(route) if event["message"] == message]
    if len(events) != 1:
        raise Failure(f"{message[:60]!r} came {len(events)} times by {route}")
    return events[0]


def _documents(run):
    """With an index, an action, and an id or none of their own."""
    for name in ("bulk", "stream", "stream-without-id"):
        client, message = run.clients[name], f"{unique(name)} {UNUSUAL}"
        wanted = {"message": message, "@timestamp": "2026-01-31T08:15:00.123000Z", "level": "error", "count": 7, "share": 0.5,
                  "paid": True, "order": {"lines": [1, "two", {"three": 3}], "note": None}}
        client.send([{**client.record(message), **wanted, "@timestamp": "2026-01-31T08:15:00.123Z", "_op_type": "create"}])
        client.wait_for_confirmation()
        _same(name, _found(run, "bulk", message), wanted)


def _log_records(run):
    for route in ("http", "grpc"):
        client = run.clients[f"otlp-{route}"]
        resource = {"service.name": "orders", "orchestrator.namespace": "shop", "orchestrator.resource.name": "orders-0",
                    "k8s.namespace.name": "shop", "k8s.pod.name": "orders-0", "telemetry.sdk.language": "python"}
        plain, failed = f"{unique(route)} {UNUSUAL}", unique("not-paid")
        levels = {unique(level): (number, level) for level, number in
                  {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR, "fatal": logging.CRITICAL}.items()}
        client.send([{"message": plain, "extra": {"order": 4711, "customer": "alice"}}, {"message": failed, "raised": "no money"},
                     *({"message": message, "level": number} for message, (number, _) in levels.items())])
        _same(client.name, _found(run, route, plain), {**resource, "log.level": "info", "log.logger": "shop.orders", "order": 4711,
                                                       "customer": "alice"})
        for message, (_, level) in levels.items():
            _same(client.name, _found(run, route, message), {"log.level": level})
        event = _found(run, route, failed)
        _same(client.name, event, {**resource, "log.level": "error", "exception.type": "ValueError", "exception.message": "no money"})
        if not re.fullmatch(r"Traceback .*\n.* in log\n.*\nValueError: no money\n", event.get("exception.stacktrace", ""), re.DOTALL):
            raise Failure(f"by {route}, the stack trace is {event.get('exception.stacktrace')!r}")


def _records(run):
    """By default both send whole seconds, which are told from the time of arrival by that."""
    for name in ("fluent-python", "fluent-go"):
        client, message = run.clients[name], f"{unique(name)} {UNUSUAL}"
        sent = {"message": message, "level": "error", "count": 7, "share": 0.5, "paid": True,
                "order": {"lines": [1, "two", {"three": 3}], "note": None}}
        client.send([sent])
        event = _found(run, "forward", message)
        _same(name, event, {**sent, "tag": "shop.orders"})
        if not event["@timestamp"].endswith(".000000Z"):
            raise Failure(f"{name} sends whole seconds, and the time is {event['@timestamp']}")


def _logger(run):
    host, ports = socket.gethostname().split(".")[0], {"--udp": run.ports.udp, "--tcp": run.ports.tcp}
    forms = {"--rfc5424": ["--msgid", "ID47", "--sd-id", "origin@32473", "--sd-param", 'ip="203.0.113.9"'], "--rfc3164": []}
    for transport, port in ports.items():
        for form, more in forms.items():
            message = f"{unique('logger')} Grüße – 你好: \"quoted\" back\\slash"
            log_with(run.logger, transport, "--port", str(port), form, "--tag", "orders", "--id=4711", "--priority", "auth.warning",
                     *more, message)
            event = _found(run, "syslog", message)
            _same(f"logger {transport} {form}", event, {
                "host.name": host, "process.name": "orders", "process.pid": 4711, "log.level": "warning",
                "log.syslog.facility.code": 4, "log.source.address": "127.0.0.1"})
            if more:
                _same(f"logger {transport} {form}", event, {"log.syslog.msgid": "ID47"})
                _has_data(event)


def _has_data(event):
    data = event.get("log.syslog.structured_data")
    if not data or data.get("origin@32473") != {"ip": "203.0.113.9"}:
        raise Failure(f"the structured data of logger are {data}")


def _syslog_handler(run):
    """It names neither time nor host, and a program only if its user has set `ident`, as in the second message."""
    client, before = run.clients["syslog-handler"], time.time()
    plain, named = f"{unique('handler')} {UNUSUAL}", f"{unique('handler')} Grüße"
    client.send([{"message": plain, "level": logging.WARNING}, {"message": named, "level": logging.CRITICAL, "ident": "orders: "}])
    event = _found(run, "syslog", plain)
    _same(client.name, event, {"log.level": "warning", "log.syslog.facility.code": 1, "host.name": None, "process.name": None,
                               "log.source.address": "127.0.0.1"})
    if not _utc(before) <= event["@timestamp"] <= _utc(time.time()):
        raise Failure(f"the time of a message without one is {event['@timestamp']}")
    _same(client.name, _found(run, "syslog", named), {"log.level": "critical", "process.name": "orders"})


def _utc(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06}Z"
