"""A network that over-fits few points, and what helps: trained side by side on one draw."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from fidle_jax.lessons.polynomials import MANY, PLACES, Draw, Points, rmse
from fidle_jax.nn import DNN
from fidle_jax.train.fit import fit
from fidle_jax.train.objectives import NUMBERS
from fidle_jax.train.step import Task

RATE, STRENGTH = 0.2, 3.0  # of dropout and weight decay, chosen on draws of another seed
PLAIN, EARLY, DROPOUT, DECAY = "no remedy", "early stopping", "dropout", "weight decay"
MORE = "ten times the points"

_NETWORK = DNN(classes=1, hidden=(64, 64, 64), activation=jnp.tanh)
_PLAIN = Task(_NETWORK, optax.adam(3e-3), objective=NUMBERS)
_DECAY = optax.adamw(
    3e-3,
    weight_decay=STRENGTH,
    mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
)
_TASKS = {
    PLAIN: _PLAIN,
    DROPOUT: dataclasses.replace(_PLAIN, model=_NETWORK.clone(dropout=(RATE,) * 3)),
    DECAY: dataclasses.replace(_PLAIN, optimizer=_DECAY),
    MORE: _PLAIN,
}
_apply = jax.jit(_NETWORK.apply)


class Learned(NamedTuple):
    """A network that was trained.

    Attributes:
        curve: its values at `fidle_jax.lessons.polynomials.PLACES`.
        train: its RMSE on the points that it learned.
        test: that on fresh points.
        steps: after which the next two were taken.
        train_errors: RMSE on the points as they were met.
        validation_errors: RMSE on others.
    """

    curve: Float[np.ndarray, " place"]
    train: float
    test: float
    steps: Int[np.ndarray, " epoch"]
    train_errors: Float[np.ndarray, " epoch"]
    validation_errors: Float[np.ndarray, " epoch"]


def learn(draw: Draw, steps: int, seed: int) -> dict[str, Learned]:
    """What comes of the network without a remedy and of each remedy, by name, in so many steps."""
    found = {}
    for name, task in _TASKS.items():
        points, every = (draw.many, MANY) if name == MORE else (draw.few, 1)
        fitted = fit(
            task,
            _examples(points),
            epochs=steps // every,
            batch_size=len(draw.few[0]),
            seed=seed,
            validation=_examples(draw.validation),
        )
        history = {name: np.sqrt(losses) for name, losses in fitted.history.items()}
        met = every * np.arange(1, len(history["loss"]) + 1)
        errors = met, history["loss"], history["validation_loss"]
        found[name] = _learned(draw, fitted.state.variables(), points, errors)
        if name == PLAIN:
            found[EARLY] = _learned(draw, fitted.best, points, errors)
    return found


def _examples(points: Points):
    x, y = points
    return x.astype(np.float32)[:, None], y.astype(np.float32)


def _learned(draw: Draw, variables, points: Points, errors) -> Learned:
    inputs = np.concatenate([PLACES, points[0], draw.fresh[0]]).astype(np.float32)
    values = np.asarray(_apply(variables, inputs[:, None]))[:, 0]
    curve, on_train, on_test = np.split(values, [len(PLACES), len(PLACES) + len(points[0])])
    return Learned(curve, rmse(on_train, points[1]), rmse(on_test, draw.fresh[1]), *errors)
