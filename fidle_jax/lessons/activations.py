"""Lesson: the usual activation functions, their derivatives, and where they saturate (Fidle, ACTF1)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from fidle_jax.lessons.figures import draw_curves, panels
from fidle_jax.lessons.flags import Activations
from fidle_jax.lessons.page import Lesson
from fidle_jax.report.lesson import Table
from fidle_jax.report.style import LINES, TEXT, finish, legend_below, new_figure

Points = Float[Array | np.ndarray, " point"]
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


def values_and_slopes(activation: Callable, x: Points) -> tuple[Points, Points]:
    """Return the activation at each point and its derivative, computed by `jax.grad`."""
    return jax.vmap(jax.value_and_grad(activation))(x)


def flat_intervals(x: Points, slopes: Points, threshold: float = FLAT) -> list[tuple[float, float]]:
    """Return the intervals in which the absolute slope is below a threshold, for ascending ``x``.

    A single point is not an interval: the slope changes its sign there.
    """
    flat = np.abs(slopes) < threshold
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
    x: Points,
    values: dict[str, Points],
    slopes: dict[str, Points],
    flat: dict[str, list[tuple[float, float]]],
) -> Figure:
    """Draw each activation with its derivative, and shade the intervals ``flat``."""
    figure, grid = panels(len(values), 3, 2.6, sharex=True, sharey=True)
    for axes, name in zip(grid, values, strict=True):
        for low, high in flat[name]:
            axes.axvspan(low, high, color=FLAT_COLOUR, linewidth=0, label="flat")
        axes.axhline(0, color=LINES)
        axes.axvline(0, color=LINES)
        draw_curves(axes, x, {"activation": values[name], "derivative": slopes[name]})
        axes.set(xlim=(x[0], x[-1]), ylim=(-1.4, 2.4), xticks=[x[0], 0, x[-1]])
        finish(axes, name, grid="")
    legend_below(figure, columns=3)
    return figure


def vanishing_figure(share: dict[str, Float[np.ndarray, " layer"]]) -> Figure:
    """Draw the remaining share of a gradient after each layer, by activation."""
    figure = new_figure(height=3.6)
    axes = figure.subplots()
    draw_curves(axes, range(max(map(len, share.values()))), share)
    axes.set_yscale("log")
    axes.locator_params("x", integer=True)
    axes.legend(fontsize=TEXT, frameon=False)
    finish(axes, x="layers", y="share of the gradient")
    return figure
