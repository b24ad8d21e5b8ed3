"""What several processes tell each other; `tests/integration/test_processes.py` has real ones."""

import numpy as np
import pytest

from fidle_jax.errors import InputError
from fidle_jax.train import join, processes

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
    ("written", "lost"),
    [
        (SILENT.format("1"), [1]),
        (SILENT.format("1\n12"), [1, 12]),
        (SILENT.format("/job:jax_worker/replica:0/task:3"), [3]),
        (NO_LEADER, [0]),
        ("something else", []),
    ],
)
def test_the_lost_processes_are_those_that_the_runtime_names(written, lost):
    assert join._lost(written) == lost


def test_where_none_is_lost_it_is_said_why_native_code_gave_up():
    written = "E1125 some warning\nF1125 09:02 x.cc:80] Check failed: a == b\n*** stack trace ***\n @ 0x7f"
    assert join._fatal(written) == "F1125 09:02 x.cc:80] Check failed: a == b"
    assert (
        join._fatal("terminate called after std::bad_alloc\n")
        == "terminate called after std::bad_alloc"
    )
    assert join._fatal("") == "native code ended the process"


def test_in_one_process_everything_is_its_own():
    rows = np.arange(6).reshape(3, 2)
    assert processes.is_first()
    assert processes.gather_texts("a") == ["a"]
    assert processes.gather_rows(rows) is rows
    assert processes.from_first(rows) is rows
    assert processes.decide((3, True), False) == ((3, True), False)
    processes.wait_for_all("here")
    processes.check_same({"--epochs": 3})
    with pytest.raises(InputError, match="wrong"), processes.all_or_none():
        raise InputError("wrong")


class Three:
    """Process 0 of three, whose others say what the test has them say."""

    def __init__(self, monkeypatch, *others):
        monkeypatch.setattr(processes, "gather_texts", lambda text: [text, *others])


def test_settings_that_differ_are_named_with_both_values(monkeypatch):
    Three(monkeypatch, '{"--epochs": "3"}', '{"--epochs": "4"}')
    with pytest.raises(InputError, match="--epochs is 4 in process 2 and 3 in process 0"):
        processes.check_same({"--epochs": 3})


def test_what_is_wrong_in_one_process_ends_all(monkeypatch):
    Three(monkeypatch, "", "no such folder")
    with pytest.raises(InputError, match="process 2: no such folder"), processes.all_or_none():
        pass
