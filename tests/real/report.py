"""One line per check."""

import time

from processes import EXPECTED, Failure


class Report:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.started = time.monotonic()

    def check(self, name, action):
        """Runs an action; it fails by raising Failure. Gives what it returned, or None."""
        try:
            answer = action()
        except Failure as failure:
            self.fail(name, failure)
            return None
        except EXPECTED as failure:
            self.fail(name, f"{type(failure).__name__}: {failure}")
            return None
        self.ok(name, answer if isinstance(answer, str) else "")
        return answer

    def check_all(self, checks):
        """Runs names and actions, in order."""
        for name, action in checks:
            self.check(name, action)

    def ok(self, name, detail=""):
        self.passed += 1
        self._line("ok", name, detail)

    def fail(self, name, reason):
        self.failed += 1
        self._line("FAILED", name, reason)

    def skip(self, name, reason):
        """What cannot be checked here; it counts, so that nobody takes it for passed."""
        self.skipped += 1
        self._line("SKIPPED", name, reason)

    def _line(self, verdict, name, detail):
        seconds = time.monotonic() - self.started
        print(f"{seconds:6.1f}s {verdict:7} {name}" + (f" -- {detail}" if detail else ""), flush=True)

    def end(self):
        skipped = f", {self.skipped} SKIPPED" if self.skipped else ""
        print(f"{self.passed} passed, {self.failed} failed{skipped}", flush=True)
        return 1 if self.failed or not self.passed else 0
