"""Losses and scores, and evaluation of a network in batches, as pure functions."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

from fidle_jax.data.augment import scale
from fidle_jax.data.batches import Inputs, Targets, padded_order, rows_at

EVAL_BATCH_SIZE = 500

# A function (logits, labels) -> value of each example.
PerExample = Callable[[Array, Array], Array]
Metrics = tuple[tuple[str, PerExample], ...]  # with their names


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


def apply_model(
    model: nn.Module,
    variables: dict[str, Any],
    images: UInt8[Array | np.ndarray, "batch *shape"] | Float[Array | np.ndarray, "batch *shape"],
) -> Float[Array, "batch class"]:
    """Return the logits of one batch. Images of type uint8 are scaled to [0, 1]."""
    # Flax also returns the changed variables, but only if asked with `mutable`.
    return cast(Array, model.apply(variables, scale(images)))


def predict(
    model: nn.Module,
    variables: dict[str, Any],
    images: Inputs,
    positions: Int[Array, " position"] | None = None,
) -> Float[Array, "example class"]:
    """Return the logits of every example.

    ``positions`` are those in each batch of `EVAL_BATCH_SIZE` that this device computes (default: all).
    """
    examples = images.shape[0]
    order = padded_order(jnp.arange(examples), min(EVAL_BATCH_SIZE, examples))
    batch = order.shape[1]
    if positions is None:
        positions = jnp.arange(batch)

    def batch_logits(rows):
        rows = rows_at(rows, positions)
        return apply_model(model, variables, images[jnp.maximum(rows, 0)])

    logits = lax.map(batch_logits, order)
    return logits[:, :batch].reshape(order.size, -1)[:examples]


def evaluate(
    model: nn.Module,
    variables: dict[str, Any],
    images: Inputs,
    labels: Targets,
    positions: Int[Array, " position"] | None = None,
    objective: Objective = CLASSES,
) -> tuple[Float[Array, ""], Int[Array, ""] | Float[Array, ""]]:
    """Return the mean loss and the sum of the scores, such as the number of correct predictions."""
    outputs = predict(model, variables, images, positions)
    return objective.losses(outputs, labels, 0.0).mean(), jnp.sum(objective.scores(outputs, labels))


def evaluate_batch(
    model: nn.Module,
    variables: dict[str, Any],
    images: UInt8[Array, "1 position height width channel"],
    labels: Int[Array, "1 position"],
    objective: Objective = CLASSES,
    metrics: Metrics = (),
) -> tuple[
    Float[Array, " position"],
    Bool[Array, " position"] | Float[Array, " position"],
    dict[str, Shaped[Array, " position"]],
]:
    """Return the loss, the score and the metrics of each example of one batch."""
    logits = apply_model(model, variables, images[0])
    losses, scores = objective.losses(logits, labels[0], 0.0), objective.scores(logits, labels[0])
    return losses, scores, {name: metric(logits, labels[0]) for name, metric in metrics}


def finite_means(values: dict[str, Shaped[Array | np.ndarray, "..."]]) -> dict[str, float | None]:
    """Return the mean of each array, or None if it is not finite."""
    means = {name: float(jnp.mean(value)) for name, value in values.items()}
    return {name: mean if math.isfinite(mean) else None for name, mean in means.items()}
