"""A worker's share of its machine: cores, a GPU, or a chip of a TPU."""

import os
from pathlib import Path

DEVICES = Path("/dev")


def take_share(index: int, count: int, devices: Path = DEVICES) -> dict[str, str]:
    """Keeps this process, and those it starts, to its share of the machine's cores.

    Args:
      index: which of the workers on this machine it is.
      count: how many there are; one alone has all.
      devices: where the machine's devices are files.

    Returns:
      The environment that has JAX, in a process that is started with it, keep to its GPU or chip.
    """
    if count == 1:
        return {}
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        each = max(1, len(cores) // count)
        first = index * each % len(cores)
        os.sched_setaffinity(0, cores[first : first + each])
    if gpus := _gpus(devices):
        return {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} | _memory(count, len(gpus))
    if chips := len(list(devices.glob("accel[0-9]*")) or list(devices.glob("vfio/[0-9]*"))):
        # A process has to say that it is alone, else it waits for those of the other chips.
        alone = ("TPU_PROCESS_BOUNDS", "TPU_CHIPS_PER_PROCESS_BOUNDS")
        return {"TPU_VISIBLE_CHIPS": str(index % chips)} | dict.fromkeys(alone, "1,1,1")
    return {}


def _gpus(devices: Path) -> list[str]:
    """Numbers of the GPUs that this process may use."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [number for number in visible.split(",") if number]
    return [str(k) for k, _ in enumerate(devices.glob("nvidia[0-9]*"))]


def _memory(workers: int, gpus: int) -> dict[str, str]:
    """JAX takes three quarters of a GPU's memory at once; several workers on one, their parts of it."""
    on_one = -(-workers // gpus)
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.75 / on_one:.3f}"} if on_one > 1 else {}
