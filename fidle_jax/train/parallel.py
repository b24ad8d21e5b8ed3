"""How training steps are spread over devices: all that "jit" and "pmap" do differently.

Both run `fidle_jax.train.step.train_chunk`, over a state, data and an order of examples that every
device holds whole; each device computes its places of every batch. With "jit", the places are an array
spread over the devices, and XLA, which lays out all that follows from them, inserts the sums over
devices. With "pmap", each device runs the program on its own places, and `lax.psum` adds up.

Another strategy is another function here: (mesh, task) -> the chunk, ready to be lowered, and places.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, PyTree

from fidle_jax.errors import InputError
from fidle_jax.train.step import EVAL_BATCH_SIZE, Task, evaluate, train_chunk

AXIS = "batch"


def make_mesh(devices: int | None) -> Mesh:
    """The first so many devices of each process in a row; all of them for None.

    Raises:
        InputError: a process has fewer.
    """
    found = [jax.local_devices(i) for i in range(jax.process_count())]
    fewest = min(len(local) for local in found)
    if devices is not None and devices > fewest:
        kind = jax.default_backend()
        where = "here" if len(found) == 1 else "in each process"
        more = f", or JAX_NUM_CPU_DEVICES={devices} to simulate them" if kind == "cpu" else ""
        raise InputError(
            f"--devices is {devices}; expected at most {fewest}, the {kind} devices that JAX "
            f"finds {where}{more}"
        )
    return Mesh(np.array([device for local in found for device in local[:devices]]), (AXIS,))


def on_all_devices(mesh: Mesh, tree: PyTree) -> PyTree:
    """The arrays, whole, on each device; each process has the same ones."""
    return _put(tree, _whole(mesh))


def batch_places(batch_size: int, parts: int, devices: int) -> Int[np.ndarray, "part place"]:
    """The places of a batch, cut into equal parts that divide by the devices; the last may fill up."""
    size = -(-batch_size // (parts * devices)) * devices
    return np.arange(parts * size, dtype=np.int32).reshape(parts, size)


def compile_chunk(
    parallel: str, mesh: Mesh, task: Task, arguments: tuple[Any, ...], parts: int
) -> Callable[..., PyTree]:
    """`train_chunk` over the devices of ``mesh``, its state given away; called with ``arguments``' like.

    Args:
        parallel: "jit" or "pmap".
        mesh: the devices.
        task: as of `train_chunk`.
        arguments: its state, images, labels, order, start and stop, all but the last two on all devices.
        parts: that each batch is computed in, one after the other.
    """
    places = batch_places(arguments[3].shape[1], parts, mesh.size)
    lower, places = STRATEGIES[parallel](mesh, task, places)
    compiled = lower(*arguments, places).compile()
    return lambda *arguments: compiled(*arguments, places)


def compile_evaluation(model, mesh: Mesh, arguments: tuple[Any, ...]) -> Callable[..., PyTree]:
    """`evaluate` over the devices of ``mesh``; called with variables, images and labels like those."""
    batch = min(EVAL_BATCH_SIZE, len(arguments[-1]))
    places = _put(batch_places(batch, 1, mesh.size)[0], NamedSharding(mesh, PartitionSpec(AXIS)))
    function = jax.jit(functools.partial(evaluate, model), out_shardings=_whole(mesh))
    compiled = function.lower(*arguments, places).compile()
    return lambda *arguments: compiled(*arguments, places)


def _jit(mesh, task, places):
    function = jax.jit(
        functools.partial(train_chunk, task), donate_argnums=0, out_shardings=_whole(mesh)
    )
    return function.lower, _put(places, NamedSharding(mesh, PartitionSpec(None, AXIS)))


def _pmap(mesh, task, places):
    task = task.over_axis(AXIS)
    function = jax.pmap(
        functools.partial(train_chunk, task),
        axis_name=AXIS,
        in_axes=(*[None] * 6, 0),
        out_axes=None,
        devices=list(mesh.devices),
        donate_argnums=0,
    )
    each = places.reshape(len(places), mesh.size, -1).swapaxes(0, 1)
    return function.lower, _put(each, NamedSharding(mesh, PartitionSpec(AXIS)))


STRATEGIES = {"jit": _jit, "pmap": _pmap}


def _whole(mesh):
    return NamedSharding(mesh, PartitionSpec())


def _put(tree, sharding):
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    # Of devices that other processes have, `device_put` would compare every array's bytes first.
    def put(array):
        array = np.asarray(jax.device_get(array))
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)
