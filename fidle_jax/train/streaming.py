"""The compiled functions of a run whose images come from disk, batch by batch."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Int, PyTree

from fidle_jax.data import StoredSplit
from fidle_jax.data.batches import epoch_order, padded_order
from fidle_jax.data.stream import Batch, Batches, stream
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.evaluation import EVAL_BATCH_SIZE
from fidle_jax.train.parallel import (
    batch_places,
    compile_batch,
    compile_batch_evaluation,
    on_all_devices,
    own_places,
)
from fidle_jax.train.program import Program
from fidle_jax.train.state import TrainState
from fidle_jax.train.step import Task


def stream_program(
    task: Task,
    schedule: optax.Schedule,
    mesh: Mesh,
    state: TrainState,
    train: StoredSplit,
    validation: StoredSplit,
    config: ResolvedConfig,
) -> Program:
    """As `fidle_jax.train.program.compile_program`, of splits whose images stay on disk.

    The batches are the same, and each process reads no more of them than its devices compute. Training
    and validation raise InputError where the data is damaged.
    """
    place = functools.partial(on_all_devices, mesh)
    started = time.perf_counter()
    examples = len(train.labels)
    shuffle = jax.jit(lambda epoch: epoch_order(config.seed, epoch, examples, config.batch_size))
    state = place(state)
    places = own_places(batch_places(config.batch_size, config.accumulate, mesh.size), mesh)
    step, put = compile_batch(config.parallel, mesh, task, state, _any_batch(train, places), places)
    feed = _Feed(lambda order, start: stream(Batches(train, order, places), put, start))

    def train_steps(state: TrainState, order: np.ndarray, start: int, stop: int) -> TrainState:
        for number in range(start, stop):
            batch = feed.take(order, number)
            # Steps that were asked for and have not begun would each keep their batch.
            state = step(jax.block_until_ready(state), batch)
        return state

    validate = None
    if len(validation.labels):
        validate = _compile_validation(task.model, mesh, state.variables(), validation)
    return Program(
        order=lambda epoch: np.asarray(shuffle(epoch)),
        train=train_steps,
        validate=validate,
        learning_rate=schedule,
        place=place,
        close=feed.close,
        compile_seconds=time.perf_counter() - started,
    )


def _any_batch(split: StoredSplit, places: Int[np.ndarray, "part place"]) -> Batch:
    """One of the shapes and types to come."""
    return Batches(split, np.zeros((1, 1), np.int32), places)[0]


def _compile_validation(
    model, mesh: Mesh, variables: PyTree, split: StoredSplit
) -> Callable[[PyTree], tuple[float, float]]:
    """(variables) -> (loss, accuracy), over all examples of ``split``."""
    examples = len(split.labels)
    order = np.asarray(padded_order(np.arange(examples), min(EVAL_BATCH_SIZE, examples)))
    places = own_places(batch_places(order.shape[1], 1, mesh.size), mesh)
    evaluate, put = compile_batch_evaluation(model, mesh, variables, _any_batch(split, places))

    def validate(variables: PyTree) -> tuple[float, float]:
        batches = stream(Batches(split, order, places), put)
        try:
            found = [jax.device_get(evaluate(variables, batch)) for batch in batches]
        finally:
            batches.close()
        losses, right = (
            np.concatenate([array[: order.shape[1]] for array in arrays])[:examples]
            for arrays in zip(*found, strict=True)
        )
        return float(jnp.mean(losses)), int(right.sum()) / examples

    return validate


class _Feed:
    """The batches that steps ask for: read ahead while they come one after the other."""

    def __init__(self, open_: Callable[[np.ndarray, int], Any]):
        self._open = open_
        self._order: np.ndarray | None = None
        self._next: int | None = None
        self._batches: Any = None

    def take(self, order: Int[np.ndarray, "step batch"], step: int) -> Any:
        """The batch of that step."""
        if order is not self._order or step != self._next:
            self.close()
            self._order, self._batches = order, self._open(order, step)
        self._next = step + 1
        return next(self._batches)

    def close(self) -> None:
        """Ends what reads ahead."""
        if self._batches is not None:
            self._batches.close()
        self._order = self._next = self._batches = None
