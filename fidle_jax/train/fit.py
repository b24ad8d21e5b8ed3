"""Small networks on arrays in memory, without a file: the steps of a run, as one compiled program."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer, PyTree, UInt8

from fidle_jax.data.batches import epoch_order
from fidle_jax.train.evaluation import evaluate
from fidle_jax.train.state import Totals, TrainState, init_state
from fidle_jax.train.step import Task, train_chunk

# uint8 images or float features, and class indices or regression targets.
Examples = tuple[
    UInt8[Array | np.ndarray, "example *shape"] | Float[Array | np.ndarray, "example *shape"],
    Integer[Array | np.ndarray, "example"] | Float[Array | np.ndarray, "example"],
]
Validation = tuple[
    UInt8[Array | np.ndarray, "validation *shape"] | Float[Array | np.ndarray, "validation *shape"],
    Integer[Array | np.ndarray, "validation"] | Float[Array | np.ndarray, "validation"],
]


class Fit(NamedTuple):
    """A network that was trained.

    Attributes:
        state: after the last step.
        best: the variables after the epoch of the least validation loss; without validation, the last.
        history: of each epoch "loss" and "score", means over the training examples as they were met, as of
            `fidle_jax.train.objectives.Objective`; and "validation_loss" and "validation_score" after it,
            where there is validation.
    """

    state: TrainState
    best: dict[str, Any]
    history: dict[str, Float[np.ndarray, " epoch"]]


def fit(
    task: Task,
    train: Examples,
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    validation: Validation | None = None,
) -> Fit:
    """Trains the task's network from its initial weights, of ``seed``, and says how it went.

    Where the loss is no number any more the history has NaN from there on.

    Args:
        task: the network, its optimizer and its objective.
        train: inputs, uint8 images or float32 numbers, and their targets.
        epochs: times that each example is seen; 1 or more.
        batch_size: examples a step; at most all of them.
        seed: of the initial weights, the order of the examples and dropout.
        validation: examples that are tried after each epoch.
    """
    inputs, targets = map(jnp.asarray, train)
    held_out = None if validation is None else tuple(map(jnp.asarray, validation))
    state = init_state(
        task.model, inputs.shape[1:], task.optimizer, seed, average=task.ema_decay > 0
    )
    state, best, history = _epochs(task, epochs, batch_size, state, (inputs, targets), held_out)
    return Fit(state, best, {name: np.asarray(values) for name, values in history.items()})


@functools.partial(jax.jit, static_argnames=("task", "epochs", "batch_size"))
def _epochs(task, epochs, batch_size, state, train, validation):
    def epoch(carry, number):
        state, best, least = carry
        inputs, targets = train
        order = epoch_order(state.seed, number, len(targets), batch_size)
        state = state.replace(totals=Totals.zeros())
        state = train_chunk(task, state, inputs, targets, order, 0, len(order))
        found = {
            "loss": state.totals.loss / state.totals.examples,
            "score": state.totals.correct / state.totals.examples,
        }
        if validation is None:
            return (state, state.variables(), least), found
        loss, score = evaluate(task.model, state.variables(), *validation, objective=task.objective)
        found |= {"validation_loss": loss, "validation_score": score / len(validation[1])}
        best = jax.tree.map(
            lambda new, old: jnp.where(loss < least, new, old), state.variables(), best
        )
        return (state, best, jnp.fmin(loss, least)), found

    start = state, state.variables(), jnp.float32(jnp.inf)
    (state, best, _), history = lax.scan(epoch, start, jnp.arange(epochs))
    return state, best, history


def trajectory(
    task: Task,
    train: Examples,
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    params: PyTree = None,
) -> PyTree:
    """The parameters before the first step and after each, along a new first axis.

    Args:
        task: as of `fit`, as are ``train``, ``epochs``, ``batch_size`` and ``seed``.
        params: those to start from; by default the network's initial ones, of ``seed``.
    """
    inputs, targets = map(jnp.asarray, train)
    state = init_state(task.model, inputs.shape[1:], task.optimizer, seed)
    if params is not None:
        state = state.replace(params=params, opt_state=task.optimizer.init(params))
    followed = _steps(task, epochs, batch_size, state, (inputs, targets))
    return jax.tree.map(
        lambda first, rest: jnp.concatenate([first[None], rest]), state.params, followed
    )


@functools.partial(jax.jit, static_argnames=("task", "epochs", "batch_size"))
def _steps(task, epochs, batch_size, state, train):
    def epoch(state, number):
        inputs, targets = train
        order = epoch_order(state.seed, number, len(targets), batch_size)

        def step(state, i):
            state = train_chunk(task, state, inputs, targets, order, i, i + 1)
            return state, state.params

        return lax.scan(step, state, jnp.arange(len(order)))

    _, params = lax.scan(epoch, state, jnp.arange(epochs))
    return jax.tree.map(lambda each: each.reshape(-1, *each.shape[2:]), params)
