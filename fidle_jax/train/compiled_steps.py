"""The compiled functions of a run, with images in device memory or streamed from disk."""

import contextlib
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Int, PyTree

from fidle_jax.data import AnySplit, Dataset, Split, StoredSplit
from fidle_jax.data.batches import Batch, Batches, epoch_order, padded_order, stream
from fidle_jax.train import distributed, parallel
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.evaluation import EVAL_BATCH_SIZE, evaluate_batch, finite_means, predict
from fidle_jax.train.parallel import free_memory_bytes
from fidle_jax.train.step import Task, TrainState, train_batch, train_chunk

# Loss, accuracy, and the mean of each metric, or None if it is not finite.
Validated = tuple[float, float, dict[str, float | None]]

MEMORY_SHARE = 0.5  # share of the free memory that `--loader auto` may fill with images


@dataclasses.dataclass(frozen=True)
class CompiledSteps:
    """The compiled functions of a run."""

    batches: Callable[[int, int], Any]  # (epoch, first step) -> the batches from this step on
    # (state, batches, start, stop) -> state. Donates the state. Call it for consecutive steps.
    train: Callable[[TrainState, Any, int, int], TrainState]
    # None without validation data
    validate: Callable[[PyTree], Validated] | None
    learning_rate: Callable[[int], Any]  # (step) -> learning rate
    replicate: Callable[[TrainState], TrainState]  # to all devices
    close: Callable[[], None] = lambda: None  # stops the threads that read ahead
    transfer_seconds: float = 0.0  # time to move the data to the devices
    compile_seconds: float = 0.0


def choose_loader(loader: str, dataset: Dataset, mesh: Mesh) -> tuple[bool, str]:
    """Decide whether to stream the images. All processes make the same decision.

    The loader is "memory", "stream", or "auto": memory if the uint8 training images fill at most
    `MEMORY_SHARE` of the free memory of each device of every process. Also return a description of the
    decision.
    """
    needed = dataset.train_examples * math.prod(dataset.image_shape)
    free = free_memory_bytes(mesh.local_devices)
    too_large = distributed.any_process(needed > MEMORY_SHARE * free)
    streamed = loader == "stream" or (loader == "auto" and too_large)
    sizes = f"{needed / 1e6:,.1f} MB of images, {free / 1e6:,.0f} MB of free memory"
    return streamed, f"{'stream' if streamed else 'memory'} ({sizes})"


def compile_steps(
    task: Task,
    schedule: optax.Schedule,
    mesh: Mesh,
    state: TrainState,
    train: AnySplit,
    validation: AnySplit,
    config: ResolvedConfig,
) -> CompiledSteps:
    """Compile the steps of the run that ``config`` describes.

    With a `Split`, all images move to the devices. With a `StoredSplit`, images are read from disk ahead
    of each step; each process reads only what its devices compute. Both have the same result. The
    validation data has the same type and may be empty.
    """
    options = config.optimisation
    shuffle = jax.jit(
        lambda epoch: epoch_order(options.seed, epoch, len(train.labels), options.batch_size)
    )
    positions = parallel.local_positions(options.batch_size, options.accumulate, mesh)
    started = time.perf_counter()
    data, compile_ = (train, validation), _compile_streamed
    if isinstance(train, Split) and isinstance(validation, Split):
        arrays = (train.images, train.labels), (validation.images, validation.labels)
        data = jax.block_until_ready(parallel.replicate(mesh, arrays))
        compile_ = _compile_in_memory
    transferred = time.perf_counter()
    state, strategy = parallel.replicate(mesh, state), config.devices.parallel
    shuffle = shuffle.lower(0).compile()
    steps = compile_(task, mesh, state, data, shuffle, positions, strategy)
    return CompiledSteps(
        **steps,
        learning_rate=schedule,
        replicate=functools.partial(parallel.replicate, mesh),
        transfer_seconds=transferred - started,
        compile_seconds=time.perf_counter() - transferred,
    )


