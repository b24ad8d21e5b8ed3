"""One neuron, and a few in a hidden layer, on points of the plane."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Shaped

from fidle_jax.nn import DNN
from fidle_jax.train.evaluation import apply_model
from fidle_jax.train.fit import Examples, fit, trajectory
from fidle_jax.train.objectives import BINARY
from fidle_jax.train.step import Task

NEURON = DNN(classes=1, hidden=())


class Network(NamedTuple):
    """One that was trained, and the share of its points that it has right."""

    model: nn.Module
    params: dict[str, Any]
    accuracy: float


def train(
    cloud: Examples,
    hidden: tuple[int, ...],
    optimizer: optax.GradientTransformation,
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
) -> Network:
    """A network of tanh neurons in those hidden layers and a sigmoid behind them, trained on a cloud.

    Args:
        cloud: points and their labels.
        hidden: neurons of each hidden layer; none, and it is one neuron.
        optimizer: the same object for networks alike, whose training is then compiled once.
        epochs: as of `fidle_jax.train.fit.fit`, as are ``batch_size`` and ``seed``.
        batch_size: points a step.
        seed: of the initial weights and the points' order.
    """
    model = DNN(classes=1, hidden=hidden, activation=jnp.tanh)
    task = Task(model, optimizer, objective=BINARY)
    params = fit(task, cloud, epochs=epochs, batch_size=batch_size, seed=seed).state.params
    return Network(model, params, accuracy(probabilities(model, params, cloud[0]), cloud[1]))


def follow_neuron(
    cloud: Examples, start: tuple[float, float, float], steps: int, learning_rate: float
) -> dict[str, Any]:
    """The parameters of `NEURON` at ``start`` and after each step of gradient descent on all points.

    Args:
        cloud: points and their labels.
        start: two weights and the bias.
        steps: how many.
        learning_rate: of plain gradient descent.
    """
    *weights, bias = start
    layer = {"kernel": jnp.array(weights)[:, None], "bias": jnp.array([bias])}
    return trajectory(
        Task(NEURON, optax.sgd(learning_rate), objective=BINARY),
        cloud,
        epochs=steps,
        batch_size=len(cloud[1]),
        params={"dense_1": layer},
    )


def square_grid(span: float, side: int) -> Float[np.ndarray, "row column 2"]:
    """The points (x, y) of a square from -``span`` to ``span``, ``side`` on each side."""
    along = np.linspace(-span, span, side, dtype=np.float32)
    return np.stack(np.meshgrid(along, along), axis=-1)


@functools.partial(jax.jit, static_argnames="model")
def probabilities(
    model: nn.Module, params: dict[str, Any], points: Float[Array | np.ndarray, "*shape 2"]
) -> Float[Array, "*shape"]:
    """The probability of class 1 at each point: the sigmoid of the network's one output."""
    outputs = apply_model(model, {"params": params}, points.reshape(-1, 2))
    return jax.nn.sigmoid(outputs[:, 0]).reshape(points.shape[:-1])


def accuracy(
    probability: Float[Array | np.ndarray, "point"], labels: Shaped[Array | np.ndarray, "point"]
) -> float:
    """The share of points on the right side of one half."""
    return float(np.mean((np.asarray(probability) > 0.5) == (labels > 0)))


def neuron_lines(
    layer: dict[str, Float[Array | np.ndarray, "..."]],
) -> Float[np.ndarray, "... neuron 3"]:
    """Weights w and bias c of each neuron of a layer on the plane, whose line is w·x + c = 0.

    Args:
        layer: "kernel", of a shape that ends in (2, neuron), and "bias".
    """
    weights = np.swapaxes(np.asarray(layer["kernel"]), -1, -2)
    return np.concatenate([weights, np.asarray(layer["bias"])[..., None]], axis=-1)


def weighted_sums(
    lines: Float[np.ndarray, "neuron 3"], points: Float[np.ndarray, "*shape 2"]
) -> Float[np.ndarray, "*shape neuron"]:
    """w·x + c of each neuron at each point: 0 on its line, and of one sign on either side."""
    return points @ lines[:, :2].T + lines[:, 2]


def evenly_moved(path: Float[np.ndarray, "step number"], frames: int) -> list[int]:
    """Steps between which the numbers move about equally far, the first and the last among them.

    What learns moves fast at first: steps at equal distances would show little of that.

    Args:
        path: of some numbers that are learned, after each step.
        frames: at most so many steps, each once.
    """
    moved = np.linalg.norm(np.diff(path, axis=0), axis=1)
    so_far = np.concatenate([[0], np.cumsum(moved)])
    steps = np.searchsorted(so_far, np.linspace(0, so_far[-1], frames))
    return sorted({0, *(int(step) for step in steps[:-1]), len(path) - 1})
