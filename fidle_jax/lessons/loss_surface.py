"""The squared error of a straight line, y = slope · x + intercept: a surface over two parameters."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from fidle_jax.nn import DNN
from fidle_jax.train.fit import trajectory
from fidle_jax.train.objectives import NUMBERS
from fidle_jax.train.step import Task

SLOPE, INTERCEPT, NOISE = 1.0, 0.5, 0.7
# x is neither centred nor scaled: slope and intercept can make up for each other, which gives the
# surface its long valley.
LARGEST_X = 4.0


def noisy_points(
    count: int, seed: int
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """x, spread evenly by chance from 0 to `LARGEST_X`, and y on a line, with normal noise of `NOISE`."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, LARGEST_X, count)
    y = SLOPE * x + INTERCEPT + random.normal(scale=NOISE, size=count)
    return x.astype(np.float32), y.astype(np.float32)


class Problem(NamedTuple):
    """Points, and what is known in closed form of the lines through them.

    Attributes:
        x: of the points.
        y: of the points.
        least: slope and intercept of the least loss.
        least_loss: the loss there.
        curvatures: the Hessian's eigenvalues, in ascending order.
        limit: the learning rate above which gradient descent diverges.
    """

    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    least: Float[np.ndarray, "2"]
    least_loss: float
    curvatures: Float[np.ndarray, "2"]
    limit: float

    def losses(self, lines: Float[np.ndarray, "*shape 2"]) -> Float[np.ndarray, "*shape"]:
        """The loss of each line."""
        return np.asarray(mean_squared_error(self.x, self.y, lines))


def noisy_line(count: int, seed: int) -> Problem:
    """To find a line through ``count`` points that `noisy_points` gives."""
    x, y = noisy_points(count, seed)
    least, curvature = least_squares(x, y), hessian(x)
    return Problem(
        x,
        y,
        least,
        float(mean_squared_error(x, y, least)),
        np.linalg.eigvalsh(curvature),
        largest_learning_rate(curvature),
    )


def mean_squared_error(
    x: Float[Array | np.ndarray, "point"],
    y: Float[Array | np.ndarray, "point"],
    lines: Float[Array | np.ndarray, "*shape 2"],
) -> Float[Array | np.ndarray | np.number, "*shape"]:
    """The loss of each line (slope, intercept)."""
    errors = lines[..., :1] * x + lines[..., 1:] - y
    return (errors**2).mean(axis=-1)


def gradient(
    x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"], line: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "2"]:
    """The loss's derivatives by slope and intercept: twice the means of error · x and of the error."""
    errors = line[0] * x + line[1] - y
    return 2 * np.array([(errors * x).mean(), errors.mean()])


def hessian(x: Float[np.ndarray, " point"]) -> Float[np.ndarray, "2 2"]:
    """The loss's second derivatives: the same everywhere, as the loss is quadratic."""
    x = x.astype(np.float64)
    return 2 * np.array([[(x * x).mean(), x.mean()], [x.mean(), 1.0]])


def largest_learning_rate(curvature: Float[np.ndarray, "n n"]) -> float:
    """2 / the largest eigenvalue of the Hessian: above it gradient descent diverges.

    A step multiplies the distance from the minimum along an eigenvector by 1 - rate · eigenvalue,
    whose size is above 1 from there on.
    """
    return float(2 / np.linalg.eigvalsh(curvature)[-1])


def least_squares(
    x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"]
) -> Float[np.ndarray, "2"]:
    """Slope and intercept of the least loss, in closed form."""
    columns = np.stack([x, np.ones_like(x)], axis=1).astype(np.float64)
    return np.linalg.lstsq(columns, y.astype(np.float64))[0]


class Descent(NamedTuple):
    """A path down the surface.

    Attributes:
        path: slope and intercept at the start and after each step.
        losses: of each of them, over all points.
        needed: steps to a loss of 1 % above the least one; None where they were not enough.
    """

    path: Float[np.ndarray, "step 2"]
    losses: Float[np.ndarray, " step"]
    needed: int | None


def descend(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    start: tuple[float, float],
    *,
    epochs: int,
    batch_size: int | None = None,
    seed: int = 0,
) -> Descent:
    """Trains the network of one input, one output and nothing between from ``start``.

    Args:
        problem: the points.
        optimizer: gradients to steps.
        start: slope and intercept.
        epochs: times that each point is seen.
        batch_size: points a step; by default all of them.
        seed: of their order.
    """
    params = trajectory(
        Task(DNN(classes=1, hidden=()), optimizer, objective=NUMBERS),
        (problem.x[:, None], problem.y),
        epochs=epochs,
        batch_size=batch_size or len(problem.x),
        seed=seed,
        params=as_params(start),
    )
    path = as_lines(params)
    losses = problem.losses(path)
    return Descent(path, losses, steps_within(losses, problem.least_loss))


def as_params(line: Sequence[float]) -> dict[str, Any]:
    """The line as the parameters of ``DNN(classes=1, hidden=())`` on one number."""
    slope, intercept = np.asarray(line, np.float32)
    return {"dense_1": {"kernel": jnp.full((1, 1), slope), "bias": jnp.full((1,), intercept)}}


def as_lines(params: dict[str, Any]) -> Float[np.ndarray, "*shape 2"]:
    """Slope and intercept from such parameters, with leading axes for those after each step."""
    layer = params["dense_1"]
    return np.concatenate(
        [np.asarray(layer["kernel"], np.float64)[..., 0], np.asarray(layer["bias"], np.float64)],
        axis=-1,
    )


def steps_within(
    losses: Float[np.ndarray, " step"], least: float, share: float = 0.01
) -> int | None:
    """The first step whose loss is at most ``share`` above the least one; None where none is."""
    within = np.flatnonzero(np.asarray(losses) <= (1 + share) * least)
    return int(within[0]) if len(within) else None
