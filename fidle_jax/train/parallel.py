"""Compile training steps for several devices, with jit or with pmap, and measure their memory.

Every device holds the complete state and, unless images are streamed, the complete data. It computes its
positions of every batch. With jit, the arrays with one entry per position are sharded over the devices; XLA
derives the layout of everything else and inserts the sums over devices. With pmap, each device runs the
program on its positions, and `lax.psum` adds the gradients.

To add a strategy, add a function that compiles a step and one that shards a batch to `STRATEGIES`.
`local_positions` pads batches that are not divisible by the number of devices.
"""

import contextlib
import functools
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, PyTree

from fidle_jax import kernels
from fidle_jax.errors import InputError
from fidle_jax.kernels.auto import RUN_SECONDS
from fidle_jax.train.step import Task

AXIS = "batch"


def make_mesh(devices: int | None) -> Mesh:
    """Return a mesh of the first ``devices`` devices of each process, or of all of them for None.

    Raise InputError if a process has fewer devices.
    """
    found = [jax.local_devices(i) for i in range(jax.process_count())]
    fewest = min(len(local) for local in found)
    if devices is not None and devices > fewest:
        kind = jax.default_backend()
        where = "" if len(found) == 1 else " in each process"
        hint = f"; set JAX_NUM_CPU_DEVICES={devices} to simulate more" if kind == "cpu" else ""
        raise InputError(
            f"--devices is {devices}; it must be at most {fewest}, the number of {kind} devices "
            f"that JAX finds{where}{hint}"
        )
    return Mesh(np.array([device for local in found for device in local[:devices]]), (AXIS,))


def replicate(mesh: Mesh, tree: PyTree) -> PyTree:
    """Copy the arrays to every device. Each process must pass the same arrays."""
    sharding = _replicated(mesh)
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    # With several processes, `device_put` would first compare the bytes of every array.
    def put(array):
        array = np.asarray(jax.device_get(array))
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)


def local_positions(
    batch_size: int, micro_batches: int, mesh: Mesh
) -> Int[np.ndarray, "micro_batch local_position"]:
    """Return the positions of a batch that the devices of this process compute.

    Micro-batches have one size, a multiple of the number of devices. Positions beyond the end of the batch
    are padding. `fidle_jax.data.batches` gives padding the mask 0.
    """
    size = -(-batch_size // (micro_batches * mesh.size)) * mesh.size
    positions = np.arange(micro_batches * size, dtype=np.int32)
    by_device = positions.reshape(micro_batches, mesh.size, -1)
    local = [device.process_index == jax.process_index() for device in mesh.devices]
    return by_device[:, local].reshape(micro_batches, -1)


def compile_training(
    strategy: str,
    mesh: Mesh,
    task: Task,
    function: Callable[..., PyTree],
    replicated: tuple[Any, ...],
    local: tuple[Any, ...],
) -> tuple[Callable[..., PyTree], Callable[[PyTree], PyTree]]:
    """Compile `train_chunk` or `train_batch` for the devices of ``mesh``.

    Args:
        strategy, mesh, task: Key of `STRATEGIES`, the devices, and the first argument of the function.
        function: The function.
        replicated: Example arguments that every device holds. The first one, the state, is donated.
        local: Further example arguments [micro_batch, local_position, ...].

    Returns:
        The compiled function of replicated and sharded arguments, and a function that shards arrays.
    """
    compile_, shard = STRATEGIES[strategy]
    put = functools.partial(jax.tree.map, functools.partial(shard, mesh))
    return compile_(mesh, task, function, replicated, put(local)), put


def compile_evaluation(
    mesh: Mesh, function: Callable[..., PyTree], replicated: tuple[Any, ...], local: tuple[Any, ...]
) -> tuple[Callable[..., PyTree], Callable[[PyTree], PyTree]]:
    """Compile an evaluation function with jit, as `compile_training` does. Nothing is donated."""
    put = functools.partial(jax.tree.map, functools.partial(_shard_jit, mesh))
    function = jax.jit(_accelerate(function), out_shardings=_replicated(mesh))
    return function.lower(*replicated, *put(local)).compile(), put


def _accelerate(function):
    return kernels.accelerate(function, seconds=RUN_SECONDS)


def _compile_jit(mesh, task, function, replicated, sharded):
    function = _accelerate(functools.partial(function, task))
    function = jax.jit(function, donate_argnums=0, out_shardings=_replicated(mesh))
    return function.lower(*replicated, *sharded).compile()


def _compile_pmap(mesh, task, function, replicated, sharded):
    function = jax.pmap(
        _accelerate(functools.partial(function, task.over_axis(AXIS))),
        axis_name=AXIS,
        in_axes=(*[None] * len(replicated), *[0] * len(sharded)),
        out_axes=None,
        devices=list(mesh.devices),
        donate_argnums=0,
    )
    return function.lower(*replicated, *sharded).compile()


def _shard_jit(mesh, local):  # [micro_batch, position, ...]
    sharding = NamedSharding(mesh, PartitionSpec(None, AXIS))
    return jax.make_array_from_process_local_data(sharding, local)


def _shard_pmap(mesh, local):
    # [device, micro_batch, position, ...]
    by_device = np.stack(np.split(local, len(mesh.local_devices), axis=1))
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.make_array_from_process_local_data(sharding, by_device)


STRATEGIES = {"jit": (_compile_jit, _shard_jit), "pmap": (_compile_pmap, _shard_pmap)}


def _replicated(mesh):
    return NamedSharding(mesh, PartitionSpec())


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
