"""A worker runs each trial once, goes on with what was begun, and writes down what failed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fidle_jax.sweep import folder
from fidle_jax.sweep.worker import Stopped, known_trials, work
from tests.sweep.made_up_experiment import (
    DIES,
    DIES_ONCE,
    ENDS_BADLY,
    FAILS,
    HAS_NO_RESULT,
    STOPS_ONCE,
)

WORKER = """
import dataclasses, sys
from pathlib import Path
from fidle_jax.sweep.experiment import load_experiment
from fidle_jax.sweep.plan import Plan
from fidle_jax.sweep.worker import work
file, sweep_dir, index, count = sys.argv[1:]
experiment = load_experiment(Path(file))
plan = Plan(dataclasses.replace(experiment.defaults, epochs=2), {"learning_rate": (0.1, 0.2)}, seeds=3)
work(Path(sweep_dir), experiment, plan, place=(int(index), int(count)))
"""


def calls(sweep_dir):
    """Each run's calls, as lists of words."""
    found = {path.parent.name: path.read_text() for path in (sweep_dir / "runs").glob("*/calls")}
    return {name: [line.split() for line in text.splitlines()] for name, text in found.items()}


def test_every_trial_runs_once(begin, made_up):
    plan, sweep_dir = begin({"learning_rate": (0.1, 0.2)}, seeds=2)
    told = []
    work(sweep_dir, made_up, plan, tell=told.append)
    assert len(told) == 4
    assert all("made up: test accuracy" in line for line in told)
    work(sweep_dir, made_up, plan)
    found = calls(sweep_dir)
    assert sorted(found) == sorted(trial.name for trial in known_trials(sweep_dir, plan))
    assert all(len(lines) == 1 for lines in found.values())
    assert len(folder.read_table(sweep_dir)) == 4


def test_the_longest_are_run_first_where_it_is_known_how_long_they_take(begin, made_up):
    plan, sweep_dir = begin({"learning_rate": (0.1, 0.2, 0.3, 0.4)})
    names = [trial.name for trial in known_trials(sweep_dir, plan)]
    expected = {names[0]: 5.0, names[1]: 9.0, names[2]: None, names[3]: 7.0}
    told = []
    work(sweep_dir, made_up, plan, tell=told.append, expected=expected)
    order = [line.partition(":")[0] for line in told]
    assert order == [names[1], names[3], names[0], names[2]]


def test_a_run_that_fails_is_kept_with_its_last_words_and_does_not_stop_the_rest(begin, made_up):
    plan, sweep_dir = begin({"learning_rate": (FAILS, 0.1)})
    work(sweep_dir, made_up, plan)
    ((name, reason),) = folder.all_failures(sweep_dir)
    assert name.startswith(f"{FAILS}-")
    assert reason == "error: this learning rate fails"
    assert list(folder.read_table(sweep_dir)["learning_rate"]) == [0.1]
    work(sweep_dir, made_up, plan)
    assert len(calls(sweep_dir)[name]) == 1


def test_failed_runs_are_tried_again_once_they_are_forgotten(begin, made_up):
    plan, sweep_dir = begin({"learning_rate": (FAILS,)})
    work(sweep_dir, made_up, plan)
    folder.forget_failures(sweep_dir)
    work(sweep_dir, made_up, plan)
    ((_, again),) = calls(sweep_dir).values()
    assert "--resume" in again


def test_a_run_that_is_killed_goes_on_and_one_that_is_killed_again_and_again_fails(begin, made_up):
    plan, sweep_dir = begin({"learning_rate": (DIES_ONCE, DIES)})
    work(sweep_dir, made_up, plan)
    ((name, reason),) = folder.all_failures(sweep_dir)
    assert (name.startswith(f"{DIES}-"), "SIGKILL 3 times" in reason) == (True, True)
    assert list(folder.read_table(sweep_dir)["learning_rate"]) == [DIES_ONCE]


def test_a_result_counts_however_its_run_ended_and_a_run_without_one_failed(begin, made_up):
    plan, sweep_dir = begin({"learning_rate": (ENDS_BADLY, HAS_NO_RESULT)})
    work(sweep_dir, made_up, plan)
    assert list(folder.read_table(sweep_dir)["learning_rate"]) == [ENDS_BADLY]
    ((name, reason),) = folder.all_failures(sweep_dir)
    assert (name[:3], reason) == ("7.0", "it ended without a result: that was all")


def test_the_table_has_what_a_worker_finished_that_was_killed_before_it_could_write_it(
    begin, made_up
):
    plan, sweep_dir = begin({"learning_rate": (0.1,)})
    work(sweep_dir, made_up, plan)
    (sweep_dir / "results.sqlite").unlink()
    work(sweep_dir, made_up, plan)
    assert (sweep_dir / "results.sqlite").exists()


def test_an_impatient_worker_leaves_what_others_run(begin, made_up):
    plan, sweep_dir = begin({"learning_rate": (0.1, 0.2)})
    first, second = known_trials(sweep_dir, plan)
    with folder.claim(sweep_dir, first.name):
        work(sweep_dir, made_up, plan, patient=False)
    assert list(folder.read_table(sweep_dir)["run"]) == [second.name]


def test_a_run_that_is_interrupted_ends_the_worker_and_goes_on_later(begin, made_up):
    plan, sweep_dir = begin({"learning_rate": (STOPS_ONCE, 0.1)})
    with pytest.raises(Stopped):
        work(sweep_dir, made_up, plan)
    assert folder.all_failures(sweep_dir) == []
    work(sweep_dir, made_up, plan)
    assert sorted(folder.read_table(sweep_dir)["learning_rate"]) == [0.1, STOPS_ONCE]


def test_halving_runs_its_rungs_one_after_the_other(begin, made_up):
    axes = {"learning_rate": (0.1, 0.2, 0.3, 0.4, 0.5)}
    plan, sweep_dir = begin(axes, epochs=None, search="halving", samples=40, first_epochs=1)
    work(sweep_dir, made_up, plan)
    table = folder.read_table(sweep_dir)
    assert sorted(table["epochs"]) == [1] * 5 + [3]
    assert list(table["learning_rate"][table["epochs"] == 3]) == [0.1]


def _start(file, sweep_dir, index, count, seconds):
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, file, sweep_dir, str(index), str(count)],
        env=os.environ | {"MADE_UP_SECONDS": str(seconds), "PYTHONPATH": str(root)},
    )


def test_workers_side_by_side_share_the_trials(begin, made_up):
    _, sweep_dir = begin({"learning_rate": (0.1, 0.2)}, seeds=3)
    workers = [_start(made_up.file, sweep_dir, k, 3, 0.2) for k in range(3)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    assert [len(lines) for lines in calls(sweep_dir).values()] == [1] * 6
    assert len(folder.read_table(sweep_dir)) == 6


@pytest.mark.skipif(
    sys.platform != "linux", reason="Linux alone tells a process of its parent's death"
)
def test_the_run_of_a_killed_worker_ends_too_before_another_takes_it(begin, made_up):
    plan, sweep_dir = begin({"learning_rate": (0.1, 0.2)}, seeds=3)
    worker = _start(made_up.file, sweep_dir, 0, 1, 60)
    deadline = time.monotonic() + 60
    while not calls(sweep_dir) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    work(sweep_dir, made_up, plan)
    assert len(folder.read_table(sweep_dir)) == 6
    assert sorted(len(lines) for lines in calls(sweep_dir).values()) == [1] * 5 + [2]
