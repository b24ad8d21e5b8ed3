"""Ctrl-C and SIGTERM, answered between two chunks of steps."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

# Launchers signal a process, its group and its parents: what comes so soon is the same news again.
SAME_NEWS_SECONDS = 1.0


class Stop:
    """What was asked of the process by signal.

    Attributes:
        deferred: a first signal sets ``requested`` and no more; without it, or on a second one that a
            person may have sent, KeyboardInterrupt is raised where the program stands.
        requested: a signal has come.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.requested = False
        self._last = -SAME_NEWS_SECONDS

    def __call__(self, number: int, frame: object) -> None:
        """The signal handler."""
        now = time.monotonic()
        again, self._last = now - self._last < SAME_NEWS_SECONDS, now
        if again:
            return
        # A cluster may warn more than once; a person who asks twice will not wait.
        by_person = number in (signal.SIGINT, signal.SIGTERM)
        impatient, self.requested = self.requested and by_person, True
        if impatient or not self.deferred:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raises KeyboardInterrupt where a signal has come: one that rose in a callback may be lost."""
        if self.requested:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def defer(self) -> Iterator[None]:
        """Within it, a first signal waits to be looked for."""
        self.deferred = True
        try:
            yield
        finally:
            self.deferred = False


@contextlib.contextmanager
def catch_stop() -> Iterator[Stop]:
    """Takes over the signals that ask to stop, in the main thread; elsewhere nothing is requested."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # Clusters are free in what they send before a time limit: SIGUSR1 and SIGUSR2 are the usual ones.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
