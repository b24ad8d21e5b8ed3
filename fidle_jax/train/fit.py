"""Train small networks on arrays in memory, in one compiled program and without files."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PyTree, Shaped

from fidle_jax import kernels
from fidle_jax.data.batches import epoch_order
from fidle_jax.train.evaluation import evaluate
from fidle_jax.train.step import Task, Totals, TrainState, init_state, train_chunk

# uint8 images or float32 features, and class indices or regression targets.
Examples = tuple[Shaped[Array | np.ndarray, "_ *shape"], Shaped[Array | np.ndarray, "_"]]


class Fit(NamedTuple):
    """A trained network."""

    state: TrainState  # after the last step
    best: dict[str, Any]  # variables with the lowest validation loss; without validation, the last
    # "loss" and "score" of each epoch: means over the training examples. With validation, also
    # "validation_loss" and "validation_score".
    history: dict[str, Float[np.ndarray, " epoch"]]
    path: PyTree = (
        None  # with ``follow``: the parameters before the first and after each step, stacked
    )


def fit(
    task: Task,
    train: Examples,
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    validation: Examples | None = None,
    params: PyTree = None,
    follow: bool = False,
) -> Fit:
    """Train a network for at least one epoch, from ``params`` or the initial weights of ``seed``.

    ``validation`` is evaluated after each epoch. If the loss diverges, the history contains NaN.
    """
    inputs, targets = map(jnp.asarray, train)
    held_out = None if validation is None else tuple(map(jnp.asarray, validation))
    average = task.ema_decay > 0
    state = init_state(task.model, inputs.shape[1:], task.optimizer, seed, average=average)
    if params is not None:
        state = state.replace(params=params, opt_state=task.optimizer.init(params))
    first, data = state.params, (inputs, targets)
    state, best, history, rest = _epochs(task, epochs, batch_size, follow, state, data, held_out)
    path = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest) if follow else None
    return Fit(state, best, {name: np.asarray(values) for name, values in history.items()}, path)


@functools.partial(jax.jit, static_argnames=("task", "epochs", "batch_size", "follow"))
@kernels.accelerate
def _epochs(task, epochs, batch_size, follow, state, train, validation):
    inputs, targets = train

    def epoch(carry, number):
        state, best, least = carry
        order = epoch_order(state.seed, number, len(targets), batch_size)

        def step(state, i):
            state = train_chunk(task, state, inputs, targets, order, i, i + 1)
            return state, state.params

        state, path = state.replace(totals=Totals.zeros()), None
        if follow:
            state, path = lax.scan(step, state, jnp.arange(len(order)))
        else:
            state = train_chunk(task, state, inputs, targets, order, 0, len(order))
        found = {
            "loss": state.totals.loss / state.totals.examples,
            "score": state.totals.correct / state.totals.examples,
        }
        if validation is None:
            return (state, state.variables(), least), (found, path)
        loss, score = evaluate(task.model, state.variables(), *validation, objective=task.objective)
        found |= {"validation_loss": loss, "validation_score": score / len(validation[1])}
        best = jax.tree.map(
            lambda new, old: jnp.where(loss < least, new, old), state.variables(), best
        )
        return (state, best, jnp.fmin(loss, least)), (found, path)

    start = state, state.variables(), jnp.float32(jnp.inf)
    (state, best, _), (history, path) = lax.scan(epoch, start, jnp.arange(epochs))
    path = jax.tree.map(lambda each: each.reshape(-1, *each.shape[2:]), path)
    return state, best, history, path
