"""Ctrl-C and SIGTERM, answered between two chunks of steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Stop:
    """What was asked of the process by signal.

    Attributes:
        deferred: a first signal sets ``requested`` and no more; without it, or on a second one,
            KeyboardInterrupt is raised where the program stands.
        requested: a signal has come.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.requested = False

    def __call__(self, number: int, frame: object) -> None:
        """The signal handler."""
        if self.requested or not self.deferred:
            raise KeyboardInterrupt
        self.requested = True

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
    """Takes SIGINT and SIGTERM over, in the main thread; elsewhere nothing is ever requested."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
