"""What goes on while the checks do something else."""

import threading


class Background:
    """Works on and on in a thread, from `with` to its end. `_work` returns soon after `stopping` is set."""

    STOP_S = 30

    def __init__(self):
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(self.STOP_S)
