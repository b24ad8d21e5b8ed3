"""What native code writes before it ends the process, told as one line.

JAX's distributed runtime has no exception for a peer that is lost: its C++ logs some twenty lines and
aborts, from whichever thread noticed. Here what native code writes is kept aside, Python's own output
goes where it always went, and an abort becomes a line on stderr and exit status 1.
"""

import contextlib
import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Callable

STATUS = 1
LONGEST = 2**20

# The handler has to live as long as the process: C keeps no reference to it.
_kept = []


def speak_for_native_code(explain: Callable[[str], str], debug: bool = False) -> None:
    """Gives an abort of native code its one line: ``explain`` of all that such code wrote before.

    For the rest of the process. With ``debug`` what was written is shown too, at the end.
    """
    # It lives as long as the process.
    aside = tempfile.TemporaryFile()  # noqa: SIM115
    sys.stdout = _move("stdout", 1, aside)
    sys.stderr = _move("stderr", 2, aside)

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def on_abort(number: int) -> None:
        # Whatever is raised in here, by a signal too, the process has to end as it was promised.
        with contextlib.suppress(BaseException):
            size = os.fstat(aside.fileno()).st_size
            start = max(0, size - LONGEST)
            written = os.pread(aside.fileno(), LONGEST, start).decode(errors="replace")
            if debug:
                print(written, file=sys.stderr)
            print(f"error: {' '.join(explain(written).split())}", file=sys.stderr, flush=True)
        os._exit(STATUS)

    _kept.extend((aside, on_abort))
    # Python's own handlers wait for the main thread, and an abort waits for nobody.
    ctypes.CDLL(None).signal(signal.SIGABRT, on_abort)


def _move(name: str, number: int, aside) -> object:
    """Python's stream on a copy of the descriptor ``number``, which goes to ``aside``."""
    stream = getattr(sys, name)
    stream.flush()
    copy = os.dup(number)
    os.dup2(aside.fileno(), number)
    return os.fdopen(copy, "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
