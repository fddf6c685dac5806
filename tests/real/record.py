#!/usr/bin/env python3
"""Writes the API server's audit log of the scenario to a directory, without watchbell: bootstrap.jsonl, work.jsonl,
attack.jsonl, and README with the lines of every step. Usage: record.py DIRECTORY"""

import json
import sys
import tempfile
import time
from pathlib import Path

import steps
import work
from cluster import Cluster
from match import matches, query
from processes import EXPECTED, kill_all
from sink import Sink
from tools import ROOT, kube_binary, note
from webhook import write_kubeconfig

STAND_IN_TOKEN = "stand-in"
SETTLE_S = 3


def main(target):
    target = Path(target)
    target.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="watchbell-record-"))
    sink = Sink()
    webhook = write_kubeconfig(directory / "webhook.yaml", f"http://127.0.0.1:{sink.port}", "real", STAND_IN_TOKEN)
    cluster = Cluster(kube_binary(), directory / "cluster", ROOT / "deploy" / "audit-policy.yaml", webhook)
    offset, lines = 0, ["Audit logs of one real API server, as its file backend wrote them.", ""]

    def write(name):
        nonlocal offset
        time.sleep(SETTLE_S)
        events, offset = cluster.audit_events(offset)
        (target / name).write_text("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events))
        lines.append(f"{name}: {len(events)} events")
        return events

    try:
        cluster.start()
        work.bootstrap_done(cluster)
        write("bootstrap.jsonl")
        for part in work.PARTS:
            part(cluster)
        write("work.jsonl")
        failures = run_steps(cluster)
        attack = write("attack.jsonl")
    finally:
        kill_all()
    lines += ["", "Steps of attack.jsonl: name; detections wanted; zero-based lines of its event; query", ""]
    for step in steps.ALL:
        found = [index for index, event in enumerate(attack) if matches(event, step.event)]
        if len(found) < step.count:
            failures.append(f"{step.name}: {len(found)} events match, wanted {step.count}: {step.event}")
        lines.append(f"- {step.name}; {', '.join(step.alerts) or '-'}; {found}; {query(step.event)}")
    lines += ["", *failures]
    (target / "README").write_text("\n".join(lines) + "\n")
    note(f"recorded to {target}; {len(failures)} failures")
    print("\n".join(failures))
    return 1 if failures else 0


def run_steps(cluster):
    failures = []
    for step in steps.ALL:
        try:
            step.act(cluster)
        except EXPECTED as failure:
            failures.append(f"{step.name}: {failure}")
    return failures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
