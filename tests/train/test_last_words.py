"""Where native code ends the process, there is one line and status 1."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, os, sys, threading
from fidle_jax.train.last_words import speak_for_native_code

def explain(written):
    return "told of:\\n" + written

print("before")
speak_for_native_code(explain, debug="--debug" in sys.argv)
print("Python still prints")
print("and warns", file=sys.stderr)
os.write(2, b"noise of\\nnative code")
os.write(1, b" on both streams")
abort = ctypes.CDLL(None).abort
if "--thread" in sys.argv:
    thread = threading.Thread(target=abort)
    thread.start()
    thread.join()
elif "--end" not in sys.argv:
    abort()
"""


def run(*flags):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *flags], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("flags", [(), ("--thread",)])
def test_an_abort_is_one_line_of_what_native_code_wrote(flags):
    done = run(*flags)
    assert done.returncode == 1
    assert done.stdout == "before\nPython still prints\n"
    told = "error: told of: noise of native code on both streams"
    assert done.stderr == f"and warns\n{told}\n"


def test_debug_shows_it_as_it_was_written_too():
    assert "noise of\nnative code on both streams" in run("--debug").stderr


def test_without_an_abort_nothing_is_said_and_the_status_is_the_programs():
    done = run("--end")
    assert (done.returncode, done.stderr) == (0, "and warns\n")
