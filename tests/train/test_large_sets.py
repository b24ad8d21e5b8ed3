"""A set that is larger than the memory a run may take trains by one loader, and not by the other."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="what is limited is read from /proc"),
]
SCRIPT = Path(__file__).with_name("large_set.py")


def _run(*arguments):
    # Each thread's own heap, of glibc, would count although it is hardly used.
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


def test_a_set_larger_than_the_memory_there_is_trains_as_a_stream(data_dir, tmp_path):
    run = _run(data_dir, "stream", tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("trained on 16384, right 1.0\n")


def test_the_same_set_does_not_fit_where_it_is_to_be_kept_in_memory(data_dir, tmp_path):
    run = _run(data_dir, "memory", tmp_path)
    assert (tmp_path / "few" / "result.json").exists()
    assert not (tmp_path / "all" / "result.json").exists()
    # Where a thread of array_record's finds no memory, the process is ended there and then.
    told = (
        "the large set does not fit into this machine's memory; give --loader stream" in run.stderr
    )
    assert told or run.returncode == -signal.SIGABRT, run.stderr
