"""A small finished run, made once a session for all who begin with one."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SHORT = ("--epochs", "3", "--augmentation", "none")


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, compilation_cache) -> Path:
    """The directory of a finished run on the embedded sample of MNIST: to be read, never written."""
    return finished_run(tmp_path_factory)


def finished_run(tmp_path_factory) -> Path:
    """As `trained_run`; processes that test side by side share it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    run_dir = shared / "trained_run"
    with (shared / "trained_run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (run_dir / "report.html").exists():
            train_sample(run_dir, *SHORT)
    return run_dir


def train_sample(run_dir: Path, *flags: str) -> None:
    """Trains the network for digits on the embedded sample, in a process of its own."""
    command = [sys.executable, EXPERIMENTS / "mnist_cnn.py", "--data", "sample", *flags]
    done = subprocess.run(
        [*command, "--run-dir", run_dir], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