def _compile_in_memory(task, mesh, state, data, shuffle, positions, strategy) -> dict[str, Any]:
    train, validation = data

    def batches(epoch: int, start: int):
        return parallel.replicate(mesh, shuffle(epoch))

    arguments = state, *train, batches(0, 0), 0, 1
    chunk, shard = parallel.compile_training(
        strategy, mesh, task, train_chunk, arguments, (positions,)
    )
    positions = shard(positions)
    return {
        "batches": batches,
        "train": lambda state, order, start, stop: chunk(
            state, *train, order, start, stop, positions
        ),
        "validate": _compile_validation(task, mesh, state.variables(), validation),
    }


def _compile_validation(
    task: Task, mesh: Mesh, variables: PyTree, data: tuple[Any, Any]
) -> Callable[[PyTree], Validated] | None:
    examples = len(data[1])
    if not examples:
        return None

    def evaluate_at(variables, images, labels, positions):
        logits = predict(task.model, variables, images, positions[0])
        correct = jnp.sum(task.objective.scores(logits, labels))
        metrics = {name: metric(logits, labels) for name, metric in task.metrics}
        return task.objective.losses(logits, labels, 0.0), correct, metrics

    positions = parallel.local_positions(min(EVAL_BATCH_SIZE, examples), 1, mesh)
    compiled, shard = parallel.compile_evaluation(
        mesh, evaluate_at, (variables, *data), (positions,)
    )
    positions = shard(positions)

    def validate(variables: PyTree) -> Validated:
        losses, correct, metrics = jax.device_get(compiled(variables, *data, positions))
        # The mean of the same array as in a streamed validation has the same bits.
        return float(jnp.mean(losses)), int(correct) / examples, finite_means(metrics)

    return validate


def _compile_streamed(task, mesh, state, data, shuffle, positions, strategy) -> dict[str, Any]:
    train, validation = data
    local = (*_example_batch(train, positions), positions)
    step, shard = parallel.compile_training(strategy, mesh, task, train_batch, (state,), local)
    sharded = shard(positions)
    opened = contextlib.ExitStack()

    def batches(epoch: int, start: int):
        opened.close()
        found = stream(Batches(train, np.asarray(shuffle(epoch)), positions), shard, start)
        return opened.enter_context(contextlib.closing(found))

    def train_steps(state: TrainState, batches, start: int, stop: int) -> TrainState:
        for batch in itertools.islice(batches, stop - start):
            # Steps that are dispatched but have not started would each keep their batch in memory.
            state = step(jax.block_until_ready(state), *batch, sharded)
        return state

    return {
        "batches": batches,
        "train": train_steps,
        "validate": _compile_streamed_validation(task, mesh, state.variables(), validation),
        "close": opened.close,
    }


def _example_batch(split: StoredSplit, positions: Int[np.ndarray, "micro_batch position"]) -> Batch:
    return Batches(split, np.zeros((1, 1), np.int32), positions)[0]


def _compile_streamed_validation(
    task: Task, mesh: Mesh, variables: PyTree, split: StoredSplit
) -> Callable[[PyTree], Validated] | None:
    examples = len(split.labels)
    if not examples:
        return None
    order = np.asarray(padded_order(np.arange(examples), min(EVAL_BATCH_SIZE, examples)))
    batch_size = order.shape[1]
    positions = parallel.local_positions(batch_size, 1, mesh)
    images, labels, _ = _example_batch(split, positions)
    options = {"objective": task.objective, "metrics": task.metrics}
    function = functools.partial(evaluate_batch, task.model, **options)
    compiled, shard = parallel.compile_evaluation(mesh, function, (variables,), (images, labels))

    def validate(variables: PyTree) -> Validated:
        with contextlib.closing(stream(Batches(split, order, positions), shard)) as batches:
            found = [jax.device_get(compiled(variables, *batch[:2])) for batch in batches]
        losses, correct, metrics = jax.tree.map(
            lambda *arrays: np.concatenate([each[:batch_size] for each in arrays])[:examples],
            *found,
        )
        return float(jnp.mean(losses)), int(correct.sum()) / examples, finite_means(metrics)

    return validate
