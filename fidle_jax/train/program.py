"""The compiled functions of a run, over its data on its devices or, see `streaming`, on disk."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree

from fidle_jax.data import Split
from fidle_jax.data.batches import epoch_order
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.parallel import compile_chunk, compile_evaluation, on_all_devices
from fidle_jax.train.state import TrainState
from fidle_jax.train.step import Task


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled functions of a run, wherever its data is.

    Attributes:
        order: (epoch) -> which examples make which batch, as ``train`` takes it.
        train: (state, order, start, stop) -> state; the state passed in is used up.
        validate: (variables) -> (loss, accuracy); None where nothing is held out.
        learning_rate: (step) -> learning rate.
        place: (state) -> the same on all devices, which ``train`` takes.
        close: lets go of what reads ahead.
        transfer_seconds: that it took to bring the data to the devices.
        compile_seconds: that it took to compile all of this.
    """

    order: Callable[[int], Any]
    train: Callable[[TrainState, Any, int, int], TrainState]
    validate: Callable[[PyTree], tuple[float, float]] | None
    learning_rate: Callable[[int], Any]
    place: Callable[[TrainState], TrainState]
    close: Callable[[], None] = lambda: None
    transfer_seconds: float = 0.0
    compile_seconds: float = 0.0


def compile_program(
    task: Task,
    schedule: optax.Schedule,
    mesh: Mesh,
    state: TrainState,
    train: Split,
    validation: Split,
    config: ResolvedConfig,
) -> Program:
    """The functions of the run that ``config`` describes, compiled, with its data on the devices.

    ``state`` gives the shapes; an empty ``validation`` has nothing compiled for it.
    """
    place = functools.partial(on_all_devices, mesh)
    started = time.perf_counter()
    data = (train.images, train.labels), (validation.images, validation.labels)
    (images, labels), held_out = jax.block_until_ready(place(data))
    transferred = time.perf_counter()
    shuffle = (
        jax.jit(lambda epoch: epoch_order(config.seed, epoch, len(labels), config.batch_size))
        .lower(0)
        .compile()
    )
    state = place(state)
    arguments = state, images, labels, place(shuffle(0)), 0, 1
    chunk = compile_chunk(config.parallel, mesh, task, arguments, config.accumulate)
    validate: Callable[[PyTree], tuple[float, float]] | None = None
    if len(validation.labels):
        compiled = compile_evaluation(task.model, mesh, (state.variables(), *held_out))

        def run_validation(variables: PyTree) -> tuple[float, float]:
            loss, right = compiled(variables, *held_out)
            return float(loss), int(right) / len(validation.labels)

        validate = run_validation

    return Program(
        order=lambda epoch: place(shuffle(epoch)),
        train=lambda state, order, start, stop: chunk(state, images, labels, order, start, stop),
        validate=validate,
        learning_rate=schedule,
        place=place,
        transfer_seconds=transferred - started,
        compile_seconds=time.perf_counter() - transferred,
    )
