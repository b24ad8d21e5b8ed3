"""How training steps are spread over devices: all that "jit" and "pmap" do differently.

Both run `fidle_jax.train.step.train_chunk`, over a state, data and an order of examples that every
device holds whole, or `train_batch`, over a state and one batch; each device computes its places of
every batch. With "jit", what belongs to places is an array spread over the devices, and XLA, which lays
out all that follows from it, inserts the sums over devices. With "pmap", each device runs the program on
its own places, and `lax.psum` adds up.

Another strategy is another two functions here: what compiles such a step, and what spreads arrays.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, PyTree

from fidle_jax.errors import InputError
from fidle_jax.train.evaluation import EVAL_BATCH_SIZE, evaluate, evaluate_batch
from fidle_jax.train.step import Task, train_batch, train_chunk

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
    compile_, spread = STRATEGIES[parallel]
    places = batch_places(arguments[3].shape[1], parts, mesh.size)
    places = spread(mesh, own_places(places, mesh))
    compiled = compile_(mesh, task, train_chunk, arguments, (places,))
    return lambda *arguments: compiled(*arguments, places)


def compile_batch(
    parallel: str, mesh: Mesh, task: Task, state: PyTree, batch: PyTree, places: np.ndarray
) -> tuple[Callable[..., PyTree], Callable[[PyTree], PyTree]]:
    """`train_batch` over the devices of ``mesh``, its state given away, and what brings it its batches.

    Args:
        parallel: as of `compile_chunk`.
        mesh: the devices.
        task: as of `train_batch`.
        state: on all devices.
        batch: images, labels and weights of this process's places, like those to come.
        places: this process's.

    Returns:
        (state, a batch on the devices) -> state; (a batch like ``batch``) -> the same on the devices.
    """
    compile_, spread = STRATEGIES[parallel]
    put = functools.partial(jax.tree.map, functools.partial(spread, mesh))
    placed = spread(mesh, places)
    compiled = compile_(mesh, task, train_batch, (state,), (*put(batch), placed))
    return lambda state, batch: compiled(state, *batch, placed), put


def compile_evaluation(model, mesh: Mesh, arguments: tuple[Any, ...]) -> Callable[..., PyTree]:
    """`evaluate` over the devices of ``mesh``; called with variables, images and labels like those."""
    batch = min(EVAL_BATCH_SIZE, len(arguments[-1]))
    places = _put(batch_places(batch, 1, mesh.size)[0], NamedSharding(mesh, PartitionSpec(AXIS)))
    function = jax.jit(functools.partial(evaluate, model), out_shardings=_whole(mesh))
    compiled = function.lower(*arguments, places).compile()
    return lambda *arguments: compiled(*arguments, places)


def compile_batch_evaluation(
    model, mesh: Mesh, variables: PyTree, batch: PyTree
) -> tuple[Callable[..., PyTree], Callable[[PyTree], PyTree]]:
    """`evaluate_batch` over the devices of ``mesh``, and what brings it its batches, as `compile_batch`."""
    put = functools.partial(jax.tree.map, functools.partial(_over_parts, mesh))
    function = jax.jit(functools.partial(evaluate_batch, model), out_shardings=_whole(mesh))
    images, labels, _ = put(batch)
    compiled = function.lower(variables, images, labels).compile()
    return lambda variables, batch: compiled(variables, batch[0], batch[1]), put


def own_places(
    places: Int[np.ndarray, "part place"], mesh: Mesh
) -> Int[np.ndarray, "part own_place"]:
    """The places that this process's devices compute."""
    each = places.reshape(len(places), mesh.size, -1)
    own = [device.process_index == jax.process_index() for device in mesh.devices]
    return each[:, own].reshape(len(places), -1)


def _compile_jit(mesh, task, function, whole, spread):
    function = jax.jit(
        functools.partial(function, task), donate_argnums=0, out_shardings=_whole(mesh)
    )
    return function.lower(*whole, *spread).compile()


def _compile_pmap(mesh, task, function, whole, spread):
    function = jax.pmap(
        functools.partial(function, task.over_axis(AXIS)),
        axis_name=AXIS,
        in_axes=(*[None] * len(whole), *[0] * len(spread)),
        out_axes=None,
        devices=list(mesh.devices),
        donate_argnums=0,
    )
    return function.lower(*whole, *spread).compile()


def _over_parts(mesh, own):
    """[part, own place, ...] -> [part, place, ...], each part's places spread over the devices."""
    pieces = np.split(own, len(mesh.local_devices), axis=1)
    return _join(mesh, PartitionSpec(None, AXIS), pieces, axis=1)


def _by_device(mesh, own):
    """[part, own place, ...] -> [device, part, place, ...]."""
    pieces = np.split(own, len(mesh.local_devices), axis=1)
    return _join(mesh, PartitionSpec(AXIS), [piece[None] for piece in pieces], axis=0)


def _join(mesh, spec, pieces, axis):
    """The array whose equal pieces along ``axis`` are the devices'; given are this process's."""
    arrays = [
        jax.device_put(piece, device)
        for piece, device in zip(pieces, mesh.local_devices, strict=True)
    ]
    shape = list(pieces[0].shape)
    shape[axis] *= mesh.size
    sharding = NamedSharding(mesh, spec)
    return jax.make_array_from_single_device_arrays(tuple(shape), sharding, arrays)


STRATEGIES = {"jit": (_compile_jit, _over_parts), "pmap": (_compile_pmap, _by_device)}


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
