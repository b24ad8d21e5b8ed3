"""A run that is killed, however often, ends bit for bit as one that never was."""

import random
import signal
import time

import pytest

from tests.integration.processes import FLAGS, finish, outcome, start


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
    """The outcome of a run left alone, and how long it took with the cache warm."""
    directory = tmp_path_factory.mktemp("undisturbed")
    first = finish(start(*FLAGS, "--run-dir", directory / "first", cache=cache))
    assert first[0] == 0, first[2]
    began = time.monotonic()
    second = finish(start(*FLAGS, "--run-dir", directory / "second", cache=cache))
    seconds = time.monotonic() - began
    assert second[0] == 0, second[2]
    assert outcome(directory / "first") == outcome(directory / "second")
    return outcome(directory / "first"), seconds


def kill_often(run_dir, cache, kills, seconds, seed, flags=FLAGS):
    """Starts the run and kills it, each time at a random moment before ``seconds``; then lets it end."""
    moments = random.Random(seed)
    for _ in range(kills):
        process = start(*_go_on(run_dir, flags), "--run-dir", run_dir, cache=cache)
        time.sleep(moments.uniform(0, seconds))
        assert process.poll() is None, "the run ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    status, _, err = finish(start(*_go_on(run_dir, flags), "--run-dir", run_dir, cache=cache))
    assert status == 0, err


def _go_on(run_dir, flags):
    return ["--resume"] if (run_dir / "config.json").exists() else flags


def test_killed_at_3_random_moments_a_run_ends_bit_identical(undisturbed, tmp_path, cache):
    expected, seconds = undisturbed
    kill_often(tmp_path / "run", cache, 3, 0.7 * seconds, seed=1)
    assert outcome(tmp_path / "run") == expected


@pytest.mark.slow
def test_killed_at_20_random_moments_a_run_ends_bit_identical(tmp_path, cache):
    longer = [*FLAGS, "--epochs", "100"]
    process = start(*longer, "--run-dir", tmp_path / "undisturbed", cache=cache)
    began = time.monotonic()
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    # Long enough to get some steps further now and then, too short to end before the 20th.
    seconds = time.monotonic() - began + 2
    assert finish(process)[0] == 0
    kill_often(tmp_path / "run", cache, 20, seconds, seed=2, flags=longer)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "undisturbed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_prints_the_command_that_goes_on(undisturbed, tmp_path, cache, number):
    process = start(*FLAGS, "--run-dir", tmp_path / "run", cache=cache)
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.send_signal(number)
    status, _, err = finish(process)
    assert status == 130
    assert err.count("\n") == 1
    command = err.split("to go on: ")[1].split()
    assert command[-3:] == ["--run-dir", str(tmp_path / "run"), "--resume"]
    status, out, err = finish(start(*command[2:], cache=cache))
    assert status == 0, err
    assert "going on from step" in out
    assert outcome(tmp_path / "run") == undisturbed[0]
