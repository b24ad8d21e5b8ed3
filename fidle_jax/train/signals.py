"""Handling of Ctrl-C, SIGTERM and SIGHUP: a run stops between two chunks of steps."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

# Launchers signal a process, its group and its parents. Count signals within this time as one.
REPEAT_SECONDS = 1.0


class Stop:
    """A handler of signals that ask the process to stop.

    Every signal raises KeyboardInterrupt. While ``deferred`` is True, the first signal only sets
    ``requested``, and a second SIGINT or SIGTERM raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.requested = False
        self._last = -REPEAT_SECONDS

    def __call__(self, number: int, frame: object) -> None:
        """Handle a signal."""
        now = time.monotonic()
        again, self._last = now - self._last < REPEAT_SECONDS, now
        if again:
            return
        # A cluster may warn more than once. A person who asks twice does not want to wait.
        by_person = number in (signal.SIGINT, signal.SIGTERM)
        second, self.requested = self.requested and by_person, True
        if second or not self.deferred:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal was received.

        Call this after imports and callbacks, because they may swallow the exception.
        """
        if self.requested:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def defer(self) -> Iterator[None]:
        """Defer signals in the block: the first one only sets ``requested``."""
        self.deferred = True
        try:
            yield
        finally:
            self.deferred = False


@contextlib.contextmanager
def catch_stop() -> Iterator[Stop]:
    """Handle stop signals within the block, if this is the main thread."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # Clusters send one of these before a time limit.
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
