"""Short runs in separate processes, to be killed and compared."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fidle_jax.train.run_dir import read_result

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "mnist_cnn.py"
FAULTY = Path(__file__).with_name("faulty.py")
FLAGS = ["--data", "sample", "--epochs", "6", "--batch-size", "200", "--checkpoint-seconds", "0"]


def start(
    *flags, devices: int = 1, command=(FAULTY, "none"), environment: dict[str, str] | None = None
) -> subprocess.Popen:
    """Start a run on simulated devices. By default, it compiles quickly and has an empty report."""
    return subprocess.Popen(
        [sys.executable, *command, "--no-progress", *map(str, flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)} | (environment or {}),
    )


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def start_two(
    *flags, devices: tuple[int, int] = (2, 2), faults: tuple[str, str] = ("none", "none")
) -> list[subprocess.Popen]:
    """Start one run in two processes, with faults of `faulty.py`."""
    coordinator = f"127.0.0.1:{free_port()}"
    where = ("--distributed", "--coordinator", coordinator, "--processes", 2)
    where += ("--connect-seconds", 30, "--process-index")
    return [
        start(*flags, *where, i, devices=devices[i], command=(FAULTY, faults[i])) for i in range(2)
    ]


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Wait for the process. Return exit status, stdout and stderr."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def outcome(run_dir: Path) -> dict:
    """Return everything of a finished run but times: a digest of the parameters, metrics, result."""
    checkpoints = run_dir / "checkpoints"
    last = max(
        (path for path in checkpoints.iterdir() if path.name.isdigit()), key=lambda p: int(p.name)
    )
    facts = json.loads((last / "facts" / "metadata").read_text())
    result = read_result(run_dir)
    times = ("seconds", "images_per_second", "compile_seconds", "train_seconds", "transfer_seconds")
    times += ("step_milliseconds", "peak_memory_bytes")
    with (run_dir / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k not in times} for row in csv.DictReader(file)]
    return {
        "step": last.name,
        "digest": facts["digest"],
        "rows": rows,
        "result": {k: v for k, v in result.items() if k not in times},
    }


def check_ends_alike(run_dir: Path, expected: dict, processes: int) -> None:
    """Check that the result equals ``expected`` up to the order of floating-point sums."""
    found = outcome(run_dir)
    assert (found["step"], found["result"]["processes"]) == (expected["step"], processes)
    for name in ("train_loss", "validation_loss"):
        losses = [[float(row[name]) for row in each["rows"]] for each in (found, expected)]
        assert losses[0] == pytest.approx(losses[1], abs=2e-3)


def wait_for_epoch(process: subprocess.Popen, epoch: int) -> None:
    """Wait until the process prints the line of that epoch."""
    for line in process.stdout:
        if line.startswith(f"epoch {epoch}/"):
            return
    raise AssertionError(process.stderr.read())


def lose(both: list[subprocess.Popen], victim: int, tmp_path: Path) -> None:
    """Kill one process. Check that the other ends in time, and names it if both had joined."""
    both[victim].send_signal(signal.SIGKILL)
    began = time.monotonic()
    status, _, err = finish(both[1 - victim])
    seconds = time.monotonic() - began
    both[victim].communicate()
    print(f"process {victim} killed; the other ended after {seconds:.1f} s: {err}")
    assert seconds < 60
    assert (status, err.count("\n")) == (1, 1)
    if "processes joined" not in err and "was not reached" not in err:
        assert f"process {victim} on {socket.gethostname()} has ended" in err
        assert f"--run-dir {tmp_path / 'run'} --resume" in err
