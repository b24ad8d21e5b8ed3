"""Tests that a sweep whose workers are killed has the same results after resuming."""

import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from fidle_jax.sweep import results
from tests.integration.processes import EXPERIMENT, outcome

SWEEP = EXPERIMENT.with_name("sweep.py")
RUNS, KILLS = 100, 10

pytestmark = pytest.mark.slow


def _start(sweep_dir):
    axes = ("learning-rate=1e-4,3e-4,1e-3,3e-3,1e-2", "optimizer=adam,adamw,sgd,momentum")
    flags = ("--data", "sample", "--epochs", "2", "--batch-size", "600")
    flags += ("--checkpoint-seconds", "0")
    where = ("--sweep-dir", sweep_dir, "--launch", "local", "--workers", "4")
    command = (SWEEP, "--experiment", "mnist_dnn", "--grid", *axes, "--seeds", "5", *where)
    return subprocess.Popen(
        [sys.executable, *command, "--", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _workers_and_runs(sweep):
    found = []
    for process in psutil.Process(sweep.pid).children(recursive=True):
        try:
            words = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "submitit.core._submit" in words or str(EXPERIMENT.with_name("mnist_dnn.py")) in words:
            found.append(process)
    return found


def test_a_hundred_runs_over_four_workers_survive_ten_kills(tmp_path):
    chance, kills = random.Random(0), 0
    sweep = _start(tmp_path / "disturbed")
    while kills < KILLS:
        time.sleep(chance.uniform(2, 15))
        if sweep.poll() is not None:
            # All four workers were killed. The same command resumes the sweep.
            assert sweep.returncode == 1, sweep.communicate()[0]
            sweep = _start(tmp_path / "disturbed")
        elif processes := _workers_and_runs(sweep):
            chance.choice(processes).send_signal(signal.SIGKILL)
            kills += 1
    sweep.wait()
    status = sweep.returncode
    if status:
        sweep = _start(tmp_path / "disturbed")
        status = sweep.wait()
    assert (status, "100 of 100 runs are finished" in (out := sweep.communicate()[0])) == (
        0,
        True,
    ), out
    table = results.read_table(tmp_path / "disturbed")
    assert (len(table), len(set(table["run"]))) == (RUNS, RUNS)

    sweep = _start(tmp_path / "undisturbed")
    assert sweep.wait() == 0
    assert list(results.read_table(tmp_path / "undisturbed")["run"]) == list(table["run"])
    for run in table["run"]:
        found, expected = (
            outcome(tmp_path / d / "runs" / run) for d in ("disturbed", "undisturbed")
        )
        assert found == expected
