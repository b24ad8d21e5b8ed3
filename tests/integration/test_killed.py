"""A run that is killed, however often, ends bit for bit as one that never was."""

import json
import random
import signal
import time

import pytest

from tests.integration.processes import (
    FLAGS,
    check_ends_alike,
    finish,
    lose,
    outcome,
    start,
    start_two,
    wait_for_epoch,
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
    """The outcome of a run left alone, and how long it takes with the cache warm."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    began = time.monotonic()
    status, _, err = finish(start(*FLAGS, "--run-dir", run_dir, cache=cache))
    seconds = time.monotonic() - began
    assert status == 0, err
    compiling = json.loads((run_dir / "result.json").read_text())["compile_seconds"]
    return outcome(run_dir), seconds - compiling


def kill_often(directory, cache, kills, seconds, seed):
    """Kills a run ``kills`` times, each at a random moment before ``seconds``; then lets it end.

    One that ended before its moment came is followed by a new one. Returns the outcomes of all.
    """
    moments = random.Random(seed)
    runs = [directory / "0"]
    while kills:
        process = start(*_go_on(runs[-1]), "--run-dir", runs[-1], cache=cache)
        time.sleep(moments.uniform(0, seconds))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills -= 1
        else:
            assert process.returncode == 0, process.stderr.read()
            runs.append(directory / str(len(runs)))
        process.communicate()
    status, _, err = finish(start(*_go_on(runs[-1]), "--run-dir", runs[-1], cache=cache))
    assert status == 0, err
    return [outcome(run_dir) for run_dir in runs]


def _go_on(run_dir):
    return ["--resume"] if (run_dir / "config.json").exists() else FLAGS


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_a_run_ends_bit_identical(undisturbed, tmp_path, cache, kills):
    expected, seconds = undisturbed
    outcomes = kill_often(tmp_path, cache, kills, seconds, seed=kills)
    print(f"{kills} kills of {len(outcomes)} runs")
    assert all(found == expected for found in outcomes)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_prints_the_command_that_goes_on(undisturbed, tmp_path, cache, number):
    process = start(*FLAGS, "--run-dir", tmp_path / "run", cache=cache)
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.send_signal(number)
    status, _, err = finish(process)
    assert status == 130
    assert err.count("\n") == 1
    command = err.split("to resume: ")[1].split()
    assert command[-3:] == ["--run-dir", str(tmp_path / "run"), "--resume"]
    status, out, err = finish(start(*command[2:], cache=cache))
    assert status == 0, err
    assert "resuming at step" in out
    assert outcome(tmp_path / "run") == undisturbed[0]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--parallel", "pmap"), ()])
def test_a_run_begun_on_four_devices_goes_on_on_one(undisturbed, tmp_path, cache, flags):
    expected, _ = undisturbed
    process = start(*FLAGS, *flags, "--run-dir", tmp_path / "run", cache=cache, devices=4)
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 130
    status, _, err = finish(start("--run-dir", tmp_path / "run", "--resume", cache=cache))
    assert status == 0, err
    check_ends_alike(tmp_path / "run", expected, processes=1)


def test_where_one_is_killed_the_other_names_it_and_the_run_resumes(undisturbed, tmp_path, cache):
    both = start_two(*FLAGS, "--run-dir", tmp_path / "run", cache=cache)
    wait_for_epoch(both[0], 2)
    lose(both, 0, tmp_path)
    status, out, err = finish(start("--run-dir", tmp_path / "run", "--resume", cache=cache))
    assert status == 0, err
    assert "resuming at step" in out
    check_ends_alike(tmp_path / "run", undisturbed[0], processes=1)


@pytest.fixture(scope="module")
def long(tmp_path_factory, cache):
    """Flags of a run that takes a while, and its outcome in two processes that are left alone."""
    run_dir = tmp_path_factory.mktemp("long") / "run"
    flags = [*FLAGS, "--epochs", 80]
    ends = [finish(process) for process in start_two(*flags, "--run-dir", run_dir, cache=cache)]
    assert [status for status, _, _ in ends] == [0, 0], ends
    return flags, outcome(run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_killed_at_random_moments_the_run_ends_bit_identical(long, tmp_path, cache, victim):
    flags, expected = long
    moments, run_dir = random.Random(victim), tmp_path / "run"

    def go_on():
        known = ["--resume"] if (run_dir / "config.json").exists() else flags
        return start_two(*known, "--run-dir", run_dir, cache=cache)

    for _ in range(5):
        both = go_on()
        time.sleep(moments.uniform(0, 20))
        assert both[victim].poll() is None
        lose(both, victim, tmp_path)
    ends = [finish(process) for process in go_on()]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert outcome(run_dir) == expected
