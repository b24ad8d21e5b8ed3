"""Training continues if an output stream fails, and wrong environments give one line."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / "experiments" / "mnist_dnn.py"

DAMAGES = (
    lambda data: b"",
    lambda data: b"x",
    lambda data: data[: len(data) // 2],
    lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
)


def train(run_dir, ending="", **environment):
    """Train in a shell whose command ends in ``ending``. Return status, stdout and lines of stderr."""
    command = f"{sys.executable} {TRAIN} --data sample --epochs 1 --run-dir {run_dir} {ending}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        timeout=300,
        env=os.environ | environment,
    )
    errors = done.stderr.decode()
    assert "Traceback" not in errors
    return done.returncode, done.stdout.decode(), errors.splitlines()


@pytest.mark.parametrize(
    ("ending", "environment", "status"),
    [
        ("> /dev/full", {}, 1),
        pytest.param("2> /dev/full", {}, 0, marks=pytest.mark.slow),
        pytest.param(">&-", {}, 0, marks=pytest.mark.slow),
        pytest.param("2>&-", {}, 0, marks=pytest.mark.slow),
        pytest.param("| head -1", {}, 0, marks=pytest.mark.slow),
        pytest.param("", {"PYTHONIOENCODING": "ascii"}, 0, marks=pytest.mark.slow),
        pytest.param("", {"MPLBACKEND": "nonsense"}, 0, marks=pytest.mark.slow),
        pytest.param("", {"TMPDIR": "/nonexistent"}, 0, marks=pytest.mark.slow),
    ],
)
def test_the_run_is_complete_whatever_happens_to_its_output(tmp_path, ending, environment, status):
    found, _, errors = train(tmp_path / "run", ending, **environment)
    assert found == status
    assert (tmp_path / "run" / "report.html").exists()
    if status:
        assert errors[-1] == "error: the output could not be written: No space left on device"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_ENABLE_X64", "maybe"),
        pytest.param("JAX_NUM_CPU_DEVICES", "x", marks=pytest.mark.slow),
        pytest.param("JAX_PLATFORMS", "nonsense", marks=pytest.mark.slow),
        pytest.param("JAX_NUMPY_DTYPE_PROMOTION", "strict", marks=pytest.mark.slow),
    ],
)
def test_an_environment_that_jax_rejects_gives_one_line_that_names_the_variable(
    tmp_path, name, value
):
    status, _, errors = train(tmp_path / "run", **{name: value})
    assert status == 1
    assert errors[-1].startswith("error: ")
    assert name in errors[-1]


@pytest.mark.slow
def test_damaged_entries_of_the_compilation_cache_are_replaced_after_one_warning(tmp_path):
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    assert train(tmp_path / "first", **cache)[0] == 0
    entries = sorted((tmp_path / "cache").glob("*-cache"))
    for path, damage in zip(entries, itertools.cycle(DAMAGES), strict=False):
        path.write_bytes(damage(path.read_bytes()))
    status, _, errors = train(tmp_path / "second", **cache)
    assert status == 0
    assert sum("has damaged entries; they are deleted" in line for line in errors) == 1
    assert not any("UserWarning" in line for line in errors)
    status, _, errors = train(tmp_path / "third", **cache)
    assert status == 0
    assert not any("warning" in line.lower() for line in errors)
