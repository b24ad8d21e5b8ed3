"""Memory of the devices and the host."""

import contextlib
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import psutil


def peak_memory_bytes() -> int:
    """Return the peak memory of this process's fullest device, or of the process on a CPU."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("peak_bytes_in_use" in found for found in stats):
        return max(found["peak_bytes_in_use"] for found in stats)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_memory_bytes(
    devices: Sequence[jax.Device],  # pyright: ignore[reportInvalidTypeForm]  # a variable in JAX
) -> int:
    """Return the free memory of the fullest device. CPU devices share the memory of the host."""
    host = min([psutil.virtual_memory().available, *cgroup_free_bytes()])
    stats = [device.memory_stats() or {} for device in devices]
    if not all("bytes_limit" in found for found in stats):
        return host // len(devices)
    # Data passes through the memory of the host.
    return min(host, *(found["bytes_limit"] - found["bytes_in_use"] for found in stats))


def cgroup_free_bytes(
    cgroup: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """Return the bytes left of each memory limit that a container or cluster job sets.

    ``cgroup`` names the control group (version 2) of this process. ``root`` contains the settings of all.
    """
    try:
        group = root / cgroup.read_text().partition("0::/")[2].partition("\n")[0]
    except OSError:
        return []
    free = []
    for folder in (group, *group.parents):
        # A group without a limit contains "max". A container does not see the groups outside.
        with contextlib.suppress(OSError, ValueError):
            limit, used = (
                int((folder / f"memory.{name}").read_text()) for name in ("max", "current")
            )
            stat = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
            # The system frees this part of the file cache on demand.
            free.append(max(limit - used + int(stat.get("inactive_file", 0)), 0))
    return free
