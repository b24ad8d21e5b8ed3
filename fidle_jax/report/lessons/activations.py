"""Figures of the activations."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from fidle_jax.report.style import BLUE, LINES, SMALL, TEXT, VERMILLION, legend_below, new_figure

FLAT_COLOUR = "#ECE3D2"
STYLES = (BLUE, "-"), (VERMILLION, "--")


def all_activations(
    x: Float[np.ndarray, " point"],
    values: dict[str, Float[np.ndarray, " point"]],
    slopes: dict[str, Float[np.ndarray, " point"]],
    flat: dict[str, list[tuple[float, float]]],
) -> Figure:
    """Each activation by name with its derivative; what is flat is shaded."""
    columns = 3
    rows = -(-len(values) // columns)
    figure = new_figure(height=2.6 * rows + 0.5)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, values, strict=False):
        for low, high in flat[name]:
            axes.axvspan(low, high, color=FLAT_COLOUR, linewidth=0, label="flat")
        axes.axhline(0, color=LINES)
        axes.axvline(0, color=LINES)
        axes.plot(x, values[name], color=BLUE, linewidth=2, label="activation")
        axes.plot(x, slopes[name], "--", color=VERMILLION, linewidth=2, label="derivative")
        axes.set_title(name, fontsize=TEXT)
        axes.set_ylim(-1.4, 2.4)
        axes.set_xlim(x[0], x[-1])
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(values) :]:
        axes.set_visible(False)
    legend_below(figure, columns=3)
    return figure


def through_layers(most: dict[str, float], layers: int) -> Figure:
    """What is left of a gradient after each of ``layers``, where every slope is the largest there is."""
    figure = new_figure(height=3.6)
    axes = figure.subplots()
    depth = np.arange(layers + 1)
    for (name, slope), (colour, style) in zip(most.items(), STYLES, strict=False):
        axes.plot(depth, slope**depth, style, color=colour, linewidth=2, label=name)
    axes.set_yscale("log")
    axes.locator_params("x", integer=True)
    axes.set_xlabel("layers", fontsize=TEXT)
    axes.set_ylabel("share of the gradient", fontsize=TEXT)
    axes.tick_params(labelsize=SMALL + 1)
    axes.grid(color=LINES)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=TEXT, frameon=False)
    return figure
