"""Charts of a sweep: accuracy against cost, curves, which axis mattered."""

import itertools
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from fidle_jax.report.style import BLUE, GREY, LINES, SMALL, TEXT, new_figure, short
from fidle_jax.report.sweep_tables import as_text

# Okabe and Ito, "Color Universal Design" (2008), without yellow and black
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
FAR_APART = 8  # times; costs so far apart have a logarithmic axis
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def cost_chart(settings: pd.DataFrame, column: str, colour: str, mark: str | None) -> Figure:
    """Accuracy of each setting against the seconds of its training and against its parameters.

    Args:
      settings: as of `fidle_jax.report.sweep_tables.by_setting`.
      column: the accuracy.
      colour: the axis whose values have colours.
      mark: the axis whose values have marks.
    """
    figure = new_figure(height=4.4)
    both = figure.subplots(1, 2, sharey=True)
    colours, marks = _palette(settings[colour]), _marks(settings[mark] if mark else None)
    for axes, x, label in zip(
        both,
        ("train_seconds", "parameters"),
        ("seconds of training", "parameters"),
        strict=True,
    ):
        for _, row in settings.iterrows():
            spread = row[f"{column} spread"]
            axes.errorbar(
                row[x],
                100 * row[column],
                yerr=None if pd.isna(spread) else 100 * spread,
                color=colours[row[colour]],
                marker=marks[row[mark]] if mark else MARKS[0],
                markersize=7,
                alpha=0.85,
            )
        if settings[x].max() > FAR_APART * settings[x].min() > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 5M, not 5,000,000
        axes.set_xlabel(label, fontsize=TEXT)
        _tidy(axes)
    both[0].set_ylabel("accuracy, %", fontsize=TEXT)
    _legend(figure, both[1], colour, colours, mark, marks)
    return figure


def curves_chart(
    curves: dict[str, pd.DataFrame], of_run: dict[str, str], axis: str, best: list[str]
) -> Figure:
    """Validation accuracy by epoch of every run; those of ``best`` thick.

    Args:
      curves: of each run the columns epoch and validation_accuracy.
      of_run: of each run its value of ``axis``, by which it is coloured.
      axis: its name.
      best: runs of the best setting.
    """
    figure = new_figure(height=4.2)
    axes = figure.subplots()
    colours = _palette(pd.Series(of_run))
    for run, curve in curves.items():
        axes.plot(
            curve["epoch"],
            100 * curve["validation_accuracy"],
            color=colours[of_run[run]],
            linewidth=2.8 if run in best else 1,
            alpha=1 if run in best else 0.55,
            marker="o" if len(curve) == 1 else None,
            zorder=3 if run in best else 2,
        )
    axes.set_xlabel("epoch", fontsize=TEXT)
    axes.set_ylabel("validation accuracy, %", fontsize=TEXT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _tidy(axes)
    _legend(figure, axes, axis, colours, None, {})
    return figure


def importance_chart(shares: dict[str, float]) -> Figure:
    """The shares of `fidle_jax.report.sweep_tables.importance` as bars, and what is left."""
    known = {axis: 100 * share for axis, share in shares.items() if share == share}
    rest = max(0.0, 100 - sum(known.values()))
    names = [*map(_word, known), "seeds, and several together"]
    figure = new_figure(height=0.9 + 0.42 * len(names))
    axes = figure.subplots()
    values = [*known.values(), rest]
    bars = axes.barh(names, values, color=[BLUE] * len(known) + [GREY])
    axes.bar_label(bars, [f"{value:.0f} %" for value in values], padding=4, fontsize=SMALL)
    axes.invert_yaxis()
    axes.set_xlim(0, 110)
    axes.set_xlabel("% of the variance between runs", fontsize=TEXT)
    _tidy(axes, "x")
    axes.tick_params(axis="y", length=0, labelsize=TEXT)
    return figure


def _palette(values: pd.Series) -> dict[str, np.ndarray | str]:
    """A colour for each value: of a few, colours that can be told apart; of many, shades in order."""
    names = list(dict.fromkeys(values))
    if len(names) <= len(COLOURS):
        return dict(zip(names, COLOURS, strict=False))
    try:
        names.sort(key=float)
    except ValueError:
        names.sort()
    return dict(zip(names, colormaps["viridis"](np.linspace(0, 0.9, len(names))), strict=True))


def _marks(values: pd.Series | None) -> dict[str, str]:
    return {} if values is None else dict(zip(dict.fromkeys(values), itertools.cycle(MARKS)))


def _legend(figure: Figure, axes: Axes, colour: str, colours: dict, mark: str | None, marks: dict):
    for value, shade in _ends(colours).items():
        axes.plot([], [], "o", color=shade, label=f"{_word(colour)} {short(as_text(value), 18)}")
    for value, sign in _ends(marks).items():
        axes.plot([], [], sign, color=GREY, label=f"{_word(mark)} {short(as_text(value), 18)}")
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False
    )


def _ends(values: dict) -> dict:
    """All of a few, else the first and the last."""
    items = list(values.items())
    return dict(items if len(items) <= len(MARKS) else [items[0], items[-1]])


def _word(axis: str | None) -> str:
    return (axis or "").replace("_", " ")


def _tidy(axes: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    axes.grid(color=LINES, axis=grid)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
