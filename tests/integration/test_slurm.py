"""Tests of the scripts in experiments/slurm/ on a real Slurm with two small nodes."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fidle_jax.sweep.results import read_table
from tests.integration.processes import EXPERIMENT, finish, outcome, start

SCRIPTS = EXPERIMENT.parent / "slurm"
FLAGS = ["--data", "sample", "--batch-size", "200"]
SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """``slurm(words...)`` runs a Slurm command in the jobs' directory and returns its output."""
    missing = [
        name for name in ("sbatch", "slurmctld", "munged") if not shutil.which(name, path=SBIN)
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed (Debian's slurm-wlm and munge)")
    script = Path(__file__).with_name("slurm_cluster.sh")
    work = tmp_path_factory.mktemp("jobs")
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="slurm") as directory:
        started = subprocess.run(
            ["bash", script, "start", directory], capture_output=True, text=True, check=False
        )
        if started.returncode:
            pytest.skip(f"Slurm's daemons do not run here: {started.stderr.strip()}")
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{SBIN}",
            "SLURM_CONF": f"{directory}/slurm.conf",
            "JAX_NUM_CPU_DEVICES": "2",
        }

        def slurm(*words):
            done = subprocess.run(
                [*map(str, words)],
                cwd=work,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout

        slurm.work = work
        yield slurm
        subprocess.run(["bash", script, "stop", directory], check=True)


def submit(slurm, script, *flags, sbatch=()):
    printed = slurm("sbatch", "--output=out-%A", *sbatch, SCRIPTS / script, EXPERIMENT, *flags)
    return int(printed.split()[-1])


def states(slurm, job):
    """Return (state, number of restarts) of each task of a job."""
    shown = slurm("scontrol", "show", "job", job)
    return re.findall(r"JobState=(\w+).*?Restarts=(\d+)", shown, re.DOTALL)


def wait(
    slurm, job, ends=("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"), seconds=500
):
    """Wait until the state of each task is one of ``ends``. Return the states."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = states(slurm, job)
        if all(state in ends for state, _ in found):
            return found
        time.sleep(1)
    log = slurm.work / f"out-{job}"
    raise AssertionError(f"{found}: {log.read_text() if log.exists() else 'no output'}")


def test_a_run_on_two_nodes_is_signalled_at_its_time_limit_queues_again_and_finishes(
    slurm, tmp_path
):
    flags = [*FLAGS, "--epochs", 150]
    # Slurm checks the time every 30 s, so the signal comes 60 to 90 s after the start.
    short = ("--time=2", "--signal=TERM@30", "--cpus-per-task=2")
    job = submit(slurm, "several_nodes.sh", *flags, sbatch=short)
    ((state, restarts),) = wait(slurm, job)
    text = (slurm.work / f"out-{job}").read_text()
    assert (state, int(restarts) > 0) == ("COMPLETED", True), text
    assert text.count("interrupted; ") >= int(restarts)
    assert "resuming at step" in text
    found = outcome(slurm.work / "runs" / "mnist_cnn" / f"job-{job}")
    assert (found["result"]["processes"], found["result"]["devices"]) == (2, 4)

    undisturbed = start(*flags, "--run-dir", tmp_path / "run", command=[EXPERIMENT])
    assert finish(undisturbed)[0] == 0
    expected = outcome(tmp_path / "run")
    assert found["step"] == expected["step"]
    for rows in zip(found["rows"][:5], expected["rows"], strict=False):
        losses = [float(row["train_loss"]) for row in rows]
        assert losses[0] == pytest.approx(losses[1], abs=2e-3)
    accuracies = [each["result"]["test_accuracy"] for each in (found, expected)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.01)


def test_a_job_array_runs_each_seed_once(slurm):
    job = submit(slurm, "array.sh", *FLAGS, "--epochs", 1, sbatch=("--array=0-1",))
    assert [state for state, _ in wait(slurm, job)] == ["COMPLETED"] * 2
    folder = slurm.work / "runs" / "mnist_cnn" / f"array-{job}"
    results = [json.loads((folder / f"seed-{i}" / "result.json").read_text()) for i in range(2)]
    assert [result["seed"] for result in results] == [0, 1]


def test_a_cancelled_job_is_not_requeued_and_keeps_its_checkpoints(slurm):
    job = submit(slurm, "one_node.sh", *FLAGS, "--epochs", 500)
    run_dir = slurm.work / "runs" / "mnist_cnn" / f"job-{job}"
    metrics = run_dir / "metrics.csv"
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert states(slurm, job)[0][0] in ("PENDING", "RUNNING")
        time.sleep(0.5)
    slurm("scancel", job)
    wait(slurm, job)
    time.sleep(15)
    assert states(slurm, job) == [("CANCELLED", "0")]
    assert list((run_dir / "checkpoints").iterdir())


def test_launch_submits_a_job_of_two_processes(slurm):
    launched = ("--launch", "slurm", "--tasks-per-node", 2, "--cpus-per-task", 1, "--minutes", 5)
    flags = (*FLAGS, "--epochs", 1, "--run-dir", "runs/launched")
    printed = slurm(sys.executable, EXPERIMENT, *flags, *launched)
    job = int(re.match(r"job (\d+); ", printed)[1])
    assert [state for state, _ in wait(slurm, job)] == ["COMPLETED"]
    result = json.loads((slurm.work / "runs" / "launched" / "result.json").read_text())
    assert (result["processes"], result["devices"]) == (2, 4)


def test_a_sweep_as_a_job_array_runs_each_setting_once(slurm):
    sweep_dir = slurm.work / "sweep"
    printed = slurm(
        *(sys.executable, EXPERIMENT.with_name("sweep.py"), "--experiment", "mnist_dnn"),
        *("--grid", "learning-rate=0.001,0.003", "--seeds", 2, "--sweep-dir", sweep_dir),
        *("--launch", "slurm", "--workers", 2, "--minutes", 10, "--", *FLAGS, "--epochs", 1),
    )
    job = int(re.search(r"job array (\d+) with 2 jobs", printed)[1])
    assert [state for state, _ in wait(slurm, job)] == ["COMPLETED"] * 2
    table = read_table(sweep_dir)
    assert sorted(zip(table["learning_rate"], table["seed"], strict=True)) == [
        (rate, seed) for rate in (0.001, 0.003) for seed in (0, 1)
    ]
    logs = "".join(path.read_text() for path in (sweep_dir / "jobs").glob("*.out"))
    assert logs.count("test accuracy") == 4
