"""What a run costs: the devices' memory, and a trace of a few of its steps."""

import contextlib
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import psutil

from fidle_jax.train.memory_limits import left_of_limits

PROFILED_STEPS = 5


def peak_memory_bytes() -> int:
    """The most that one of this process's devices has held; on a CPU, that the process has."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("peak_bytes_in_use" in found for found in stats):
        return max(found["peak_bytes_in_use"] for found in stats)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_memory_bytes(
    devices: Sequence[jax.Device],  # pyright: ignore[reportInvalidTypeForm]  # a variable in JAX
) -> int:
    """What each of these devices of this process can still take; on a CPU, its share of the machine's.

    A container or a job of a cluster may have less than the machine.
    """
    here = min([psutil.virtual_memory().available, *left_of_limits()])
    stats = [device.memory_stats() or {} for device in devices]
    if not all("bytes_limit" in found for found in stats):
        return here // len(devices)
    # What goes to a device is in the machine's memory before.
    return min(here, *(found["bytes_limit"] - found["bytes_in_use"] for found in stats))


@contextlib.contextmanager
def trace(directory: Path | None) -> Iterator[None]:
    """Writes a profiler trace of what runs within it, for TensorBoard and Perfetto; none for None."""
    if directory is None:
        yield
        return
    with jax.profiler.trace(str(directory), create_perfetto_trace=True):
        yield
