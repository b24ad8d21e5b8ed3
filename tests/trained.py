"""A short finished run, trained once per session for all tests that start with one."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, compilation_cache) -> Path:
    """Directory of a finished run on the embedded MNIST sample. Tests must not change it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    run_dir = shared / "trained_run"
    with (shared / "trained_run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (run_dir / "report.html").exists():
            train_sample(run_dir, "--epochs", "3", "--augmentation", "none")
    return run_dir


@pytest.fixture(scope="session")
def trained(trained_run):
    """The network of that run."""
    from fidle_jax.inference.load import load

    return load(trained_run)


@pytest.fixture(scope="session")
def evaluation(trained_run):
    """The test images of that run, with their labels and probabilities."""
    with np.load(trained_run / "evaluation.npz") as arrays:
        return dict(arrays)


def train_sample(run_dir: Path, *flags: str, experiment: str = "mnist_cnn") -> None:
    """Train a network on the embedded MNIST sample in a process of its own."""
    command = [sys.executable, EXPERIMENTS / f"{experiment}.py", "--data", "sample", *flags]
    done = subprocess.run(
        [*command, "--run-dir", run_dir], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
