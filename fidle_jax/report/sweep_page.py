"""The page of a sweep: the best setting, tables, and charts of cost and curves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from fidle_jax.report import tables
from fidle_jax.report.html import duration, load_template
from fidle_jax.report.style import TEXT, finish, legend_below, new_figure, png, short
from fidle_jax.report.tables import TEST, VALIDATION, as_text, percent

# Okabe and Ito, "Color Universal Design" (2008), without yellow and black
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MOST_LABELS = 8  # of a legend
LOG_RATIO = 8  # costs with a larger ratio get a logarithmic axis


@dataclass(frozen=True)
class Sweep:
    """Content of the page.

    Attributes:
        title: Name of the experiment.
        axes: Columns of ``runs`` that distinguish settings.
        runs: One row per finished run, see `fidle_jax.sweep.results.read_table`.
        curves: Maps finished runs to the columns of metrics.csv.
        planned: Number of planned runs.
        failures: Maps the runs that failed to their reasons.
        command: Function that returns the command of a run.
        folder: Directory of the sweep, quoted for a shell.
        baseline: Variant that the others are compared with, or "".
    """

    title: str
    axes: list[str]
    runs: pd.DataFrame
    curves: dict[str, dict[str, Float[np.ndarray, "_"]]]
    planned: int
    failures: dict[str, str]
    command: Callable[[str], str]
    folder: str
    baseline: str = ""


def render_sweep(sweep: Sweep) -> str:
    """Return the page as HTML. Its only links are those to the reports of the runs."""
    runs, axes = sweep.runs, sweep.axes
    settings = tables.rank_settings(runs, axes, sweep.baseline)
    for column in (VALIDATION, TEST, f"{VALIDATION} difference", f"{TEST} difference"):
        if column in settings:
            settings[f"{column} text"] = [percent(row, column) for _, row in settings.iterrows()]
    records = settings.to_dict("records")
    pair = ["dataset", "model"] if {"dataset", "model"} <= set(axes) else axes[:2]
    facts = {
        "Runs finished": f"{len(runs):,} of {sweep.planned:,}",
        "Settings": f"{len(settings):,}",
        "Seeds each": str(settings["seeds"].max()),
        "Total training time": duration(runs["train_seconds"].sum()),
    }
    best = records[0]
    return load_template("sweep_page.html.j2").render(
        title=sweep.title,
        axes=axes,
        facts=facts | ({"Failed": str(len(sweep.failures))} if sweep.failures else {}),
        best=best,
        on_test=tables.criterion(runs) == TEST or best["hold_out"] == "test",
        command=sweep.command(best["run"]),
        pair=pair,
        cells=tables.best_in_cells(settings, *pair) if len(pair) == 2 else None,
        other_axes=[axis for axis in axes if axis not in pair],
        settings=records,
        runs=runs.assign(**{a: runs[a].map(as_text) for a in axes}).to_dict("records"),
        split="test" if tables.criterion(runs) == TEST else "validation",
        figures=_figures(sweep, settings),
        failures=sweep.failures,
        folder=sweep.folder,
        baseline=sweep.baseline,
    )


def _figures(sweep: Sweep, settings: pd.DataFrame) -> dict[str, bytes]:
    # Both charts have the same colours.
    axis = sweep.axes[0]
    colours = palette(settings[axis])
    figures = {"cost": cost_chart(settings, tables.criterion(sweep.runs), axis, colours)}
    if any(np.isfinite(curve["validation_accuracy"]).any() for curve in sweep.curves.values()):
        figures["curves"] = curves_chart(sweep, axis, colours, settings["setting"].iloc[0])
    return {name: png(figure) for name, figure in figures.items()}


def cost_chart(settings: pd.DataFrame, column: str, axis: str, colours: dict[str, Any]) -> Figure:
    """Draw an accuracy column against training time and parameters.

    ``colours`` are those of the values of ``axis``.
    """
    figure = new_figure(height=4.4)
    both = figure.subplots(1, 2, sharey=True)
    for axes, x in zip(both, ("train_seconds", "parameters"), strict=True):
        for _, row in settings.iterrows():
            spread = row[f"{column} spread"]
            axes.errorbar(
                row[x],
                100 * row[column],
                yerr=None if pd.isna(spread) else 100 * spread,
                color=colours[row[axis]],
                marker="o",
                markersize=7,
                alpha=0.85,
            )
        if settings[x].max() > LOG_RATIO * settings[x].min() > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 5M, not 5,000,000
        finish(axes, x=x.replace("train_seconds", "seconds of training"))
    both[0].set_ylabel("accuracy, %", fontsize=TEXT)
    _name_colours(both[1], axis, colours)
    legend_below(figure, columns=3)
    return figure


def curves_chart(sweep: Sweep, axis: str, colours: dict[str, Any], best_setting: str) -> Figure:
    """Draw the validation accuracy of every run by epoch, that of the best setting thick."""
    figure = new_figure(height=4.2)
    axes = figure.subplots()
    for _, row in sweep.runs[sweep.runs["run"].isin(sweep.curves)].iterrows():
        curve, best = sweep.curves[row["run"]], row["setting"] == best_setting
        axes.plot(
            curve["epoch"],
            100 * curve["validation_accuracy"],
            color=colours[as_text(row[axis])],
            marker="o" if len(curve["epoch"]) == 1 else None,
            **({"lw": 2.8, "zorder": 3} if best else {"lw": 1, "alpha": 0.55}),
        )
    finish(axes, x="epoch", y="validation accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _name_colours(axes, axis, colours)
    legend_below(figure, columns=3)
    return figure


def palette(values: pd.Series) -> dict[str, Any]:
    """Map each value to a colour: distinct colours for few values, shades in order for many."""
    names = tables.in_order(values)
    if len(names) <= len(COLOURS):
        return dict(zip(names, COLOURS, strict=False))
    return dict(zip(names, colormaps["viridis"](np.linspace(0, 0.9, len(names))), strict=True))


def _name_colours(axes: Axes, axis: str, colours: dict[str, Any]) -> None:
    """Add the colours to the legend, the first and the last one if there are many."""
    items = list(colours.items())
    for value, colour in items if len(items) <= MOST_LABELS else [items[0], items[-1]]:
        axes.plot([], [], "o", color=colour, label=f"{axis.replace('_', ' ')} {short(value, 18)}")
