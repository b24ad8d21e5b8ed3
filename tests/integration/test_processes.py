"""A run in two processes has the result of one, prints one line per error, and never hangs."""

import re
import signal
import time

import pytest

from tests.integration.processes import (
    FLAGS,
    check_ends_alike,
    finish,
    free_port,
    outcome,
    start,
    start_two,
    wait_for_epoch,
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The outcome of an undisturbed run in one process on one device."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    status, _, err = finish(start(*FLAGS, "--run-dir", run_dir))
    assert status == 0, err
    return outcome(run_dir)


@pytest.mark.slow
def test_a_run_on_four_devices_can_be_resumed_in_two_processes_and_only_the_first_prints(
    undisturbed, tmp_path
):
    begun = start(*FLAGS, "--run-dir", tmp_path / "run", devices=4)
    wait_for_epoch(begun, 2)
    begun.send_signal(signal.SIGTERM)
    assert finish(begun)[0] == 130
    first, second = start_two("--run-dir", tmp_path / "run", "--resume")
    (status, out, err), (_, silence, _) = finish(first), finish(second)
    assert (status, err, silence, second.returncode) == (0, "", "", 0)
    assert "resuming at step" in out
    assert out.splitlines()[-1].startswith("mnist_dnn: test accuracy")
    check_ends_alike(tmp_path / "run", undisturbed, processes=2)


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both_and_the_run_can_be_resumed_in_one(
    undisturbed, tmp_path
):
    both = start_two(*FLAGS, "--run-dir", tmp_path / "run")
    wait_for_epoch(both[0], 2)
    both[1].send_signal(signal.SIGTERM)
    ends = [finish(process) for process in both]
    assert [status for status, _, _ in ends] == [130, 130]
    assert re.match(r"interrupted; .*: python ", ends[0][2])
    status, _, err = finish(start("--run-dir", tmp_path / "run", "--resume"))
    assert status == 0, err
    check_ends_alike(tmp_path / "run", undisturbed, processes=1)


@pytest.mark.slow
def test_both_processes_skip_a_checkpoint_that_the_first_finds_damaged(undisturbed, tmp_path):
    run_dir = tmp_path / "run"
    begun = start(*FLAGS, "--run-dir", run_dir)
    wait_for_epoch(begun, 3)
    begun.send_signal(signal.SIGTERM)
    assert finish(begun)[0] == 130
    flags = ("--run-dir", run_dir, "--resume")
    ends = [finish(one) for one in start_two(*flags, faults=("checkpoint", "checkpoint"))]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert "is damaged (a bad read); using the previous one" in ends[0][2]
    assert list((run_dir / "checkpoints").glob("damaged_*"))
    check_ends_alike(run_dir, undisturbed, processes=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "statuses", "said"),
    [
        (
            ("data", "none"),
            (2, 2),
            ("error: the data is damaged", "process 0: the data is damaged"),
        ),
        (
            ("none", "data"),
            (2, 2),
            ("process 1: the data is damaged", "error: the data is damaged"),
        ),
        (("test", "none"), (2, 1), ("error: the test split is damaged", "has ended")),
        (("code", "none"), (1, 1), ("ZeroDivisionError: a mistake", "process 0 on")),
        (("none", "code"), (1, 1), ("process 1 on", "ZeroDivisionError: a mistake")),
    ],
)
def test_an_error_in_one_process_ends_both_in_time(tmp_path, faults, statuses, said):
    flags = [*FLAGS, "--epochs", 1, "--run-dir", tmp_path / "run"]
    began = time.monotonic()
    ends = [finish(one) for one in start_two(*flags, faults=faults)]
    assert time.monotonic() - began < 90
    for (status, _, err), expected, text, fault in zip(ends, statuses, said, faults, strict=True):
        assert status == expected, ends
        assert text in err
        assert err.count("\n") == 1 or fault == "code"


@pytest.mark.slow
def test_processes_with_different_numbers_of_devices_say_so(tmp_path):
    flags = (*FLAGS, "--run-dir", tmp_path / "run")
    for status, _, err in map(finish, start_two(*flags, devices=(2, 3))):
        assert (status, err.count("\n")) == (2, 1)
        assert "the processes have 2, 3 devices; expected the same number in each" in err


@pytest.mark.slow
def test_an_interrupt_while_waiting_for_the_others_has_an_effect_at_once(tmp_path):
    flags = alone("--run-dir", tmp_path / "run", seconds=60)
    process = start(*flags)
    time.sleep(8)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    status, _, err = finish(process)
    assert time.monotonic() - began < 5
    assert (status, err) == (130, "interrupted before the run began\n")


def alone(*flags, index=0, port=None, seconds=1):
    """Return the flags of one of two processes. The other one does not start."""
    where = ("--distributed", "--coordinator", f"127.0.0.1:{port or free_port()}")
    where += ("--processes", 2, "--process-index", index, "--connect-seconds", seconds)
    return [*FLAGS, *where, *flags]


def test_processes_that_do_not_meet_end_with_a_line(tmp_path):
    started = [start(*alone("--run-dir", tmp_path / "run", index=index)) for index in (0, 1)]
    messages = "not all 2 processes joined", "was not reached within 1 s"
    for (status, _, err), message in zip(map(finish, started), messages, strict=True):
        assert (status, err.count("\n")) == (1, 1)
        assert message in err
        assert "--connect-seconds" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_with_different_flags_say_so_and_write_nothing(tmp_path):
    port = free_port()
    flags = [
        alone("--run-dir", tmp_path / "run", "--epochs", epochs, index=i, port=port, seconds=60)
        for i, epochs in enumerate((3, 4))
    ]
    for status, _, err in map(finish, [start(*each) for each in flags]):
        assert (status, err.count("\n")) == (2, 1)
        assert "--epochs is 4 in process 1 and 3 in process 0" in err
    assert not (tmp_path / "run").exists()


def test_processes_without_a_shared_run_directory_say_so_and_write_nothing(tmp_path, monkeypatch):
    started, port = [], free_port()
    for index, folder in enumerate(("here", "there")):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        flags = alone("--run-dir", "run", index=index, port=port, seconds=60)
        started.append(start(*flags))
    for status, _, err in map(finish, started):
        assert (status, err.count("\n")) == (2, 1)
        assert "give a --run-dir on a disk that all processes share" in err
    assert not list((tmp_path / "there").iterdir())
    assert not (tmp_path / "here" / "run" / "config.json").exists()
