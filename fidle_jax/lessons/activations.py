"""Lesson: the usual activation functions, their derivatives, and where they saturate (Fidle, ACTF1)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from fidle_jax.lessons.figures import STYLES, panels
from fidle_jax.lessons.flags import Activations
from fidle_jax.lessons.page import Lesson
from fidle_jax.report.lesson import Table
from fidle_jax.report.style import LINES, TEXT, finish, legend_below, new_figure

FLAT_COLOUR = "#ECE3D2"

# Scalar functions and their formulas.
ACTIVATIONS: dict[str, tuple[Callable[[Float[Array, ""]], Float[Array, ""]], str]] = {
    "step": (lambda x: jnp.heaviside(x, 0.0), "1 if x > 0 else 0"),
    "sigmoid": (jax.nn.sigmoid, "1 / (1 + exp(−x))"),
    "tanh": (jnp.tanh, "tanh x"),
    "ReLU": (jax.nn.relu, "max(0, x)"),
    "leaky ReLU": (jax.nn.leaky_relu, "x if x > 0 else 0.01 x"),
    "ELU": (jax.nn.elu, "x if x > 0 else exp(x) − 1"),
    "softplus": (jax.nn.softplus, "log(1 + exp x)"),
    "SiLU": (jax.nn.silu, "x · sigmoid(x)"),
    "GELU": (lambda x: jax.nn.gelu(x, approximate=False), "x · Φ(x), Φ of the normal distribution"),
}

# A layer with a smaller slope passes on less than a twentieth of the gradient.
FLAT = 0.05


def values_and_slopes(
    activation: Callable, x: Float[Array | np.ndarray, "point"]
) -> tuple[Float[Array, " point"], Float[Array, " point"]]:
    """Return the activation at each point and its derivative, computed by `jax.grad`."""
    return jax.vmap(jax.value_and_grad(activation))(x)


def flat_intervals(
    x: Float[np.ndarray, "point"],
    slopes: Float[Array | np.ndarray, "point"],
    threshold: float = FLAT,
) -> list[tuple[float, float]]:
    """Return the intervals in which the absolute slope is below a threshold.

    A single point is not an interval: the slope changes its sign there.

    Args:
        x: Points in ascending order.
        slopes: Derivative at each point.
        threshold: Upper limit of the absolute slope.
    """
    flat = np.abs(np.asarray(slopes)) < threshold
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]])))
    return [
        (float(x[first]), float(x[last - 1]))
        for first, last in edges.reshape(-1, 2)
        if last - first > 1
    ]


def teach(flags: Activations) -> Lesson:
    """Create the lesson."""
    x = np.linspace(-flags.span, flags.span, 10001, dtype=np.float32)
    values, slopes = {}, {}
    for name, (activation, _) in ACTIVATIONS.items():
        values[name], slopes[name] = map(np.asarray, values_and_slopes(activation, x))
    flat = {name: flat_intervals(x, slope) for name, slope in slopes.items()}
    largest = {name: float(np.abs(slope).max()) for name, slope in slopes.items()}
    rows = [[name, formula, f"{largest[name]:.3g}"] for name, (_, formula) in ACTIVATIONS.items()]
    share = {name: largest[name] ** np.arange(flags.layers + 1) for name in ("ReLU", "sigmoid")}
    return Lesson(
        shown={
            "activations": activations_figure(x, values, slopes, flat),
            "table": Table(["activation", "formula", "largest slope"], rows, (0, 1)),
            "vanishing": vanishing_figure(share),
        },
        numbers={
            "largest_slope": largest,
            "flat": flat,
            "gradient_after_sigmoids": largest["sigmoid"] ** flags.layers,
        },
        cover="activations",
    )


def activations_figure(
    x: Float[np.ndarray, " point"],
    values: dict[str, Float[np.ndarray, " point"]],
    slopes: dict[str, Float[np.ndarray, " point"]],
    flat: dict[str, list[tuple[float, float]]],
) -> Figure:
    """Draw each activation with its derivative, and shade the intervals ``flat``."""
    figure, grid = panels(len(values), 3, 2.6, sharex=True, sharey=True)
    for axes, name in zip(grid, values, strict=True):
        for low, high in flat[name]:
            axes.axvspan(low, high, color=FLAT_COLOUR, linewidth=0, label="flat")
        axes.axhline(0, color=LINES)
        axes.axvline(0, color=LINES)
        axes.plot(x, values[name], linewidth=2, label="activation", **STYLES[0])
        axes.plot(x, slopes[name], linewidth=2, label="derivative", **STYLES[1])
        axes.set(xlim=(x[0], x[-1]), ylim=(-1.4, 2.4), xticks=[x[0], 0, x[-1]])
        finish(axes, name, grid="")
    legend_below(figure, columns=3)
    return figure


def vanishing_figure(share: dict[str, Float[np.ndarray, " layer"]]) -> Figure:
    """Draw the remaining share of a gradient after each layer, by activation."""
    figure = new_figure(height=3.6)
    axes = figure.subplots()
    for (name, each), style in zip(share.items(), STYLES, strict=False):
        axes.semilogy(each, linewidth=2, label=name, **style)
    axes.locator_params("x", integer=True)
    axes.legend(fontsize=TEXT, frameon=False)
    finish(axes, x="layers", y="share of the gradient")
    return figure
