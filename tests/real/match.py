"""Whether an audit event holds what a step says, and the same said as a search query."""

import fnmatch
import re


def values(event, path):
    """All values at a dotted path: any member of arrays, and keys that contain dots themselves."""
    if isinstance(event, list):
        return [value for member in event for value in values(member, path)]
    if path == "":
        return [event]
    if not isinstance(event, dict):
        return []
    found, parts = [], path.split(".")
    for count in range(1, len(parts) + 1):
        key = ".".join(parts[:count])
        if key in event:
            found += values(event[key], ".".join(parts[count:]))
    return found


def matches(event, wanted):
    return all(any(_equal(value, want) for value in values(event, path)) for path, want in wanted.items())


def _equal(value, want):
    if isinstance(want, str) and "*" in want:
        return fnmatch.fnmatchcase(str(value), re.sub(r"([\[?])", r"[\1]", want))
    return value == want


def query(wanted):
    """The step's event in the search syntax."""
    return " AND ".join(f"{path}:{_term(want)}" for path, want in wanted.items())


def _term(want):
    if isinstance(want, str) and "*" not in want:
        return '"' + want.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return re.sub(r'([+\-!(){}\[\]^"~?:\\/&|<>= ])', r"\\\1", str(want))
