"""Tests of jobs: the flags of each process, and what happens at the time limit."""

import os
import signal
import threading
import time
from unittest.mock import Mock

import pytest
import submitit

from fidle_jax.train.launch import Experiment, submit

# An experiment that records its flags, and runs until it is stopped.
FILE = """
import pathlib, signal, sys, time
flags = sys.argv[1:]
run_dir = pathlib.Path(flags[flags.index("--run-dir") + 1])
run_dir.mkdir(exist_ok=True)
with (run_dir / "calls").open("a") as calls:
    print(*flags, file=calls)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
if "--distributed" not in flags:
    (run_dir / "config.json").write_text("")
if "--wait" in flags and "--resume" not in flags:
    time.sleep(60)
sys.exit(3 if "--fail" in flags else 0)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(FILE)
    return path


def calls(run_dir):
    return [line.split() for line in (run_dir / "calls").read_text().splitlines()]


def test_each_local_process_gets_its_index(file, tmp_path):
    job = submit(file, ("--epochs", "3"), tmp_path / "run", "local", tasks_per_node=2)
    assert job.results() == [0, 0]
    first, second = sorted(calls(tmp_path / "run"), key=lambda words: words[-1])
    assert first[:4] == ["--epochs", "3", "--run-dir", str(tmp_path / "run")]
    assert first[-4:] == ["--processes", "2", "--process-index", "0"]
    assert second[-1] == "1"
    assert first[-6:-4] == second[-6:-4]
    assert first[-5].startswith("127.0.0.1:")


@pytest.fixture
def one_process(monkeypatch):
    """Pretend to be a job of one process on a cluster."""
    job = Mock(spec=submitit.JobEnvironment, num_tasks=1, cluster="slurm")
    monkeypatch.setattr(submitit, "JobEnvironment", lambda: job)


def test_a_job_that_reaches_its_time_limit_is_submitted_again_and_resumes(
    file, tmp_path, one_process
):
    run_dir = tmp_path / "run"
    experiment = Experiment(file, ("--wait",), run_dir)
    submissions = []

    def at_time_limit(*_):
        submissions.append(experiment.checkpoint())

    before = signal.signal(signal.SIGUSR2, at_time_limit)
    try:
        threading.Thread(target=signal_once_started, args=(run_dir,)).start()
        with pytest.raises(SystemExit, match="130"):
            experiment()
    finally:
        signal.signal(signal.SIGUSR2, before)
    again = submissions[0].function
    assert again == experiment
    again()
    assert calls(run_dir)[1] == ["--wait", "--run-dir", str(run_dir), "--resume"]


def signal_once_started(run_dir):
    while not (run_dir / "config.json").exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGUSR2)


def test_a_failed_run_ends_its_job_with_the_same_status(file, tmp_path, one_process):
    with pytest.raises(SystemExit, match="3"):
        Experiment(file, ("--fail",), tmp_path / "run")()
    assert submit(file, ("--fail",), tmp_path / "here", "local").results() == [3]
