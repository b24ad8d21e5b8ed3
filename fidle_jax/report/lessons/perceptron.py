"""Figures of neurons on the plane: points of two classes, the probability behind them, lines."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fidle_jax.report.style import BLUE, GREY, LINES, SMALL, TEXT, VERMILLION, new_figure

INK = "#1C2126"
# Class 0 at one end, class 1 at the other, white where the network cannot tell.
SHADES = LinearSegmentedColormap.from_list("two classes", ["#F2B38C", "white", "#8FC3E6"])
CLASSES = ((VERMILLION, "o"), (BLUE, "^"))


class Plane(NamedTuple):
    """Points and what a network makes of the plane around them.

    Attributes:
        points: of two classes.
        labels: 0 or 1 of each.
        probability: of class 1, on the square from -span to span.
        span: half the square's side.
        hidden: of hidden neurons (w, c) each, whose lines w·x + c = 0 are drawn.
        title: above it.
    """

    points: Float[np.ndarray, "point 2"]
    labels: Int[np.ndarray, " point"]
    probability: Float[np.ndarray, "row column"]
    span: float
    hidden: Sequence[Float[np.ndarray, "3"]] = ()
    title: str = ""


def neuron(
    plane: Plane,
    line: Float[np.ndarray, "3"],
    sums: Float[np.ndarray, " point"],
    outputs: Float[np.ndarray, " point"],
) -> Figure:
    """One neuron: its line with its weights as an arrow, and the sigmoid of each weighted sum."""
    figure = new_figure(height=3.9)
    left, right = figure.subplots(1, 2)
    _draw(left, plane)
    foot = -line[2] * line[:2] / np.sum(line[:2] ** 2)
    along = line[:2] / np.linalg.norm(line[:2])
    head = foot + along
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    left.annotate("", head, foot, arrowprops=arrow)
    beside = foot + 0.5 * along + 0.2 * np.array([-along[1], along[0]])
    left.text(*beside, "w", fontsize=TEXT, weight="bold", color=INK, ha="center", va="center")
    reach = 1.1 * np.abs(sums).max()
    z = np.linspace(-reach, reach, 300)
    right.axhline(0.5, color=LINES)
    right.axvline(0, color=LINES)
    right.plot(z, 1 / (1 + np.exp(-z)), color=GREY, linewidth=1.5)
    for label, (colour, marker) in enumerate(CLASSES):
        here = plane.labels == label
        right.plot(
            sums[here], outputs[here], marker, color=colour, markersize=6, label=f"class {label}"
        )
    right.set_xlabel("weighted sum  z = w·x + b", fontsize=TEXT)
    right.set_ylabel("output  sigmoid(z)", fontsize=TEXT)
    right.tick_params(labelsize=SMALL)
    right.spines[["top", "right"]].set_visible(False)
    right.legend(fontsize=TEXT, frameon=False, loc="upper left")
    return figure


def border(plane: Plane, start: Float[np.ndarray, "3"]) -> Figure:
    """A frame of a border that moves; where it was at the start is dotted."""
    figure = new_figure(height=4.7, width=4.6)
    axes = figure.subplots()
    _draw(axes, plane)
    _line(axes, start, color=GREY, linestyle=":", linewidth=2)
    axes.set_title(plane.title, fontsize=TEXT)
    return figure


def planes(shown: list[Plane]) -> Figure:
    """Several planes side by side, three in a row; what they share is said below."""
    columns = 3
    rows = -(-len(shown) // columns)
    figure = new_figure(height=2.55 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, plane in zip(panels, shown, strict=False):
        _draw(axes, plane, size=3)
        axes.set_title(plane.title, fontsize=TEXT)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for label, (colour, marker) in enumerate(CLASSES):
        panels[0].plot([], [], marker, color=colour, label=f"class {label}")
    panels[0].plot([], [], color=INK, linewidth=2, label="border")
    if any(len(plane.hidden) for plane in shown):
        panels[0].plot([], [], "--", color=INK, linewidth=1, label="a hidden neuron")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, fontsize=TEXT, frameon=False
    )
    return figure


def folded(
    plane: Plane, outputs: Float[np.ndarray, "point 2"], line: Float[np.ndarray, "3"]
) -> Figure:
    """Left the points with two hidden neurons' lines, right the points as those two neurons put them out."""
    figure = new_figure(height=4.1)
    left, right = figure.subplots(1, 2)
    _draw(left, plane)
    left.set_title("the points, two hidden neurons", fontsize=TEXT)
    for label, (colour, marker) in enumerate(CLASSES):
        here = plane.labels == label
        right.plot(*outputs[here].T, marker, color=colour, markersize=6, markeredgecolor="white")
    _line(right, line, color=INK, linewidth=2)
    right.set_title("what the output neuron sees", fontsize=TEXT)
    right.set_xlabel("output of hidden neuron 1", fontsize=TEXT)
    right.set_ylabel("output of hidden neuron 2", fontsize=TEXT)
    _square(right, 1.2, ticks=[-1, 0, 1])
    return figure


def _draw(axes: Axes, plane: Plane, size: float = 5) -> None:
    extent = (-plane.span, plane.span, -plane.span, plane.span)
    axes.imshow(
        plane.probability, cmap=SHADES, vmin=0, vmax=1, extent=extent, origin="lower",
        interpolation="bilinear",
    )  # fmt: skip
    along = np.linspace(-plane.span, plane.span, len(plane.probability))
    low, high = plane.probability.min(), plane.probability.max()
    if low < 0.5 < high:
        axes.contour(along, along, plane.probability, levels=[0.5], colors=INK, linewidths=2)
    for each in plane.hidden:
        _line(axes, each, color=INK, linestyle="--", linewidth=1)
    for label, (colour, marker) in enumerate(CLASSES):
        here = plane.points[plane.labels == label]
        axes.plot(
            *here.T, marker, color=colour, markersize=size, markeredgecolor="white",
            markeredgewidth=0.4,
        )  # fmt: skip
    _square(axes, plane.span, ticks=[-2, 0, 2])


def _square(axes: Axes, span: float, ticks: list[float]) -> None:
    axes.set_xlim(-span, span)
    axes.set_ylim(-span, span)
    axes.set_aspect("equal")
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.tick_params(labelsize=SMALL)


def _line(axes: Axes, line: Float[np.ndarray, "3"], **style) -> None:
    """The line w·x + c = 0 of (w, c); nothing where w is 0, which makes none."""
    weights, constant = line[:2], line[2]
    if np.any(weights):
        foot = -constant * weights / np.sum(weights**2)
        axes.axline(foot, foot + np.array([-weights[1], weights[0]]), **style)
