"""Workers on one machine have cores, GPUs or chips of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: what it takes, it keeps to.
CODE = """
import json, os, sys
from pathlib import Path
from fidle_jax.sweep.share import take_share
index, count, devices = sys.argv[1:]
environment = take_share(int(index), int(count), Path(devices))
print(json.dumps([sorted(os.sched_getaffinity(0)), environment]))
"""


@pytest.fixture
def share(tmp_path):
    """``share(index, count, files, variables)``: cores and environment of a worker, on such a machine."""

    def share(index, count, files=(), **variables):
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(index), str(count), tmp_path],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env=environment | variables,
        )
        return json.loads(done.stdout)

    return share


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no processes are kept to cores here"
)
def test_workers_share_the_cores(share):
    cores = sorted(os.sched_getaffinity(0))
    assert share(0, 1) == [cores, {}]
    assert [share(k, len(cores))[0] for k in range(len(cores))] == [[core] for core in cores]
    assert share(2 * len(cores) + 1, 4 * len(cores))[0] == [cores[1 % len(cores)]]


def test_each_worker_has_a_gpu_or_a_part_of_one(share):
    gpus = ["nvidia0", "nvidia1", "nvidiactl"]
    assert share(1, 2, gpus)[1] == {"CUDA_VISIBLE_DEVICES": "1"}
    assert share(1, 2, gpus, CUDA_VISIBLE_DEVICES="4,7")[1] == {"CUDA_VISIBLE_DEVICES": "7"}
    several = {"CUDA_VISIBLE_DEVICES": "0", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.375"}
    assert share(2, 4, gpus)[1] == several
    assert share(1, 2, gpus, CUDA_VISIBLE_DEVICES="")[1] == {}


@pytest.mark.parametrize("files", [["accel0", "accel1"], ["vfio/0", "vfio/1", "vfio/vfio"]])
def test_each_worker_has_a_chip(share, files):
    bounds = dict.fromkeys(("TPU_PROCESS_BOUNDS", "TPU_CHIPS_PER_PROCESS_BOUNDS"), "1,1,1")
    assert share(1, 2, files)[1] == {"TPU_VISIBLE_CHIPS": "1"} | bounds
    assert share(2, 4, files)[1] == {"TPU_VISIBLE_CHIPS": "0"} | bounds
