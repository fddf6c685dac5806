"""What a step is, and the words steps are written in."""

from dataclasses import dataclass
from typing import Callable

from processes import Failure, wait_until

PRIVILEGED = {"securityContext": {"privileged": True}}


@dataclass
class Step:
    name: str
    act: Callable
    event: dict
    alerts: tuple = ()
    count: int = 1  # at least so many events


def expect(answer, code, words=""):
    """An action went as the scenario says it must, or the scenario itself is wrong."""
    if answer.code != code or words not in answer.body:
        raise Failure(f"expected {code} {words!r}, got {answer}")
    return answer


def create(cluster, who, *objects, check=True, **options):
    return cluster.kubectl(who, "create", "-f", "-", *options.pop("words", ()), stdin=list(objects), check=check, **options)


def created(*objects, who="mallory"):
    """An action: these objects are created."""
    return lambda cluster: create(cluster, who, *objects)


def refused(words, *objects, who="alice"):
    """An action: these objects are refused, with these words."""
    return lambda cluster: expect(create(cluster, who, *objects, check=False), 1, words)


def ran(who, *words, **options):
    """An action: kubectl with these words succeeds."""
    return lambda cluster: cluster.kubectl(who, *words, **options)


def failed(who, text, *words, **options):
    """An action: kubectl with these words fails, saying this."""
    return lambda cluster: expect(cluster.kubectl(who, *words, check=False, **options), 1, text)


def event(resource=None, verb=None, code=None, name=None, namespace=None, user=None, **more):
    fields = {"objectRef.resource": resource, "verb": verb, "responseStatus.code": code, "objectRef.name": name,
              "objectRef.namespace": namespace, "user.username": user}
    fields.update({key.replace("__", "."): value for key, value in more.items()})
    return {path: value for path, value in fields.items() if value is not None}


def first_pod(cluster, app="stock", where="shop"):
    words = ["get", "pods", "-n", where, "-l", f"app={app}", "--field-selector=status.phase=Running",
             "-o", "jsonpath={.items[0].metadata.name}"]
    return wait_until(f"running pod of {app}", lambda: cluster.kubectl("olivia", *words).body.strip(), 30, 0.5)


def anonymous(path, code):
    return lambda cluster: expect(cluster.http(None, "GET", path, headers={"User-Agent": "curl/8.5.0"}), code)


def pod_created(name, where="lab", code=201):
    return event("pods", "create", code, name, where, "mallory")
