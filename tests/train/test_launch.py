"""An experiment as a job: what each of its processes calls, and what happens when its time is over."""

import os
import signal
import threading
import time
from unittest.mock import Mock

import pytest
import submitit

from fidle_jax.train.launch import Experiment, submit

# An experiment that writes down its flags, and runs until it is told to stop.
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


def test_each_of_several_processes_here_is_told_which_it_is(file, tmp_path):
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
    """A job of one process on a cluster."""
    job = Mock(spec=submitit.JobEnvironment, num_tasks=1, cluster="slurm")
    monkeypatch.setattr(submitit, "JobEnvironment", lambda: job)


def test_a_run_that_is_told_to_save_is_asked_for_again_and_goes_on(file, tmp_path, one_process):
    run_dir = tmp_path / "run"
    experiment = Experiment(file, ("--wait",), run_dir)
    asked = []

    def time_is_over(*_):
        asked.append(experiment.checkpoint())

    before = signal.signal(signal.SIGUSR2, time_is_over)
    try:
        threading.Thread(target=signal_once_begun, args=(run_dir,)).start()
        with pytest.raises(SystemExit, match="130"):
            experiment()
    finally:
        signal.signal(signal.SIGUSR2, before)
    again = asked[0].function
    assert again == experiment
    again()
    assert calls(run_dir)[1] == ["--wait", "--run-dir", str(run_dir), "--resume"]


def signal_once_begun(run_dir):
    while not (run_dir / "config.json").exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGUSR2)


def test_a_run_that_fails_ends_its_job_with_its_status(file, tmp_path, one_process):
    with pytest.raises(SystemExit, match="3"):
        Experiment(file, ("--fail",), tmp_path / "run")()
    assert submit(file, ("--fail",), tmp_path / "here", "local").results() == [3]
