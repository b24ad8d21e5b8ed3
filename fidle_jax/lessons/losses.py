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
from fidle_jax.report.style import BLUE, GREY, SMALL, VERMILLION, finish, legend_below

FORMULAS = [
    ["binary cross-entropy", "yes or no", "sigmoid", "−1/n Σ [y ln p + (1 − y) ln(1 − p)]"],
    ["categorical cross-entropy", "one of several", "softmax", "−1/n Σ Σ y ln p"],
    ["mean squared error", "numbers", "the output itself", "1/n Σ (y − p)²"],
]
TEMPERATURES = 0.25, 1.0, 4.0
BROKEN_COLOUR = "#F6DCC8"


def sigmoid(logits: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
    """Return 1 / (1 + exp(−logit)), computed as written."""
    return 1 / (1 + jnp.exp(-logits))


def softmax(logits: Float[Array | np.ndarray, "... class"]) -> Float[Array, "... class"]:
    """Return exp(logit) / Σ exp(logit), computed as written.

    The result is NaN if an exponential overflows or all of them underflow.
    """
    exponentials = jnp.exp(logits)
    return exponentials / exponentials.sum(-1, keepdims=True)


def stable_softmax(
    logits: Float[Array | np.ndarray, "... class"], temperature: float = 1.0
) -> Float[Array, "... class"]:
    """Return the softmax of logits / temperature. Subtract the largest logit first: no overflow."""
    return softmax((logits - logits.max(-1, keepdims=True)) / temperature)


def binary_cross_entropy(
    probabilities: Float[Array | np.ndarray, "..."], targets: Float[Array | np.ndarray, "..."]
) -> Float[Array, ""]:
    """Return −(1/n) Σ [y ln p + (1 − y) ln(1 − p)], in nats, with 0 ln 0 = 0.

    The gradient is only defined for probabilities strictly between 0 and 1.
    """
    return -jnp.mean(xlogy(targets, probabilities) + xlogy(1 - targets, 1 - probabilities))


def categorical_cross_entropy(
    probabilities: Float[Array | np.ndarray, "... class"],
    targets: Float[Array | np.ndarray, "... class"],
) -> Float[Array, ""]:
    """Return −(1/n) Σ Σ y ln p over n examples and their classes, in nats, with 0 ln 0 = 0."""
    return -jnp.mean(xlogy(targets, probabilities).sum(-1))


def mean_squared_error(
    outputs: Float[Array | np.ndarray, "..."], targets: Float[Array | np.ndarray, "..."]
) -> Float[Array, ""]:
    """Return (1/n) Σ (y − p)²."""
    return jnp.mean((targets - outputs) ** 2)


LogitLoss = Callable[[Float[Array, ""], Float[Array, ""]], Float[Array, ""]]


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

    loss: Float[np.ndarray, " point"]
    gradient: Float[np.ndarray, " point"]


@functools.partial(jax.jit, static_argnums=0)
def _compute(loss, logits, target):
    return values_and_slopes(lambda logit: loss(logit, target), logits)


def curve(loss: LogitLoss, logits: Float[np.ndarray, " point"], target: float) -> Curve:
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
    entropy = curve(stable_binary_loss, near, 1)
    square = curve(squared_error_of_sigmoid, near, 1)
    far = np.linspace(-200, 200, 4001, dtype=np.float32)
    naive = {y: curve(naive_binary_loss, far, y) for y in (1, 0)}
    stable = {y: curve(stable_binary_loss, far, y) for y in (1, 0)}
    infinite = float(far[np.isinf(naive[0].loss)].min())
    example = worked_example(np.asarray(flags.logits, np.float32), flags.label)
    steps = [example[k] for k in ("logits", "exponentials", "probabilities", "targets", "parts")]
    temperatures = {
        f"temperature {each:g}": np.asarray(stable_softmax(steps[0], each)) for each in TEMPERATURES
    }
    return Lesson(
        values={
            "verdict": "correct" if example["argmax"] == flags.label else "wrong",
            "slopes": [number(entropy.gradient[0], ".5f"), number(square.gradient[0], ".1g")],
            "vanished": number(far[naive[1].gradient == 0].max(), ".0f"),
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
            "mistake": logit_curves_figure(
                near, {"cross-entropy": entropy, "squared error of a sigmoid": square}
            ),
            "breakdown": breakdown_figure(
                far, {f"target {y}": (naive[y], stable[y]) for y in naive}
            ),
            "temperature": bars_figure(temperatures, flags.label),
        },
        numbers={
            "example": {name: np.asarray(value).tolist() for name, value in example.items()},
            "gradient_at_-10": {
                "cross_entropy": float(entropy.gradient[0]),
                "squared_error": float(square.gradient[0]),
            },
            "loss_of_target_0_infinite_from": infinite,
        },
        cover="mistake",
    )


def bars_figure(values: dict[str, Float[np.ndarray, " class"]], marked: int) -> Figure:
    """Draw one panel of bars per title, and highlight the class ``marked``."""
    figure, row = panels(len(values), len(values), height=3, extra=0, sharey=True)
    for axes, (title, heights) in zip(row, values.items(), strict=True):
        colours = [BLUE if i == marked else GREY for i in range(len(heights))]
        bars = axes.bar(range(len(heights)), heights, color=colours, width=0.7)
        texts = [number(round(float(each), 2 if abs(each) < 10 else 0)) for each in heights]
        axes.bar_label(bars, texts, fontsize=SMALL, padding=2)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.margins(y=0.16)
        axes.set_xticks(range(len(heights)))
        finish(axes, title, "class", grid="")
    return figure


def logit_curves_figure(logits: Float[np.ndarray, " point"], curves: dict[str, Curve]) -> Figure:
    """Draw losses on the left and their gradients on the right, against the logit."""
    figure, row = panels(2, 2, height=3.9, extra=0)
    for axes, field in zip(row, Curve._fields, strict=True):
        for (name, each), style in zip(curves.items(), STYLES, strict=False):
            axes.plot(logits, getattr(each, field), linewidth=2.2, label=name, **style)
        finish(axes, field, "logit")
    legend_below(figure, columns=2)
    return figure


def breakdown_figure(
    logits: Float[np.ndarray, " point"], columns: dict[str, tuple[Curve, Curve]]
) -> Figure:
    """Draw naive and stable losses, and their gradients below. Shade where the naive one fails.

    Args:
        logits: Points on the horizontal axis.
        columns: The naive and the stable curve by the title of their column.
    """
    figure, grid = panels(2 * len(columns), len(columns), 2.85, 0, sharex=True, sharey="row")
    figure.set_layout_engine("constrained", wspace=0.08)
    for i, (title, (naive, stable)) in enumerate(columns.items()):
        for axes, field in zip(grid[i :: len(columns)], Curve._fields, strict=True):
            values = getattr(naive, field)
            finite = np.isfinite(values)
            if not finite.all():
                area = {"color": BROKEN_COLOUR, "linewidth": 0, "label": "infinite or NaN"}
                where = {"where": ~finite, "transform": axes.get_xaxis_transform()}
                axes.fill_between(logits, 0, 1, **where, **area)
            wide = {"linewidth": 4.5, "alpha": 0.45, "label": "from the logit"}
            axes.plot(logits, getattr(stable, field), color=BLUE, **wide)
            dashed = {"linestyle": "--", "linewidth": 2, "label": "from the probability"}
            axes.plot(logits, np.where(finite, values, np.nan), color=VERMILLION, **dashed)
            axes.set_xlim(logits[0], logits[-1])
            loss = field == "loss"
            finish(axes, title * loss, "logit" * (not loss), field * (i == 0), grid="")
    legend_below(figure, columns=3)
    return figure
