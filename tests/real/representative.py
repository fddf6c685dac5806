"""A smaller recording that still shows everything: repetitions go first."""

import json
from collections import Counter


def representative(events, limit_bytes, wanted):
    """As many as fit, in their order. Of events that are alike, the first ones stay; all `wanted` stay."""
    ids = {id(event) for event in wanted}
    ranks, seen = [], Counter()
    for event in events:
        ranks.append(-1 if id(event) in ids else seen[_kind(event)])
        seen[_kind(event)] += id(event) not in ids
    most = max(ranks, default=0)
    while most > 0 and size(_up_to(events, ranks, most)) > limit_bytes:
        most -= 1
    return _up_to(events, ranks, most)


def size(events):
    return sum(len(json.dumps(event, separators=(",", ":"), ensure_ascii=False)) + 1 for event in events)


def _up_to(events, ranks, most):
    return [event for event, rank in zip(events, ranks) if rank <= most]


def _kind(event):
    ref = event.get("objectRef", {})
    return (event["user"].get("username"), event["verb"], ref.get("resource"), ref.get("subresource"),
            event.get("responseStatus", {}).get("code"), event["stage"])
