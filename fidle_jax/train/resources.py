"""Memory of the devices and the host, and profiler traces."""

import contextlib
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import psutil

PROFILED_STEPS = 5

# Files of each version of Linux control groups: limit, use, and the entry of memory.stat with the part of
# the use that is file cache, which the kernel frees on demand.
_CGROUP_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


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

    ``cgroup`` lists the control groups of this process, and ``root`` contains their settings.
    """
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:
        return []
    return [free for line in lines for free in _free_in_groups(line, root)]


def _free_in_groups(line: str, root: Path) -> Iterator[int]:
    """Yield what is left in the group of ``line`` and in each enclosing group."""
    _, controllers, name = line.split(":", 2)
    if not controllers:
        version, top = 2, root
    elif "memory" in controllers.split(","):
        version, top = 1, root / "memory"
    else:
        return
    limit, used, cache = _CGROUP_FILES[version]
    group = top / name.strip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(top):
            return
        try:
            stat = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
            most = int((folder / limit).read_text())
            yield max(most - int((folder / used).read_text()) + int(stat.get(cache, 0)), 0)
        except (OSError, ValueError):
            continue  # no limit ("max"), or a group that is not visible in the container


def trace(run_dir: Path | None) -> AbstractContextManager[Any]:
    """Write a profiler trace of the block to ``run_dir``/profile, unless None is given."""
    if run_dir is None:
        return contextlib.nullcontext()
    return jax.profiler.trace(str(run_dir / "profile"), create_perfetto_trace=True)
