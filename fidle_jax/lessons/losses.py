"""The losses as the course writes them, of probabilities, beside those of logits (Fidle, slides on losses).

All of it in float32, as a network computes it: the formulas of probabilities have no answer where a
probability is rounded to 0 or 1.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import xlogy
from jaxtyping import Array, Float


def sigmoid(logits: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
    """1 / (1 + exp(−logit)), as it is written."""
    return 1 / (1 + jnp.exp(-logits))


def softmax(logits: Float[Array | np.ndarray, "... class"]) -> Float[Array, "... class"]:
    """exp(logit) / Σ exp(logit), as it is written: NaN where an exponential overflows or all are 0."""
    exponentials = jnp.exp(logits)
    return exponentials / exponentials.sum(-1, keepdims=True)


def stable_softmax(
    logits: Float[Array | np.ndarray, "... class"], temperature: float = 1.0
) -> Float[Array, "... class"]:
    """The same, the largest logit subtracted first: no exponential is above 1, one of them is 1.

    Args:
        logits: of each class.
        temperature: that logits are divided by; high ones make the classes alike, low ones tell them apart.
    """
    return softmax((logits - logits.max(-1, keepdims=True)) / temperature)


def binary_cross_entropy(
    probabilities: Float[Array | np.ndarray, "..."], targets: Float[Array | np.ndarray, "..."]
) -> Float[Array, ""]:
    """−(1/n) Σ [y ln p + (1 − y) ln(1 − p)], in nats.

    0 ln 0 is 0, its limit: a certain answer costs nothing where it is right and infinitely much where it
    is wrong. The gradient is promised for probabilities between 0 and 1 only.
    """
    return -jnp.mean(xlogy(targets, probabilities) + xlogy(1 - targets, 1 - probabilities))


def categorical_cross_entropy(
    probabilities: Float[Array | np.ndarray, "... class"],
    targets: Float[Array | np.ndarray, "... class"],
) -> Float[Array, ""]:
    """−(1/n) Σ Σ y ln p over n examples and their classes, in nats; 0 ln 0 is 0 as above."""
    return -jnp.mean(xlogy(targets, probabilities).sum(-1))


def mean_squared_error(
    outputs: Float[Array | np.ndarray, "..."], targets: Float[Array | np.ndarray, "..."]
) -> Float[Array, ""]:
    """(1/n) Σ (y − p)²."""
    return jnp.mean((targets - outputs) ** 2)


LogitLoss = Callable[[Float[Array, ""], Float[Array, ""]], Float[Array, ""]]


def naive_binary_loss(logit: Float[Array, ""], target: Float[Array, ""]) -> Float[Array, ""]:
    """Binary cross-entropy of a logit by way of its probability, the two formulas as written."""
    return binary_cross_entropy(sigmoid(logit), target)


def squared_error_of_sigmoid(logit: Float[Array, ""], target: Float[Array, ""]) -> Float[Array, ""]:
    """Squared error of the sigmoid of a logit."""
    return mean_squared_error(jax.nn.sigmoid(logit), target)


# Binary cross-entropy of a logit, which is never turned into a probability.
stable_binary_loss: LogitLoss = optax.sigmoid_binary_cross_entropy


class Curve(NamedTuple):
    """A loss over the logit, and its derivative with respect to the logit."""

    loss: Float[np.ndarray, " point"]
    gradient: Float[np.ndarray, " point"]


def curve(loss: LogitLoss, logits: Float[np.ndarray, " point"], target: float) -> Curve:
    """The loss at each logit for this target, and its derivative by `jax.grad`."""
    return Curve(*map(np.asarray, _at_each(loss, logits, jnp.float32(target))))


@functools.partial(jax.jit, static_argnums=0)
def _at_each(loss, logits, target):
    return jax.vmap(jax.value_and_grad(loss), (0, None))(logits, target)


@dataclasses.dataclass(frozen=True)
class Example:
    """From the logits of one example to its loss.

    Attributes:
        logits: what the network gave for each class.
        label: the right class.
        exponentials: of the logits.
        probabilities: their softmax.
        argmax: the class of the largest.
        targets: 1 for the right class, else 0.
        parts: −y ln p of each class.
        loss: their sum.
    """

    logits: Float[np.ndarray, " class"]
    label: int
    exponentials: Float[np.ndarray, " class"]
    probabilities: Float[np.ndarray, " class"]
    argmax: int
    targets: Float[np.ndarray, " class"]
    parts: Float[np.ndarray, " class"]
    loss: float


def worked_example(logits: Float[np.ndarray, " class"], label: int) -> Example:
    """Softmax, argmax, one-hot target and categorical cross-entropy of one example."""
    probabilities = stable_softmax(jnp.asarray(logits))
    targets = jax.nn.one_hot(label, len(logits))
    return Example(
        logits,
        label,
        exponentials=np.exp(logits),
        probabilities=np.asarray(probabilities),
        argmax=int(jnp.argmax(probabilities)),
        targets=np.asarray(targets),
        parts=np.abs(xlogy(targets, probabilities)),
        loss=float(categorical_cross_entropy(probabilities[None], targets[None])),
    )


def large_softmax(
    logits: Float[np.ndarray, " class"], largest: float
) -> tuple[float, float, float]:
    """Of the logits moved so that their largest is ``largest``: its exponential, and its softmax twice.

    As written, and with the largest subtracted first.
    """
    place = int(np.argmax(logits))
    moved = jnp.asarray(logits - logits[place] + np.float32(largest))
    exponential, naive, stable = (f(moved)[place] for f in (jnp.exp, softmax, stable_softmax))
    return float(exponential), float(naive), float(stable)
