"""Workers on one machine have cores, GPUs or chips of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fidle_jax.sweep.share import take_share

# In processes of their own: what each takes, it keeps to.
CODE = """
import json, multiprocessing, os, sys
from fidle_jax.sweep.share import take_share

def take(place):
    environment = take_share(*place)
    return sorted(os.sched_getaffinity(0)), environment

with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    print(json.dumps(pool.map(take, json.loads(sys.argv[1]), chunksize=1)))
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no processes are kept to cores here"
)
def test_workers_share_the_cores():
    cores = sorted(os.sched_getaffinity(0))
    count = len(cores)
    places = [(0, 1), (2 * count + 1, 4 * count), *((k, count) for k in range(count))]
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(places)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    alone, one_of_many, *each = json.loads(done.stdout)
    assert alone == [cores, {}]
    assert one_of_many[0] == [cores[1 % count]]
    assert [taken for taken, _ in each] == [[core] for core in cores]


@pytest.fixture
def share(monkeypatch, tmp_path):
    """``share(index, count, files)``: the environment of a worker, on a machine that has these devices."""
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def share(index, count, files):
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return take_share(index, count, tmp_path)

    return share


def test_each_worker_has_a_gpu_or_a_part_of_one(share, monkeypatch):
    gpus = ["nvidia0", "nvidia1", "nvidiactl"]
    assert share(1, 2, gpus) == {"CUDA_VISIBLE_DEVICES": "1"}
    several = {"CUDA_VISIBLE_DEVICES": "0", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.375"}
    assert share(2, 4, gpus) == several
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert share(1, 2, gpus) == {"CUDA_VISIBLE_DEVICES": "7"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert share(1, 2, gpus) == {}


@pytest.mark.parametrize("files", [["accel0", "accel1"], ["vfio/0", "vfio/1", "vfio/vfio"]])
def test_each_worker_has_a_chip(share, files):
    bounds = dict.fromkeys(("TPU_PROCESS_BOUNDS", "TPU_CHIPS_PER_PROCESS_BOUNDS"), "1,1,1")
    assert share(1, 2, files) == {"TPU_VISIBLE_CHIPS": "1"} | bounds
    assert share(2, 4, files) == {"TPU_VISIBLE_CHIPS": "0"} | bounds
