"""A run that is killed and resumed has the same bits as one that is not."""

import json
import random
import re
import signal
import time

import pytest

from tests.integration.processes import (
    EXPERIMENT,
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
def undisturbed(tmp_path_factory):
    """The outcome of an undisturbed run."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    status, _, err = finish(start(*FLAGS, "--run-dir", run_dir))
    assert status == 0, err
    return outcome(run_dir)


def kill_often(directory, kills, seconds, seed):
    """Kill a run of the experiment ``kills`` times, at random moments before ``seconds``, then let it finish.

    If a run finishes earlier, start a new one. Return the outcomes of all.
    """
    moments = random.Random(seed)
    runs = [directory / "0"]
    while kills:
        process = start_experiment(runs[-1])
        time.sleep(moments.uniform(0, seconds))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills -= 1
        else:
            assert process.returncode == 0, process.stderr.read()
            runs.append(directory / str(len(runs)))
        process.communicate()
    status, _, err = finish(start_experiment(runs[-1]))
    assert status == 0, err
    return [outcome(run_dir) for run_dir in runs]


def start_experiment(run_dir):
    """Start or resume a run of the experiment, which ends with its report."""
    flags = ["--resume"] if (run_dir / "config.json").exists() else FLAGS
    return start(*flags, "--run-dir", run_dir, command=[EXPERIMENT])


@pytest.mark.slow
def test_a_run_that_is_killed_often_at_random_moments_has_the_same_bits(tmp_path):
    began = time.monotonic()
    status, _, err = finish(start_experiment(tmp_path / "undisturbed"))
    seconds = time.monotonic() - began
    assert status == 0, err
    expected = outcome(tmp_path / "undisturbed")
    seconds -= json.loads((tmp_path / "undisturbed" / "result.json").read_text())["compile_seconds"]
    outcomes = kill_often(tmp_path, 20, seconds, seed=20)
    print(f"20 kills of {len(outcomes)} runs")
    assert all(found == expected for found in outcomes)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_run_that_is_stopped_and_then_killed_has_the_same_bits(undisturbed, tmp_path, number):
    process = start(*FLAGS, "--run-dir", tmp_path / "run")
    wait_for_epoch(process, 2)
    process.send_signal(number)
    status, _, err = finish(process)
    assert status == 130
    assert err.count("\n") == 1
    command = re.search("python .*", err)[0].split()
    assert command[-3:] == ["--run-dir", str(tmp_path / "run"), "--resume"]

    process = start(*command[2:])
    wait_for_epoch(process, 4)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    status, out, err = finish(start(*command[2:]))
    assert status == 0, err
    assert "resuming at step" in out
    assert outcome(tmp_path / "run") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--parallel", "pmap"), ()])
def test_a_run_on_four_devices_can_be_resumed_on_one(undisturbed, tmp_path, flags):
    process = start(*FLAGS, *flags, "--run-dir", tmp_path / "run", devices=4)
    wait_for_epoch(process, 2)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 130
    status, _, err = finish(start("--run-dir", tmp_path / "run", "--resume"))
    assert status == 0, err
    check_ends_alike(tmp_path / "run", undisturbed, processes=1)


def test_if_one_of_two_processes_is_killed_the_other_names_it_and_the_run_can_be_resumed(
    undisturbed, tmp_path
):
    both = start_two(*FLAGS, "--run-dir", tmp_path / "run")
    wait_for_epoch(both[0], 2)
    lose(both, 0, tmp_path)
    status, out, err = finish(start("--run-dir", tmp_path / "run", "--resume"))
    assert status == 0, err
    assert "resuming at step" in out
    check_ends_alike(tmp_path / "run", undisturbed, processes=1)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Flags of a longer run, and its outcome in two undisturbed processes."""
    run_dir = tmp_path_factory.mktemp("long") / "run"
    flags = [*FLAGS, "--epochs", 80]
    ends = [finish(process) for process in start_two(*flags, "--run-dir", run_dir)]
    assert [status for status, _, _ in ends] == [0, 0], ends
    return flags, outcome(run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_in_two_processes_that_is_killed_often_has_the_same_bits(long, tmp_path, victim):
    flags, expected = long
    moments, run_dir = random.Random(victim), tmp_path / "run"

    def resume():
        known = ["--resume"] if (run_dir / "config.json").exists() else flags
        return start_two(*known, "--run-dir", run_dir)

    for _ in range(5):
        both = resume()
        time.sleep(moments.uniform(0, 20))
        assert both[victim].poll() is None
        lose(both, victim, tmp_path)
    ends = [finish(process) for process in resume()]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert outcome(run_dir) == expected
