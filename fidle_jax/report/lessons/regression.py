"""Figures of a regression: how it was learned, and how far predictions are from the truth."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from fidle_jax.report.style import (
    BLUE,
    GREEN,
    GREY,
    LINES,
    SMALL,
    TEXT,
    VERMILLION,
    legend_below,
    new_figure,
)

Curves = tuple[Float[np.ndarray, " epoch"], Float[np.ndarray, " epoch"]]


def training_curves(panels: dict[str, Curves], best_epoch: int) -> Figure:
    """A panel for each of ``panels``, by its title: the curves of training and of validation.

    ``best_epoch``, counted from 1, is marked.
    """
    figure = new_figure(height=3.9)
    drawn = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, curves) in zip(drawn, panels.items(), strict=True):
        _both(axes, curves)
        axes.axvline(best_epoch, color=GREY, linestyle=":", label=f"least loss: epoch {best_epoch}")
        axes.set_title(title, fontsize=TEXT)
    legend_below(figure, columns=3)
    return figure


def with_and_without(panels: dict[str, Curves], baseline: float, ylabel: str) -> Figure:
    """The same curve of several fits side by side on one logarithmic axis.

    Args:
        panels: training and validation, by what the fit was given.
        baseline: what predicting the mean has on validation.
        ylabel: with the unit.
    """
    figure = new_figure(height=3.9)
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, curves) in zip(drawn, panels.items(), strict=True):
        _both(axes, curves)
        axes.axhline(baseline, color=GREEN, linestyle="-.", linewidth=1.8, label="predict the mean")
        axes.set_title(title, fontsize=TEXT)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    drawn[0].set_ylabel(ylabel, fontsize=TEXT)
    legend_below(figure, columns=3)
    return figure


def predicted_against_true(
    true: Float[np.ndarray, " example"],
    predicted: Float[np.ndarray, " example"],
    unit: str,
) -> Figure:
    """Each test example a point; the diagonal, and the band of one RMSE around it."""
    figure = new_figure(height=5.4, width=6.4)
    axes = figure.subplots()
    spread = float(np.sqrt(np.mean((predicted - true) ** 2)))
    low = min(true.min(), predicted.min()) - spread / 2
    high = max(true.max(), predicted.max()) + spread / 2
    ends = np.array([low, high])
    axes.fill_between(
        ends, ends - spread, ends + spread, color=LINES, linewidth=0, label="within one RMSE"
    )
    axes.plot(ends, ends, "--", color=GREY, label="predicted = true")
    axes.plot(true, predicted, "o", color=BLUE, alpha=0.7, markeredgewidth=0, label="test example")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.set_xlabel(f"true ({unit})", fontsize=TEXT)
    axes.set_ylabel(f"predicted ({unit})", fontsize=TEXT)
    axes.legend(fontsize=TEXT, frameon=False, loc="upper left")
    _plain(axes)
    return figure


def error_histogram(errors: dict[str, Float[np.ndarray, " example"]], unit: str) -> Figure:
    """How often errors, predicted less true, are of which size; an outline for each of two models."""
    figure = new_figure(height=3.9)
    axes = figure.subplots()
    most = max(float(np.abs(each).max()) for each in errors.values())
    edges = np.linspace(-most, most, 26).tolist()
    styles = [
        {"histtype": "stepfilled", "color": BLUE, "alpha": 0.45},
        {"histtype": "step", "color": VERMILLION, "linestyle": "--", "linewidth": 2},
    ]
    for (name, each), style in zip(errors.items(), styles, strict=True):
        axes.hist(each, edges, label=name, **style)
    axes.axvline(0, color=GREY, linestyle=":")
    axes.set_xlabel(f"predicted less true ({unit})", fontsize=TEXT)
    axes.set_ylabel("test examples", fontsize=TEXT)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.legend(fontsize=TEXT, frameon=False)
    _plain(axes)
    return figure


def _both(axes: Axes, curves: Curves) -> None:
    epochs = np.arange(1, len(curves[0]) + 1)
    marker = "o" if len(epochs) == 1 else None
    axes.plot(epochs, curves[0], "-", marker=marker, color=BLUE, linewidth=2, label="training")
    axes.plot(
        epochs, curves[1], "--", marker=marker, color=VERMILLION, linewidth=2, label="validation"
    )
    axes.set_xlabel("epoch", fontsize=TEXT)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=SMALL + 1)
    axes.grid(color=LINES)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
