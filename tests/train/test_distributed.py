"""Tests of communication between processes; `tests/integration/test_processes.py` starts real ones."""

import socket
import subprocess
import sys

import numpy as np
import pytest

from fidle_jax.errors import InputError
from fidle_jax.train import distributed

SILENT = """E1125 09:02:03.954118 15344 coordination_service.cc:1549] Use error polling to propagate the
 following error to all tasks: UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):
{}
The tasks have crashed. Check the task logs for an earlier error, or scheduler events to debug further.
F1125 09:02:03.954901 15355 client.h:80] Terminating process because the JAX distributed service detected
"""
NO_LEADER = """F1125 09:02:07.204664 15453 client.h:80] Terminating process because the JAX runtime
detected fatal errors. absl::Status: UNAVAILABLE: Failed to send RPC to coordination service. Either the
leader task was preempted/died/restarted unexpectedly or this task is experiencing network issues.
"""


@pytest.mark.parametrize(
    ("log", "lost"),
    [
        (SILENT.format("1"), [1]),
        (SILENT.format("1\n12"), [1, 12]),
        (SILENT.format("/job:jax_worker/replica:0/task:3"), [3]),
        (NO_LEADER, [0]),
        ("something else", []),
    ],
)
def test_the_lost_processes_are_those_that_the_runtime_names(log, lost):
    assert distributed.find_lost(log) == lost


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            "E1125 a warning\nF1125 09:02 x.cc:80] a == b\n*** trace ***\n",
            "F1125 09:02 x.cc:80] a == b",
        ),
        ("terminate called after std::bad_alloc\n", "terminate called after std::bad_alloc"),
        ("", "native code ended the process"),
    ],
)
def test_an_abort_without_a_lost_process_shows_the_reason(log, reason):
    assert distributed.find_fatal(log) == reason


def test_one_process_gets_its_own_values():
    rows = np.arange(6).reshape(3, 2)
    assert distributed.is_first()
    assert distributed.gather_texts("a") == ["a"]
    assert distributed.broadcast(rows) is rows
    np.testing.assert_array_equal(distributed.gather(rows), rows[None])
    assert [distributed.any_process(flag) for flag in (True, False)] == [True, False]
    distributed.barrier("here")
    distributed.check_same({"--epochs": 3})
    with pytest.raises(InputError, match="wrong"), distributed.fail_together():
        raise InputError("wrong")


@pytest.fixture
def others_send(monkeypatch):
    """``others_send(*texts)``: this is process 0, and the others send ``texts``."""

    def others_send(*texts):
        monkeypatch.setattr(distributed, "gather_texts", lambda text: [text, *texts])

    return others_send


def test_different_settings_are_named_with_both_values(others_send):
    others_send('{"--epochs": "3"}', '{"--epochs": "4"}')
    with pytest.raises(InputError, match="--epochs is 4 in process 2 and 3 in process 0"):
        distributed.check_same({"--epochs": 3})


def test_an_input_error_in_one_process_ends_all(others_send):
    others_send("", "no such folder")
    with pytest.raises(InputError, match="process 2: no such folder"), distributed.fail_together():
        pass


def test_a_port_in_use_is_named():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            InputError, match=r"port \d+ is not available \(Address already in use\)"
        ):
            distributed.join(address, 2, 0, wait_seconds=1, resume_command=str)


ABORT = """
import ctypes, os, sys, threading
from fidle_jax.train.distributed import install_abort_handler

print("before")
install_abort_handler(lambda log: "explained:\\n" + log, debug="--debug" in sys.argv)
print("Python still prints")
print("and warns", file=sys.stderr)
os.write(2, b"noise of\\nnative code")
os.write(1, b" on both streams")
abort = ctypes.CDLL(None).abort
if "--thread" in sys.argv:
    thread = threading.Thread(target=abort)
    thread.start()
    thread.join()
elif "--exit" not in sys.argv:
    abort()
"""
EXPLAINED = "error: explained: noise of native code on both streams\n"


@pytest.mark.parametrize(
    ("flags", "status", "err"),
    [
        (["--thread"], 1, EXPLAINED),
        (["--debug"], 1, f"noise of\nnative code on both streams\n{EXPLAINED}"),
        (["--exit"], 0, ""),
    ],
)
def test_an_abort_prints_one_line_and_exits_with_status_1(flags, status, err):
    command = [sys.executable, "-c", ABORT, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "before\nPython still prints\n"
    assert (done.returncode, done.stderr) == (status, f"and warns\n{err}")
