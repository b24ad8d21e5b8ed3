"""Scripts beside this file, run in processes that have a number of simulated devices."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.integration.processes import free_port

HERE = Path(__file__).parent


def start(script, *arguments, devices, **environment):
    """The script's process."""
    environment |= {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    environment |= {"PYTHONPATH": str(HERE.parents[1])}
    return subprocess.Popen(
        [sys.executable, HERE / script, *arguments], env=os.environ | environment
    )


def start_two(script, folder, cases, devices, **environment):
    """What each of two processes with so many devices writes of the cases."""
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
    """What a script wrote, by case and then by name."""
    outcomes = {case: {} for case in cases}
    with np.load(output) as arrays:
        for name, array in arrays.items():
            case, what = name.split("/", 1)
            outcomes[case][what] = array
    return outcomes
