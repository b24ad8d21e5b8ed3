"""The command line: flags, terminal output, exit codes, and the start of jobs."""

import os
import signal
import sys
from pathlib import Path

_EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def _end_quietly_during_imports() -> None:
    """Make Ctrl-C end an experiment without a traceback until `fidle_jax.cli.terminal` handles signals.

    Python's own handler would print one in the middle of the imports. Nothing has been written by then.
    """
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    if program and Path(program).resolve().is_relative_to(_EXPERIMENTS):
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


_end_quietly_during_imports()
