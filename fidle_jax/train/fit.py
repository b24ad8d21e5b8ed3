"""Train small networks on arrays in memory, in one compiled program and without files."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PyTree, Shaped

from fidle_jax.data.batches import epoch_order
from fidle_jax.train.evaluation import evaluate
from fidle_jax.train.state import Totals, TrainState, init_state
from fidle_jax.train.step import Task, train_chunk

# uint8 images or float32 features, and class indices or regression targets.
Examples = tuple[Shaped[Array | np.ndarray, "_ *shape"], Shaped[Array | np.ndarray, "_"]]


class Fit(NamedTuple):
    """A trained network."""

    state: TrainState  # after the last step
    best: dict[str, Any]  # variables with the lowest validation loss; without validation, the last
    # "loss" and "score" of each epoch: means over the training examples. With validation, also
    # "validation_loss" and "validation_score".
    history: dict[str, Float[np.ndarray, " epoch"]]


def fit(
    task: Task,
    train: Examples,
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    validation: Examples | None = None,
) -> Fit:
    """Train a network from its initial weights, for at least one epoch.

    ``validation`` is evaluated after each epoch. If the loss diverges, the history contains NaN.
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
    """Train as `fit`. Return the parameters before the first and after each step, along a new first axis.

    ``params`` replaces the initial parameters that ``seed`` determines.
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
