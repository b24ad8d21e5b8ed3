"""Figures of the losses."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidle_jax.report.style import (
    BLUE,
    GREY,
    LINES,
    SMALL,
    TEXT,
    VERMILLION,
    legend_below,
    new_figure,
)

BROKEN_COLOUR = "#F6DCC8"
STYLES = ((BLUE, "-"), (VERMILLION, "--"))

# A loss at each point, and its gradient there.
TITLES = "loss", "gradient"
Curve = tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]


def bars(
    panels: dict[str, Float[np.ndarray, " class"]], marked: int, alike: bool = False
) -> Figure:
    """A number for each class, in panels beside one another by their titles.

    Args:
        panels: of each title the numbers.
        marked: class whose bars stand out.
        alike: whether the panels have one scale.
    """
    figure = new_figure(height=3.0)
    row = figure.subplots(1, len(panels), sharey=alike, squeeze=False)[0]
    for axes, (title, values) in zip(row, panels.items(), strict=True):
        colours = [BLUE if place == marked else GREY for place in range(len(values))]
        drawn = axes.bar(range(len(values)), values, color=colours, width=0.7)
        axes.bar_label(drawn, list(map(_brief, values)), fontsize=SMALL, padding=2)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.margins(y=0.16)
        axes.set_title(title, fontsize=TEXT)
        axes.set_xlabel("class", fontsize=TEXT)
        axes.set_xticks(range(len(values)))
        _finish(axes)
    return figure


def over_logits(logits: Float[np.ndarray, " point"], curves: dict[str, Curve]) -> Figure:
    """Losses by name, and beside them their gradients, over the logit."""
    figure = new_figure(height=3.9)
    panels = figure.subplots(1, 2)
    for axes, title, place in zip(panels, TITLES, (0, 1), strict=True):
        for (name, curve), (colour, style) in zip(curves.items(), STYLES, strict=False):
            axes.plot(logits, curve[place], style, color=colour, linewidth=2.2, label=name)
        axes.set_title(title, fontsize=TEXT)
        axes.set_xlabel("logit", fontsize=TEXT)
        axes.grid(color=LINES)
        _finish(axes)
    legend_below(figure, columns=2)
    return figure


def breakdown(
    logits: Float[np.ndarray, " point"], columns: dict[str, tuple[Curve, Curve]]
) -> Figure:
    """Where a formula breaks down: losses and, under them, gradients over the logit.

    Args:
        logits: the points.
        columns: by their titles the naive and the stable curve.
    """
    figure = new_figure(height=5.7)
    figure.set_layout_engine("constrained", wspace=0.08)
    grid = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
    for column, (title, (naive, stable)) in zip(grid.T, columns.items(), strict=True):
        for axes, broken, whole in zip(column, naive, stable, strict=True):
            _draw_both(axes, logits, broken, whole)
        column[0].set_title(title, fontsize=TEXT)
        column[-1].set_xlabel("logit", fontsize=TEXT)
    for axes, name in zip(grid[:, 0], TITLES, strict=True):
        axes.set_ylabel(name, fontsize=TEXT)
    legend_below(figure, columns=3)
    return figure


def _draw_both(axes: Axes, logits, naive, stable) -> None:
    finite = np.isfinite(naive)
    if not finite.all():
        axes.fill_between(
            logits,
            0,
            1,
            where=~finite,
            transform=axes.get_xaxis_transform(),
            color=BROKEN_COLOUR,
            linewidth=0,
            label="infinite or NaN",
        )
    axes.plot(logits, stable, color=BLUE, linewidth=4.5, alpha=0.45, label="of the logit")
    values = np.where(finite, naive, np.nan)
    axes.plot(logits, values, "--", color=VERMILLION, linewidth=2, label="of the probability")
    axes.set_xlim(logits[0], logits[-1])
    _finish(axes)


def _brief(value: float) -> str:
    """To a hundredth, from 10 on whole; no zeros at the end."""
    digits = 2 if abs(value) < 10 else 0
    return f"{round(float(value), digits) + 0:g}".replace("-", "−")


def _finish(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL + 1)
    axes.spines[["top", "right"]].set_visible(False)
