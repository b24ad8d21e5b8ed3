"""The compiled functions of a run: the one place that says over which devices they run."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from fidle_jax.data import Split
from fidle_jax.data.batches import epoch_order
from fidle_jax.train.config import Config
from fidle_jax.train.state import TrainState
from fidle_jax.train.step import Task, evaluate, train_chunk


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled functions of a run, over data that is on the device already.

    Attributes:
        order: (epoch) -> which examples make which batch.
        train: (state, order, start, stop) -> state; the state passed in is used up.
        validate: (variables) -> (loss, accuracy); None where nothing is held out.
        learning_rate: (step) -> learning rate.
    """

    order: Callable[[int], jax.Array]
    train: Callable[[TrainState, jax.Array, int, int], TrainState]
    validate: Callable[[PyTree], tuple[float, float]] | None
    learning_rate: Callable[[int], Any]


def compile_program(
    task: Task,
    schedule: optax.Schedule,
    state: TrainState,
    train: Split,
    validation: Split,
    config: Config,
) -> Program:
    """The functions of the run that ``config`` describes, compiled, with its data on the device.

    ``state`` gives the shapes; an empty ``validation`` has nothing compiled for it.
    """
    images, labels = jax.device_put((train.images, train.labels))
    order = (
        jax.jit(lambda epoch: epoch_order(config.seed, epoch, len(labels), config.batch_size))
        .lower(0)
        .compile()
    )
    chunk = (
        jax.jit(lambda *args: train_chunk(task, *args), donate_argnums=0)
        .lower(state, images, labels, order(0), 0, 1)
        .compile()
    )
    validate = None
    if len(validation.labels):
        held_out = jax.device_put((validation.images, validation.labels))
        compiled = (
            jax.jit(lambda variables, *data: evaluate(task.model, variables, *data))
            .lower(state.variables(), *held_out)
            .compile()
        )

        def validate(variables):
            loss, right = compiled(variables, *held_out)
            return float(loss), int(right) / len(validation.labels)

    return Program(
        order=order,
        train=lambda state, order, start, stop: chunk(state, images, labels, order, start, stop),
        validate=validate,
        learning_rate=schedule,
    )
