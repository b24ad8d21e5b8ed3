"""Figures of gradient descent: contours of a loss over two parameters, paths on them, losses."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidle_jax.report.style import (
    BLUE,
    GREEN,
    GREY,
    LINES,
    SMALL,
    TEXT,
    VERMILLION,
    WIDTH,
    legend_below,
    new_figure,
)

INK = "#1C2126"
STYLES = ((BLUE, "-", "o"), (VERMILLION, "--", "s"), (GREEN, "-.", "^"), (INK, ":", "D"))


class Surface(NamedTuple):
    """A loss over slope and intercept.

    Attributes:
        slopes: along the horizontal axis.
        intercepts: along the vertical axis.
        losses: at each of them.
        least: slope and intercept of the least loss.
        least_loss: the loss there.
    """

    slopes: Float[np.ndarray, " column"]
    intercepts: Float[np.ndarray, " row"]
    losses: Float[np.ndarray, "row column"]
    least: Float[np.ndarray, "2"]
    least_loss: float


def line_and_surface(
    x: Float[np.ndarray, " point"],
    y: Float[np.ndarray, " point"],
    surface: Surface,
    lines: dict[str, Float[np.ndarray, "2"]],
    downhill: Float[np.ndarray, "2"],
) -> Figure:
    """Lines by name among the points, and the same lines as points on the surface.

    An arrow at the first points ``downhill``, against the gradient.
    """
    figure = new_figure(height=4.1)
    left, right = figure.subplots(1, 2)
    left.plot(x, y, "o", color="#B4BAC1", markersize=4)
    contours(right, surface)
    ends = np.array([0, x.max()])
    for (name, line), (colour, style, marker) in zip(lines.items(), STYLES, strict=False):
        left.plot(ends, line[0] * ends + line[1], style, color=colour, linewidth=2)
        right.plot(*line, marker, color=colour, markersize=9, label=name, linestyle="")
    start = next(iter(lines.values()))
    head = start + downhill / np.linalg.norm(downhill)
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 2, "shrinkA": 4, "shrinkB": 0}
    right.annotate("", head, start, arrowprops=arrow)
    left.set_xlabel("x", fontsize=TEXT)
    left.set_ylabel("y", fontsize=TEXT)
    left.tick_params(labelsize=SMALL)
    left.spines[["top", "right"]].set_visible(False)
    legend_below(figure, columns=3)
    return figure


def paths(surface: Surface, followed: dict[str, Float[np.ndarray, "step 2"]]) -> Figure:
    """Each path by name on the same contours, side by side; those of four stand two by two.

    A path that leaves for good is drawn up to there.
    """
    columns = 2 if len(followed) == 4 else len(followed)
    rows = -(-len(followed) // columns)
    figure = new_figure(height=0.4 + WIDTH / columns * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (name, path), (colour, _, marker) in zip(
        panels.ravel(), followed.items(), STYLES, strict=False
    ):
        contours(axes, surface)
        path = path[: _last_inside(surface, path) + 2]
        few = len(path) <= 60
        axes.plot(
            *path.T, "-", color=colour, linewidth=1.5 if few else 0.8, marker=marker if few else "",
            markersize=3,
        )  # fmt: skip
        axes.plot(*path[0], marker, color=colour, markersize=9)
        axes.plot(*surface.least, "*", color=INK, markersize=13, markeredgecolor="white")
        axes.set_title(name, fontsize=TEXT)
        axes.label_outer()
    return figure


def losses(lines: dict[str, Float[np.ndarray, " step"]], least_loss: float, across: str) -> Figure:
    """Losses by name, from the start, over what ``across`` names: how far they are above the least one.

    What diverges is cut off at ten times the largest loss of the start.
    """
    figure = new_figure(height=4)
    axes = figure.subplots()
    # By markers: dashes of what goes up and down at each step would be taken for its ups and downs.
    every = max(1, max(map(len, lines.values())) // 8)
    _losses(axes, lines, least_loss, markevery=every)
    axes.set_xlabel(across, fontsize=TEXT)
    axes.set_ylim(_floor(least_loss) / 2, 10 * max(line[0] for line in lines.values()))
    legend_below(figure, columns=2 if len(axes.get_legend_handles_labels()[0]) == 4 else 3)
    return figure


def race(
    surface: Surface,
    followed: dict[str, Float[np.ndarray, "step 2"]],
    lines: dict[str, Float[np.ndarray, " step"]],
    step: int,
) -> Figure:
    """A frame: the paths up to ``step`` on the same contours, and the losses up to there."""
    figure = new_figure(height=4.3)
    left, right = figure.subplots(1, 2)
    contours(left, surface)
    for path, (colour, _, marker) in zip(followed.values(), STYLES, strict=False):
        left.plot(
            *path[: step + 1].T, marker, color=colour, markevery=[step], linestyle="-", linewidth=1.5,
            markersize=9, markeredgecolor="white",
        )  # fmt: skip
    left.plot(*surface.least, "*", color=INK, markersize=13, markeredgecolor="white")
    so_far = {name: line[: step + 1] for name, line in lines.items()}
    _losses(right, so_far, surface.least_loss, markevery=[step])
    last = max(map(len, lines.values())) - 1
    right.set_xlim(-0.04 * last, 1.04 * last)
    top = max(line.max() for line in lines.values())
    right.set_ylim(_floor(surface.least_loss) / 2, 2 * top)
    right.set_xlabel("step", fontsize=TEXT)
    legend_below(figure, columns=3)
    return figure


def contours(axes: Axes, surface: Surface) -> None:
    """The surface as contours, each of twice the loss of the one within it."""
    above = surface.losses - surface.losses.min()
    levels = above.max() / 2.0 ** np.arange(10, -1, -1)
    axes.contour(
        surface.slopes, surface.intercepts, above, levels=levels, colors="#B4BAC1", linewidths=1
    )
    axes.set_xlim(surface.slopes[0], surface.slopes[-1])
    axes.set_ylim(surface.intercepts[0], surface.intercepts[-1])
    axes.set_aspect("equal")
    axes.set_xlabel("slope", fontsize=TEXT)
    axes.set_ylabel("intercept", fontsize=TEXT)
    axes.tick_params(labelsize=SMALL)


def _last_inside(surface: Surface, path: Float[np.ndarray, "step 2"]) -> int:
    low = [surface.slopes[0], surface.intercepts[0]]
    high = [surface.slopes[-1], surface.intercepts[-1]]
    inside = ((low <= path) & (path <= high)).all(axis=1)
    return int(np.flatnonzero(inside).max(initial=0))


def _losses(axes: Axes, lines, least_loss: float, markevery: int | list[int]) -> None:
    for (name, line), (colour, _, marker) in zip(lines.items(), STYLES, strict=False):
        above = np.maximum(line - least_loss, _floor(least_loss))
        axes.plot(
            above, marker, color=colour, markevery=markevery, linestyle="-", linewidth=1.5,
            markersize=9, markeredgecolor="white", label=name,
        )  # fmt: skip
    axes.axhline(0.01 * least_loss, color=GREY, linewidth=1)
    axes.set_yscale("log")
    axes.set_ylabel("loss above the least", fontsize=TEXT)
    axes.tick_params(labelsize=SMALL)
    axes.grid(color=LINES)
    axes.spines[["top", "right"]].set_visible(False)


def _floor(least_loss: float) -> float:
    """Below this a loss is drawn as this: single precision knows no better."""
    return 1e-5 * least_loss
