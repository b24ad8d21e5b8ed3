"""A run in two processes: the result of one, and one line where something is wrong; nothing hangs."""

import signal
import socket
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
def undisturbed(tmp_path_factory, cache):
    """The outcome of a run in one process on one device."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    status, _, err = finish(start(*FLAGS, "--run-dir", run_dir, cache=cache))
    assert status == 0, err
    return outcome(run_dir)


@pytest.mark.slow
def test_a_run_begun_on_four_devices_ends_in_two_processes_and_the_first_alone_tells(
    undisturbed, tmp_path, cache
):
    begun = start(*FLAGS, "--run-dir", tmp_path / "run", cache=cache, devices=4)
    wait_for_epoch(begun, 2)
    begun.send_signal(signal.SIGTERM)
    assert finish(begun)[0] == 130
    first, second = start_two("--run-dir", tmp_path / "run", "--resume", cache=cache)
    (status, out, err), (_, silence, _) = finish(first), finish(second)
    assert (status, err, silence, second.returncode) == (0, "", "", 0)
    assert "resuming at step" in out
    assert out.splitlines()[-1].startswith("mnist_cnn: test accuracy")
    check_ends_alike(tmp_path / "run", undisturbed, processes=2)


@pytest.mark.slow
def test_a_signal_to_one_of_two_has_both_save_and_the_run_goes_on_in_one(
    undisturbed, tmp_path, cache
):
    both = start_two(*FLAGS, "--run-dir", tmp_path / "run", cache=cache)
    wait_for_epoch(both[0], 2)
    both[1].send_signal(signal.SIGTERM)
    ends = [finish(process) for process in both]
    assert [status for status, _, _ in ends] == [130, 130]
    assert ends[0][2].startswith("interrupted; to resume: python ")
    status, _, err = finish(start("--run-dir", tmp_path / "run", "--resume", cache=cache))
    assert status == 0, err
    check_ends_alike(tmp_path / "run", undisturbed, processes=1)


@pytest.mark.slow
def test_a_checkpoint_that_the_first_finds_damaged_is_passed_over_by_both(
    undisturbed, tmp_path, cache
):
    run_dir = tmp_path / "run"
    begun = start(*FLAGS, "--run-dir", run_dir, cache=cache)
    wait_for_epoch(begun, 3)
    begun.send_signal(signal.SIGTERM)
    assert finish(begun)[0] == 130
    flags = ("--run-dir", run_dir, "--resume")
    ends = [
        finish(one) for one in start_two(*flags, cache=cache, faults=("checkpoint", "checkpoint"))
    ]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert "is damaged (a bad read); using the previous one" in ends[0][2]
    assert list((run_dir / "checkpoints").glob("damaged_*"))
    check_ends_alike(run_dir, undisturbed, processes=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "statuses", "said"),
    [
        (("data", ""), (2, 2), ("error: the data is damaged", "process 0: the data is damaged")),
        (("", "data"), (2, 2), ("process 1: the data is damaged", "error: the data is damaged")),
        (("test", ""), (2, 1), ("error: the test split is damaged", "has ended")),
        (("code", ""), (1, 1), ("ZeroDivisionError: a mistake", "process 0 on")),
        (("", "code"), (1, 1), ("process 1 on", "ZeroDivisionError: a mistake")),
    ],
)
def test_what_goes_wrong_in_one_ends_both_in_time(tmp_path, cache, faults, statuses, said):
    flags = [*FLAGS, "--epochs", 1, "--run-dir", tmp_path / "run"]
    began = time.monotonic()
    ends = [finish(one) for one in start_two(*flags, cache=cache, faults=faults)]
    assert time.monotonic() - began < 90
    for (status, _, err), expected, text, fault in zip(ends, statuses, said, faults, strict=True):
        assert status == expected, ends
        assert text in err
        assert err.count("\n") == 1 or fault == "code"


@pytest.mark.slow
def test_processes_with_other_numbers_of_devices_say_so(tmp_path, cache):
    flags = (*FLAGS, "--run-dir", tmp_path / "run")
    for status, _, err in map(finish, start_two(*flags, cache=cache, devices=(2, 3))):
        assert (status, err.count("\n")) == (2, 1)
        assert "the processes have 2, 3 devices; expected the same number in each" in err


@pytest.mark.slow
def test_an_interrupt_while_the_others_are_awaited_is_answered_at_once(tmp_path, cache):
    flags = alone("--run-dir", tmp_path / "run", seconds=60)
    process = start(*flags, cache=cache)
    time.sleep(8)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    status, _, err = finish(process)
    assert time.monotonic() - began < 5
    assert (status, err) == (130, "interrupted before the run began\n")


def alone(*flags, index=0, port=None, seconds=1):
    """One of two processes, the other of which never comes."""
    where = ("--distributed", "--coordinator", f"127.0.0.1:{port or free_port()}")
    where += ("--processes", 2, "--process-index", index, "--connect-seconds", seconds)
    return [*FLAGS, *where, *flags]


@pytest.mark.parametrize(
    ("index", "named"),
    [(0, "not all 2 processes joined"), (1, "was not reached within 1 s")],
)
def test_processes_that_do_not_meet_end_with_a_line(tmp_path, cache, index, named):
    flags = alone("--run-dir", tmp_path / "run", index=index)
    status, _, err = finish(start(*flags, cache=cache))
    assert (status, err.count("\n")) == (1, 1)
    assert named in err
    assert "--connect-seconds" in err
    assert not (tmp_path / "run").exists()


def test_a_port_that_is_taken_is_named(tmp_path, cache):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = alone("--run-dir", tmp_path / "run", port=port)
        status, _, err = finish(start(*flags, cache=cache))
    assert (status, err.count("\n")) == (2, 1)
    assert f"port {port} is not available (Address already in use)" in err


def test_processes_that_disagree_or_share_no_folder_say_so_and_leave_nothing(
    tmp_path, cache, monkeypatch
):
    port = free_port()
    one, other = (
        alone("--run-dir", tmp_path / "run", "--epochs", epochs, index=i, port=port, seconds=60)
        for i, epochs in enumerate((3, 4))
    )
    for status, _, err in map(finish, [start(*one, cache=cache), start(*other, cache=cache)]):
        assert (status, err.count("\n")) == (2, 1)
        assert "--epochs is 4 in process 1 and 3 in process 0" in err
    assert not (tmp_path / "run").exists()

    started = []
    port = free_port()
    for index, folder in enumerate(("here", "there")):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        flags = alone("--run-dir", "run", index=index, port=port, seconds=60)
        started.append(start(*flags, cache=cache))
    for status, _, err in map(finish, started):
        assert (status, err.count("\n")) == (2, 1)
        assert "give a --run-dir on a disk that all processes share" in err
    assert not list((tmp_path / "there").iterdir())
    assert not (tmp_path / "here" / "run" / "config.json").exists()
