"""Runs the whole scenario: `tests/real/run`. Environment: WATCHBELL_BIN, WATCHBELL_REAL_CACHE, WATCHBELL_REAL_KEEP."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import full_disk
from cluster import Cluster
from pki import Authority
from processes import EXPECTED, TooLate, kill_all, wait_until
from report import Report
from scenario import Scenario
from sink import Sink
from smtp import MailServer
from tools import ROOT, exim_binary, kube_binary, note, openssl, watchbell_binary
from watchbell import CLIENT, Watchbell, notifications

DEADLINE_S = 480


def main():
    signal.signal(signal.SIGALRM, too_late)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report()
    try:
        openssl()
        exim_binary()
        kube, binary = kube_binary(), watchbell_binary()
    except EXPECTED as failure:
        report.fail("preparation", failure)
        return report.end()
    # Builds and installations were first: their time does not count.
    signal.alarm(DEADLINE_S)
    directory = Path(tempfile.mkdtemp(prefix="watchbell-real-"))
    directory.chmod(0o711)  # the mail server's user passes through
    failed = True
    try:
        run(report, directory, kube, binary)
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
    raise TooLate(f"not done within {DEADLINE_S} s")


def run(report, directory, kube, binary):
    authority = Authority(directory / "pki")
    mail = MailServer(directory / "mail", authority)
    report.check("mail: server takes mail over TLS with a password", lambda: probe(mail))
    hook = Sink()
    watchbell = Watchbell(binary, directory / "watchbell", authority, notifications(mail, hook))
    watchbell.start()
    watchbell.with_token = watchbell.add_cluster(directory / "webhook-token.yaml")
    webhook = watchbell.add_cluster(directory / "webhook.yaml", authority.issue("audit-client", CLIENT))
    cluster = Cluster(kube, directory / "cluster", ROOT / "deploy" / "audit-policy.yaml", webhook)
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
        for name, action in full_disk.checks(watchbell, disk, hook):
            report.check(name, action)
    finally:
        disk.unmount()


def probe(mail):
    mail.start()
    mail.send_probe("probe@example.org")
    wait_until("probe in the maildir", mail.messages, 20)
    mail.forget()


if __name__ == "__main__":
    sys.exit(main())
