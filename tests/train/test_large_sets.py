"""Tests that a data set larger than the memory limit can be streamed, but not loaded."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the limit is computed from /proc"),
]
SCRIPT = Path(__file__).with_name("large_set.py")


def _run(*arguments):
    # The heap that glibc reserves per thread would count, although it is hardly used.
    environment = {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "2"}
    environment["PYTHONPATH"] = str(SCRIPT.parents[2])
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large") / "data"
    prepared = _run(folder)
    assert prepared.returncode == 0, prepared.stderr
    return folder


def test_a_data_set_larger_than_the_memory_can_be_streamed(data_dir, tmp_path):
    run = _run(data_dir, "stream", tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("trained on 16384, right 1.0\n")


def test_the_same_data_set_does_not_fit_into_memory(data_dir, tmp_path):
    run = _run(data_dir, "memory", tmp_path)
    assert (tmp_path / "few" / "result.json").exists()
    assert not (tmp_path / "all" / "result.json").exists()
    # If a thread of array_record finds no memory, it aborts the process.
    told = (
        "the large set does not fit into the memory of this machine; use --loader stream"
        in run.stderr
    )
    assert told or run.returncode == -signal.SIGABRT, run.stderr
