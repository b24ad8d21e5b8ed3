"""Objectives: the loss of each example, and a score that people read."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int


def example_losses(
    logits: Float[Array | np.ndarray, "batch class"],
    labels: Int[Array | np.ndarray, "batch"],
    smoothing: float = 0.0,
) -> Float[Array, " batch"]:
    """Return the cross-entropy of each example in nats, with label smoothing."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def _binary_losses(logits, labels, smoothing=0.0):
    targets = labels * (1 - smoothing) + smoothing / 2
    return optax.sigmoid_binary_cross_entropy(logits[:, 0], targets)


def _squared_errors(outputs, targets, smoothing=0.0):
    return jnp.square(outputs[:, 0] - targets)


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss and a score.

    ``losses(outputs, targets, smoothing)`` returns the loss of each example. ``scores(outputs, targets)``
    returns whether each predicted class is correct, or the absolute error of each number.
    """

    losses: Callable[[Array, Array, float], Float[Array, " batch"]]
    scores: Callable[[Array, Array], Bool[Array, "batch"] | Float[Array, "batch"]]


# Several classes: one logit per class; the targets are class indices.
CLASSES = Objective(example_losses, lambda logits, labels: jnp.argmax(logits, -1) == labels)

# Two classes: one logit, of class 1; the targets are 0 and 1.
BINARY = Objective(_binary_losses, lambda logits, labels: (logits[:, 0] > 0) == (labels > 0))

# Regression: one output. The loss is the squared error; smoothing is ignored.
NUMBERS = Objective(_squared_errors, lambda outputs, targets: jnp.abs(outputs[:, 0] - targets))
