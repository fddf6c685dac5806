"""Runs everything, or the parts that are named: `tests/real/run [kubernetes] [kafka] [roles] [rsyslog] [collector] [audit]
[clients]`.
Environment: WATCHBELL_BIN, WATCHBELL_REAL_CACHE, WATCHBELL_REAL_KEEP."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import audit_topics
import client_checks
import full_disk
import kafka_log
import kafka_roles
import kafka_topics
import otelcol_checks
import rsyslog_checks
from broker import Kafka
from cluster import Cluster, webhook_flags
from pki import Authority
from processes import EXPECTED, TooLate, kill_all, wait_until
from proxy import Proxy
from report import Report
from scenario import Scenario
from sink import Sink
from smtp import MailServer
from tools import (ROOT, client_packages, collector_binary, exim_binary, forward_binary, kafka_libraries, kube_binary, logger_binary, note,
                   openssl, rsyslog_binary, watchbell_binary)
from watchbell import CLIENT, Watchbell, collector, notifications

DEADLINE_S = 480
AUDIT_POLICY = ROOT / "deploy" / "audit-policy.yaml"
PARTS = ("kubernetes", "kafka", "roles", "rsyslog", "collector", "audit", "clients")


def main():
    signal.signal(signal.SIGALRM, too_late)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report()
    parts = sys.argv[1:] or PARTS
    if unknown := set(parts) - set(PARTS):
        print(f"unknown part {unknown.pop()}; known: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    try:
        openssl()
        binary = watchbell_binary()
        ready = {part: PREPARE[part]() for part in parts}
    except EXPECTED as failure:
        report.fail("preparation", failure)
        return report.end()
    # Builds and installations were first: their time does not count.
    signal.alarm(DEADLINE_S * len(ready))
    directory = Path(tempfile.mkdtemp(prefix="watchbell-real-"))
    directory.chmod(0o711)  # the mail server's user passes through
    failed = True
    try:
        for part, found in ready.items():
            RUN[part](report, directory, found, binary)
        failed = report.failed > 0
    except (TooLate, *EXPECTED) as failure:
        report.fail("scenario", failure)
    finally:
        signal.alarm(0)
        kill_all()
        if failed or os.environ.get("WATCHBELL_REAL_KEEP"):
            note(f"logs and data are kept in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return report.end()


def too_late(*_):
    raise TooLate("not done in time")


def prepare_kubernetes():
    exim_binary()
    return kube_binary()


def with_broker(directory, libraries):
    """A new directory with an authority, a receiver of alerts, and a broker that runs."""
    directory.mkdir()
    authority, hook = Authority(directory / "pki"), Sink()
    kafka = Kafka(libraries, directory / "kafka", authority)
    kafka.start()
    return directory, authority, hook, kafka


def run_kafka(report, directory, libraries, binary):
    directory, authority, hook, kafka = with_broker(directory / "with-kafka", libraries)
    settings = collector(hook) + kafka_topics.settings(kafka, authority, kafka_topics.now())
    watchbell = Watchbell(binary, directory / "watchbell", authority, settings)
    report.check_all(kafka_topics.checks(kafka, watchbell, hook))
    kafka.stop()
    replicated = Kafka(libraries, directory / "replicated", authority, brokers=3)
    replicated.start()
    watchbell = Watchbell(binary, directory / "watchbell-replicated", authority, kafka_log.settings(replicated, authority))
    report.check_all(kafka_log.checks(replicated, watchbell))
    replicated.stop()


def run_roles(report, directory, libraries, binary):
    directory, authority, hook, kafka = with_broker(directory / "apart", libraries)
    processes = kafka_roles.prepare(binary, directory / "processes", kafka, authority, hook)
    report.check_all(kafka_roles.checks(kafka, processes, hook))
    kafka.stop()


def run_rsyslog(report, directory, found, binary):
    (libraries, rsyslogd), ports = found, rsyslog_checks.Ports()
    directory, authority, hook, kafka = with_broker(directory / "with-rsyslog", libraries)
    kafka.create_topic(rsyslog_checks.TOPIC, 2)
    settings = collector(hook) + rsyslog_checks.settings(kafka, authority, ports)
    watchbell = Watchbell(binary, directory / "watchbell", authority, settings)
    watchbell.start()
    token = watchbell.add_token("rsyslog", f"ingest:{rsyslog_checks.CLUSTERS['bulk']}")
    sender = rsyslog_checks.rsyslog(rsyslogd, directory / "rsyslog", watchbell, kafka, ports, token)
    report.check_all(rsyslog_checks.checks(kafka, watchbell, sender))
    kafka.stop()


def run_collector(report, directory, found, binary):
    libraries, otelcol = found
    directory, authority, hook, kafka = with_broker(directory / "with-collector", libraries)
    pods = directory / "pods"
    kafka.create_topic(otelcol_checks.TOPIC, 2)
    watchbell = Watchbell(binary, directory / "watchbell", authority, collector(hook) + otelcol_checks.settings(kafka, authority))
    watchbell.start()
    proxy = Proxy(watchbell.port)
    sender = otelcol_checks.collector(otelcol, directory / "otelcol", watchbell, proxy, kafka, pods)
    report.check_all(otelcol_checks.checks(kafka, watchbell, proxy, sender, pods))
    kafka.stop()


def run_audit(report, directory, found, binary):
    libraries, kube, agents = found
    directory, authority, hook, kafka = with_broker(directory / "with-audit-topics", libraries)
    watchbell = Watchbell(binary, directory / "watchbell", authority, collector(hook) + audit_topics.settings(kafka, authority))
    cluster = Cluster(kube, directory / "cluster", AUDIT_POLICY, audit_topics.ROTATION)
    senders = audit_topics.agents(agents, directory, cluster, kafka, authority)
    report.check_all(audit_topics.checks(cluster, kafka, watchbell, senders))
    kafka.stop()


def run_clients(report, directory, found, binary):
    packages, go_program, logger = found
    directory, ports = directory / "with-clients", client_checks.Ports()
    directory.mkdir()
    authority, hook = Authority(directory / "pki"), Sink()
    watchbell = Watchbell(binary, directory / "watchbell", authority, collector(hook) + client_checks.settings(ports))
    watchbell.start()
    run = client_checks.Run(watchbell, ports, directory / "clients", packages, go_program, logger)
    report.check_all(client_checks.checks(run))


def run_kubernetes(report, directory, kube, binary):
    authority = Authority(directory / "pki")
    mail = MailServer(directory / "mail", authority)
    report.check("mail: server takes mail over TLS with a password", lambda: probe(mail))
    hook = Sink()
    watchbell = Watchbell(binary, directory / "watchbell", authority, notifications(mail, hook))
    watchbell.start()
    watchbell.with_token = watchbell.add_cluster(directory / "webhook-token.yaml")
    webhook = watchbell.add_cluster(directory / "webhook.yaml", authority.issue("audit-client", CLIENT))
    cluster = Cluster(kube, directory / "cluster", AUDIT_POLICY, webhook_flags(webhook))
    cluster.start()
    Scenario(report, cluster, watchbell, mail, hook).run()
    cluster.stop()
    fill_disk(report, directory, binary, authority, mail)


def fill_disk(report, directory, binary, authority, mail):
    try:
        disk = full_disk.SmallDisk(directory / "small-disk")
    except PermissionError as refused:
        report.skip("full disk", refused)
        return
    try:
        hook = Sink()
        settings = notifications(mail, hook) + full_disk.SETTINGS
        watchbell = Watchbell(binary, directory / "watchbell-full", authority, settings, disk.data)
        report.check_all(full_disk.checks(watchbell, disk, hook))
    finally:
        disk.unmount()


def probe(mail):
    mail.start()
    mail.send_probe("probe@example.org")
    wait_until("probe in the maildir", mail.messages, 20)
    mail.forget()


PREPARE = {
    "kubernetes": prepare_kubernetes,
    "kafka": kafka_libraries,
    "roles": kafka_libraries,
    "rsyslog": lambda: (kafka_libraries(), rsyslog_binary()),
    "collector": lambda: (kafka_libraries(), collector_binary()),
    "audit": lambda: (kafka_libraries(), kube_binary(), {"collector": collector_binary(), "rsyslog": rsyslog_binary()}),
    "clients": lambda: (client_packages(), forward_binary(), logger_binary()),
}
RUN = {
    "kubernetes": run_kubernetes,
    "kafka": run_kafka,
    "roles": run_roles,
    "rsyslog": run_rsyslog,
    "collector": run_collector,
    "audit": run_audit,
    "clients": run_clients,
}

if __name__ == "__main__":
    sys.exit(main())
