"""Lesson: the losses as the course writes them, of probabilities, and losses of logits.

Everything is computed in float32, as in training: the formulas of probabilities fail if a probability is
rounded to 0 or 1.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import xlogy
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from fidle_jax.lessons.activations import values_and_slopes
from fidle_jax.lessons.figures import STYLES, number, panels
from fidle_jax.lessons.flags import Losses
from fidle_jax.lessons.page import Lesson
from fidle_jax.report.lesson import Table
from fidle_jax.report.style import finish, legend_below

FORMULAS = [
    ["binary cross-entropy", "yes or no", "sigmoid", "−1/n Σ [y ln p + (1 − y) ln(1 − p)]"],
    ["categorical cross-entropy", "one of several", "softmax", "−1/n Σ Σ y ln p"],
    ["mean squared error", "numbers", "the output itself", "1/n Σ (y − p)²"],
]
TEMPERATURES = 0.25, 1.0, 4.0
BROKEN_COLOUR = "#F6DCC8"


Values = Float[Array | np.ndarray, "..."]
PerClass = Float[Array | np.ndarray, "... class"]
Points = Float[np.ndarray, " point"]
LogitLoss = Callable[[Float[Array, ""], Float[Array, ""]], Float[Array, ""]]


def sigmoid(logits: Values) -> Values:
    """Return 1 / (1 + exp(−logit)), computed as written."""
    return 1 / (1 + jnp.exp(-logits))


def softmax(logits: PerClass) -> PerClass:
    """Return exp(logit) / Σ exp(logit), computed as written.

    The result is NaN if an exponential overflows or all of them underflow.
    """
    exponentials = jnp.exp(logits)
    return exponentials / exponentials.sum(-1, keepdims=True)


def stable_softmax(logits: PerClass, temperature: float = 1.0) -> PerClass:
    """Return the softmax of logits / temperature. Subtract the largest logit first: no overflow."""
    return softmax((logits - logits.max(-1, keepdims=True)) / temperature)


def binary_cross_entropy(probabilities: Values, targets: Values) -> Float[Array, ""]:
    """Return −(1/n) Σ [y ln p + (1 − y) ln(1 − p)], in nats, with 0 ln 0 = 0.

    The gradient is only defined for probabilities strictly between 0 and 1.
    """
    return -jnp.mean(xlogy(targets, probabilities) + xlogy(1 - targets, 1 - probabilities))


def categorical_cross_entropy(probabilities: PerClass, targets: PerClass) -> Float[Array, ""]:
    """Return −(1/n) Σ Σ y ln p over n examples and their classes, in nats, with 0 ln 0 = 0."""
    return -jnp.mean(xlogy(targets, probabilities).sum(-1))


def mean_squared_error(outputs: Values, targets: Values) -> Float[Array, ""]:
    """Return (1/n) Σ (y − p)²."""
    return jnp.mean((targets - outputs) ** 2)


def naive_binary_loss(logit: Float[Array, ""], target: Float[Array, ""]) -> Float[Array, ""]:
    """Return the binary cross-entropy of a logit, computed from its probability."""
    return binary_cross_entropy(sigmoid(logit), target)


def squared_error_of_sigmoid(logit: Float[Array, ""], target: Float[Array, ""]) -> Float[Array, ""]:
    """Return the squared error of the sigmoid of a logit."""
    return mean_squared_error(jax.nn.sigmoid(logit), target)


# Binary cross-entropy of a logit, computed without its probability.
stable_binary_loss: LogitLoss = optax.sigmoid_binary_cross_entropy


class Curve(NamedTuple):
    """A loss at several logits, and its derivative with respect to the logit."""

    loss: Points
    gradient: Points


@functools.partial(jax.jit, static_argnums=0)
def _compute(loss, logits, target):
    return values_and_slopes(lambda logit: loss(logit, target), logits)


def curve(loss: LogitLoss, logits: Points, target: float) -> Curve:
    """Return the loss of each logit for this target, and its derivative by `jax.grad`."""
    return Curve(*map(np.asarray, _compute(loss, logits, jnp.float32(target))))


def worked_example(logits: Float[np.ndarray, " class"], label: int) -> dict[str, Any]:
    """Compute the steps from the logits of one example to its loss, by name."""
    probabilities = stable_softmax(jnp.asarray(logits))
    targets = jax.nn.one_hot(label, len(logits))
    return {
        "logits": logits,
        "label": label,
        "exponentials": np.exp(logits),
        "probabilities": np.asarray(probabilities),
        "argmax": int(jnp.argmax(probabilities)),
        "targets": np.asarray(targets),
        "parts": np.abs(xlogy(targets, probabilities)),
        "loss": float(categorical_cross_entropy(probabilities[None], targets[None])),
    }


def teach(flags: Losses) -> Lesson:
    """Create the lesson."""
    near = np.linspace(-10, 10, 401, dtype=np.float32)
    mistake = {
        "cross-entropy": curve(stable_binary_loss, near, 1),
        "squared error of a sigmoid": curve(squared_error_of_sigmoid, near, 1),
    }
    slopes = [float(each.gradient[0]) for each in mistake.values()]
    far = np.linspace(-200, 200, 4001, dtype=np.float32)
    naive, naive_of_1 = (curve(naive_binary_loss, far, target) for target in (0, 1))
    stable = curve(stable_binary_loss, far, 0)
    logits = np.asarray(flags.logits, np.float32)
    example = worked_example(logits, flags.label)
    steps = [example[k] for k in ("logits", "exponentials", "probabilities", "targets", "parts")]
    return Lesson(
        values={
            "verdict": "correct" if example["argmax"] == flags.label else "wrong",
            "slopes": [number(slopes[0], ".5f"), number(slopes[1], ".1g")],
            "vanished": number(far[naive_of_1.gradient == 0].max(), ".0f"),
        },
        shown={
            "losses": Table(["loss", "used for", "p comes from", "formula"], FORMULAS, range(4)),
            "example": Table(
                ["class", "logit", "exp(logit)", "softmax p", "target y", "−y ln p"],
                [
                    [str(i), number(logit), f"{power:.4g}", f"{p:.4f}", f"{y:.0f}", f"{part:.4f}"]
                    for i, (logit, power, p, y, part) in enumerate(zip(*steps, strict=True))
                ],
            ),
            "mistake": logit_curves_figure(near, mistake),
            "breakdown": logit_curves_figure(
                far, {"from the logit": stable, "from the probability": naive}
            ),
            "temperature": Table(
                ["temperature", *(f"p of class {i}" for i in range(len(logits)))],
                [
                    [f"{each:g}", *(f"{p:.4f}" for p in stable_softmax(logits, each))]
                    for each in TEMPERATURES
                ],
            ),
        },
        numbers={
            "example": example,
            "gradient_at_-10": {"cross_entropy": slopes[0], "squared_error": slopes[1]},
            "loss_of_target_0_infinite_from": float(far[np.isinf(naive.loss)].min()),
        },
        cover="mistake",
    )


def logit_curves_figure(logits: Points, curves: dict[str, Curve]) -> Figure:
    """Draw losses and their gradients against the logit. Shade where one is infinite or NaN."""
    figure, row = panels(2, 2, height=3.9, extra=0)
    for axes, field in zip(row, Curve._fields, strict=True):
        for (name, each), style in zip(curves.items(), STYLES, strict=False):
            values = getattr(each, field)
            finite = np.isfinite(values)
            axes.plot(logits, np.where(finite, values, np.nan), linewidth=2.2, label=name, **style)
            if not finite.all():
                area = {"color": BROKEN_COLOUR, "linewidth": 0, "label": "infinite or NaN"}
                axes.fill_between(
                    logits, 0, 1, where=~finite, transform=axes.get_xaxis_transform(), **area
                )
        finish(axes, field, "logit")
    legend_below(figure, columns=3)
    return figure
