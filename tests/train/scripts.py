"""Run the scripts in this directory in processes with a given number of simulated devices.

The number of devices of a process is fixed when JAX starts. A script computes the outcome of cases:
``python spread.py OUTPUT.npz CASE ...``. Arrays in OUTPUT.npz are named CASE/NAME.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from tests.integration.processes import free_port

HERE = Path(__file__).parent


def start(script, *arguments, devices, **environment):
    """Start ``script`` and return its process."""
    environment |= {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    environment |= {"PYTHONPATH": str(HERE.parents[1])}
    return subprocess.Popen(
        [sys.executable, HERE / script, *arguments], env=os.environ | environment
    )


def start_two(script, folder, cases, devices, **environment):
    """Run ``script`` in two processes of one run. Return what each of them writes."""
    coordinator = f"127.0.0.1:{free_port()}"
    outputs = [folder / f"{index}.npz" for index in range(2)]
    started = [
        start(
            *(script, output, *cases),
            devices=devices,
            SPREAD=f"{coordinator} 2 {index}",
            **environment,
        )
        for index, output in enumerate(outputs)
    ]
    assert [process.wait() for process in started] == [0, 0]
    return [read(output, cases) for output in outputs]


def read(output, cases):
    """Return the arrays that a script wrote, by case and then by name."""
    outcomes = {case: {} for case in cases}
    with np.load(output) as arrays:
        for name, array in arrays.items():
            case, what = name.split("/", 1)
            outcomes[case][what] = array
    return outcomes


def write_outcomes(compute):
    """Write what ``compute(*fields of the case)`` returns for each case in sys.argv."""
    if "SPREAD" in os.environ:
        coordinator, processes, index = os.environ["SPREAD"].split()
        jax.distributed.initialize(
            coordinator, int(processes), int(index), initialization_timeout=60
        )
    output, *cases = sys.argv[1:]
    arrays = {}
    for case in cases:
        for what, tree in compute(*case.split(":")).items():
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                arrays[f"{case}/{what}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    np.savez(output, **arrays)
