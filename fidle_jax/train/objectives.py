"""What a network's outputs are held against: of each example a loss, and a score that people read."""

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
    """Cross-entropy of each example, in nats, against targets smoothed by ``smoothing``."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def _binary_losses(logits, labels, smoothing=0.0):
    targets = labels * (1 - smoothing) + smoothing / 2
    return optax.sigmoid_binary_cross_entropy(logits[:, 0], targets)


def _squared_errors(outputs, targets, smoothing=0.0):
    return jnp.square(outputs[:, 0] - targets)


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is learned.

    Attributes:
        losses: (outputs, targets, smoothing) -> the loss of each example; training lowers their mean.
        scores: (outputs, targets) -> what is counted of each beside: 1 where a class is right, else 0;
            for numbers the absolute error.
    """

    losses: Callable[[Array, Array, float], Float[Array, " batch"]]
    scores: Callable[[Array, Array], Bool[Array, "batch"] | Float[Array, "batch"]]


# One of several classes: as many logits; targets are their numbers.
CLASSES = Objective(example_losses, lambda logits, labels: jnp.argmax(logits, -1) == labels)

# One of two: a single logit, that of class 1; targets are 0 and 1.
BINARY = Objective(_binary_losses, lambda logits, labels: (logits[:, 0] > 0) == (labels > 0))

# A number: a single output. The loss is its squared error; there is nothing to smooth.
NUMBERS = Objective(_squared_errors, lambda outputs, targets: jnp.abs(outputs[:, 0] - targets))
