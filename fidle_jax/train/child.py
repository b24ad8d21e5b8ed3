"""A process that is waited for in two places at once."""

import subprocess
import threading
import time


class Child:
    """A process that a signal's handler may wait for while the program does: no lock is in the way."""

    def __init__(self, command: list[str], **how):
        """Starts it; ``how`` as of `subprocess.Popen`."""
        self._process = subprocess.Popen(command, **how)
        self._statuses: list[int] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        self._statuses.append(self._process.wait())

    def terminate(self) -> None:
        """Asks it to end."""
        self._process.terminate()

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        while not self._statuses:
            time.sleep(0.05)
        return self._statuses[0]
