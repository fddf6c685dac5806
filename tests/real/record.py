"""Records the fixtures: `python3 tests/real/record.py`. No test needs this, only their data.

Runs the scenario without its checks, and writes the events as watchbell stored them, redacted, in the order of the
API server's log."""

import json
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import steps
import work
from cluster import Cluster, webhook_flags
from detections import rule_ids
from match import matches
from pki import Authority
from processes import EXPECTED, Failure, kill_all
from representative import representative, size
from scenario import identity
from tools import ROOT, kube_binary, note, watchbell_binary
from watchbell import CLUSTER, Watchbell

FIXTURES = ROOT / "tests" / "fixtures" / "recorded"
DEMO = ROOT / "server" / "demo" / "scenario.jsonl"
FILE_BYTES, DEMO_WORK_BYTES, DEMO_BYTES = 900_000, 350_000, 950_000
# What must not be in a fixture: tokens (a JWT begins so), keys. Digests of tokens in user.extra are no secrets.
CREDENTIALS = ("eyJ", "PRIVATE KEY", "UFJJVkFURSBLRV")
HOST = "control-plane-1"

README = """\
# Events of a real API server

Recorded by `python3 tests/real/record.py` (see tests/real/README.md) from kube-apiserver {version} with
`deploy/audit-policy.yaml`: events as watchbell stored them, redacted, one per line, in the order of the API server's
log. The name of the machine was replaced by `{host}`. Where a phase has more than fits, repetitions were left out:
events alike in user, verb, resource, code and stage.

| file | events | of | what |
|---|---|---|---|
{rows}
`steps.jsonl` says for each step of the attack on which zero-based lines of `attack.jsonl` its events are, the paths
and values that tell them, and the ids of the shipped rules that must match at least one of them.
Bootstrap and work must not raise an alert of level medium or above.
"""
WHAT = {"bootstrap": "the control plane starts", "work": "people, controllers and pods at ordinary work",
        "attack": "the steps of tests/real/steps"}


def main():
    directory = Path(tempfile.mkdtemp(prefix="watchbell-record-"))
    watchbell = Watchbell(watchbell_binary(), directory / "watchbell", Authority(directory / "pki"))
    try:
        watchbell.start()
        cluster = Cluster(kube_binary(), directory / "cluster", ROOT / "deploy" / "audit-policy.yaml",
                          webhook_flags(watchbell.add_cluster(directory / "webhook.yaml")))
        phases = play(cluster)
        secrets = [*cluster.tokens.values(), *(path.read_text() for path in cluster.pod_tokens.iterdir()), work.DATABASE_URL]
        watchbell.wait_for_events(sum(map(len, phases.values())))
        stored = {identity(hit["event"]): hit["event"] for hit in watchbell.search(f"cluster:{CLUSTER}")}
        version = json.loads(cluster.http(cluster.tokens["olivia"], "GET", "/version").body)["gitVersion"]
    finally:
        kill_all()
        shutil.rmtree(directory, ignore_errors=True)
    write({name: [as_stored(event, stored) for event in events] for name, events in phases.items()}, secrets, version)


def play(cluster):
    """Runs everything; the events of each phase as the API server wrote them."""
    phases, offset = {}, 0

    def phase(name):
        nonlocal offset
        phases[name], offset = cluster.audit_events(offset)

    cluster.start()
    work.bootstrap_done(cluster)
    phase("bootstrap")
    for part in work.PARTS:
        part(cluster)
    phase("work")
    for step in steps.ALL:
        try:
            step.act(cluster)
        except EXPECTED as failure:
            raise Failure(f"{step.name}: {failure}") from failure
    cluster.quiesce()
    phase("attack")
    return phases


def as_stored(event, stored):
    """In a batch, events have no kind of their own: it is put back, as in a log file."""
    return {"kind": "Event", "apiVersion": "audit.k8s.io/v1", **stored[identity(event)]}


def write(phases, secrets, version):
    FIXTURES.mkdir(parents=True, exist_ok=True)
    wanted = [event for event in phases["attack"] if any(matches(event, step.event) for step in steps.ALL)]
    kept, rows = {}, ""
    for name, events in phases.items():
        kept[name] = representative(events, FILE_BYTES, wanted)
        write_events(FIXTURES / f"{name}.jsonl", kept[name], secrets)
        rows += f"| `{name}.jsonl` | {len(kept[name])} | {len(events)} | {WHAT[name]} |\n"
    (FIXTURES / "steps.jsonl").write_text("".join(json.dumps(found) + "\n" for found in find_steps(kept["attack"])))
    (FIXTURES / "README.md").write_text(README.format(version=version, host=HOST, rows=rows))
    ordinary = representative(phases["work"], DEMO_WORK_BYTES, [])
    attack = representative(phases["attack"], DEMO_BYTES - size(ordinary), wanted)
    write_events(DEMO, sorted(ordinary + attack, key=lambda event: event["stageTimestamp"]), secrets)


def write_events(path, events, secrets):
    text = "".join(json.dumps(event, separators=(",", ":"), ensure_ascii=False) + "\n" for event in events)
    text = text.replace(f'"{socket.gethostname()}_', f'"{HOST}_')
    found = [secret for secret in (*secrets, *CREDENTIALS) if secret in text]
    if found:
        raise Failure(f"{path.name} would contain {len(found)} credentials, such as {found[0][:12]}…")
    path.write_text(text)
    note(f"{path.relative_to(ROOT)}: {len(events)} events, {len(text.encode())} bytes")


def find_steps(attack):
    for step in steps.ALL:
        lines = [line for line, event in enumerate(attack) if matches(event, step.event)]
        if len(lines) < step.count:
            raise Failure(f"{step.name}: {len(lines)} events, expected {step.count}")
        rules = sorted(set().union(*map(rule_ids, step.alerts)))
        yield {"step": step.name, "lines": lines, "event": step.event, "rules": rules}


if __name__ == "__main__":
    sys.exit(main())
