"""Starting servers, waiting for them, and being sure that they end."""

import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_running = []


class Failure(Exception):
    """Something the test needs did not happen; the message says what was expected."""


class TooLate(BaseException):
    """The time for everything is over; nothing that expects failures may swallow this."""


# What may go wrong in one check without ending the run.
EXPECTED = (Failure, OSError, ValueError, KeyError, subprocess.SubprocessError)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """One child process, its output in a file. It ends with this one; `guarded` is for one that changes its user, and
    thereby loses the signal that tells of its parent's end. `stdin` is as for subprocess.Popen."""

    def __init__(self, name, argv, log_path, env=None, cwd=None, guarded=False, stdin=subprocess.DEVNULL):
        self.name, self.log_path = name, log_path
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=stdin, stdout=log, stderr=log, cwd=cwd,
                env=None if env is None else {**os.environ, **env},
                start_new_session=True, preexec_fn=_die_with_parent,
            )
        self.guard = self._start_guard() if guarded else None
        _running.append(self)

    def _start_guard(self):
        """A process that waits for the end of this one, which holds the other end of its standard input."""
        script = f"read _; kill -9 -{self.process.pid}"
        return subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)

    def alive(self):
        return self.process.poll() is None

    def stop(self, timeout_s=20):
        """Asks it to end and gives its exit status; one that does not listen is killed."""
        if self.alive():
            self.process.terminate()
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} did not end within {timeout_s} s of SIGTERM") from None

    def kill(self):
        """Ends it and whatever it started in its session."""
        if self.guard:
            self.guard.kill()
            self.guard.communicate()
            self.guard = None
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(10)

    def tail(self, lines=15):
        with open(self.log_path, "rb") as log:
            log.seek(max(0, os.path.getsize(self.log_path) - 8192))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


def kill_all():
    """Ends every server that was started, newest first."""
    while _running:
        server = _running.pop()
        try:
            server.kill()
        except subprocess.TimeoutExpired:
            pass


def wait_until(what, condition, timeout_s=60, interval_s=0.2, server=None):
    """Gives the first true answer of `condition`; failing exceptions count as not yet."""
    deadline = time.monotonic() + timeout_s
    last_error = None
    while time.monotonic() < deadline:
        if server is not None and not server.alive():
            raise Failure(f"{server.name} ended while waiting for {what}:\n{server.tail()}")
        try:
            answer = condition()
            if answer:
                return answer
        except (OSError, ValueError, KeyError, Failure) as error:
            last_error = error
        time.sleep(interval_s)
    reason = f" (last error: {last_error})" if last_error else ""
    tail = f"\n{server.tail()}" if server is not None else ""
    raise Failure(f"no {what} within {timeout_s} s{reason}{tail}")


def free_ports(count):
    """Loopback ports that nobody listens on now, and that no outgoing connection is given."""
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    sockets = []
    try:
        while len(sockets) < count:
            held = socket.socket()
            sockets.append(held)
            try:
                held.bind(("127.0.0.1", random.randrange(10_000, max(first_outgoing, 12_000))))
            except OSError:
                sockets.pop().close()
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()
