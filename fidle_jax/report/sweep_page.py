"""The page of a sweep: the best setting, tables, and charts of cost and curves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from fidle_jax.report import tables
from fidle_jax.report.html import duration, load_template, rounded
from fidle_jax.report.pictures import evenly_spaced
from fidle_jax.report.style import GREY, SMALL, finish, longest, new_figure, png, short
from fidle_jax.report.tables import TEST, VALIDATION, as_text, percent

# Okabe and Ito, "Color Universal Design" (2008), without yellow and black
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = (("o", "-"), ("s", "--"), ("^", "-."), ("D", ":"))  # markers and line styles
COSTS = {"train_seconds": "training time, seconds", "parameters": "parameters"}
MOST_LABELS = 8  # of a legend
MOST_EMPTY = 7  # times the range of the values, up to which an axis is extended to 100 %
MOST_COLUMNS = 6  # of the table of two axes, if it can have fewer
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
    cells = tables.best_in_cells(settings, *pair) if len(pair) == 2 else pd.DataFrame()
    if len(cells.columns) > max(MOST_COLUMNS, len(cells)):
        pair, cells = pair[::-1], cells.T
    best = records[0]
    facts = {
        "Runs finished": f"{len(runs):,} of {sweep.planned:,}",
        "Settings": f"{len(settings):,}",
        "Seeds each": str(settings["seeds"].max()),
        "Total training time": duration(runs["train_seconds"].sum()),
        "Parameters": f"{best['parameters']:,}",
        "Failed": str(len(sweep.failures)),
    }
    # Columns with one value are among the facts.
    varying = [name for name in ("seeds", "parameters") if settings[name].nunique() > 1]
    hidden = {"Parameters"} if "parameters" in varying else set()
    hidden |= set() if sweep.failures else {"Failed"}
    return load_template("sweep_page.html.j2").render(
        title=sweep.title,
        axes=axes,
        facts={name: value for name, value in facts.items() if name not in hidden},
        varying=varying,
        best=best,
        on_test=tables.criterion(runs) == TEST or best["hold_out"] == "test",
        command=sweep.command(best["run"]),
        pair=pair,
        cells=cells,
        has_cells=len(pair) == 2
        and cells.notna().to_numpy().mean() >= 0.5,  # a random search has few
        several_seeds=settings["seeds"].max() > 1,
        other_axes=[axis for axis in axes if axis not in pair],
        settings=records,
        runs=runs.assign(**{a: runs[a].map(as_text) for a in axes}).to_dict("records"),
        split="test" if tables.criterion(runs) == TEST else "validation",
        chart=png(draw_charts(sweep, settings)),
        has_curves=_has_curves(sweep),
        failures=sweep.failures,
        folder=sweep.folder,
        baseline=sweep.baseline,
    )


def draw_charts(sweep: Sweep, settings: pd.DataFrame) -> Figure:
    """Draw the accuracy of each setting against its cost, and the validation accuracy by epoch.

    The colour shows the value of the first axis, and the marker that of a second axis with few values.
    """
    column, first = tables.criterion(sweep.runs), sweep.axes[0]
    colours = palette(settings[first])
    second = next((a for a in sweep.axes[1:] if 1 < settings[a].nunique() <= len(MARKS)), "")
    marks = dict(zip(tables.in_order(settings[second]) if second else [""], MARKS, strict=False))
    costs = [x for x in COSTS if x == "train_seconds" or settings[x].nunique() > 1]
    has_curves = _has_curves(sweep)
    figure = new_figure(height=4.2 + 3.4 * has_curves)
    mosaic: list[Any] = [costs, *[["curves"] * len(costs)] * has_curves]
    panels = figure.subplot_mosaic(mosaic)
    for _, row in settings.iterrows():
        colour, (marker, line) = colours[row[first]], marks[row[second] if second else ""]
        middle, spread = 100 * row[column], 100 * np.nan_to_num(row[f"{column} spread"])
        for x in costs:
            point = panels[x].errorbar(row[x], middle, [[spread], [min(spread, 100 - middle)]])
            point.lines[0].set(color=colour, marker=marker, markersize=7, clip_on=False)
            point.lines[2][0].set(color=colour)
        for name in sweep.runs["run"][sweep.runs["setting"] == row["setting"]]:
            if has_curves and name in sweep.curves:
                curve, best = sweep.curves[name], row["setting"] == settings["setting"].iloc[0]
                (drawn,) = panels["curves"].plot(
                    curve["epoch"], 100 * curve["validation_accuracy"], line, color=colour
                )
                drawn.set(linewidth=3 if best else 1.2, zorder=3 if best else 2)
                drawn.set_marker(marker if len(curve["epoch"]) == 1 else "")
    for x in costs:
        if settings[x].max() > LOG_RATIO * settings[x].min() > 0:
            panels[x].set_xscale("log")
            panels[x].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panels[x].xaxis.set_minor_formatter(NullFormatter())
        else:
            panels[x].xaxis.set_major_locator(MaxNLocator(5))
        form = EngFormatter(sep="") if x == "parameters" else lambda value, _: rounded(value)
        panels[x].xaxis.set_major_formatter(form)  # 5M, not 5,000,000
    split = "test" if column == TEST else "validation"
    labels = COSTS | {"curves": "epoch"}
    for name, axes in panels.items():
        accuracy = f"{split if name in COSTS else 'validation'} accuracy, %"
        finish(axes, x=labels[name], y="" if name == "parameters" else accuracy)
        low, high = axes.get_ylim()
        # Do not squeeze the values into a small part of the axis.
        top = 100 if 100 - high <= MOST_EMPTY * (high - low) else high
        axes.set_ylim(low - (top - high) / 20, top)
    if has_curves:
        panels["curves"].xaxis.set_major_locator(MaxNLocator(integer=True))
    shown = [list(colours)[k] for k in evenly_spaced(len(colours), MOST_LABELS)]
    dots = {value: Line2D([], [], color=colours[value], marker="o", ls="") for value in shown}
    _legend(figure, first, dots, "left")
    if second:
        looks = {v: Line2D([], [], color=GREY, marker=m, ls=ls) for v, (m, ls) in marks.items()}
        _legend(figure, second, looks, "right")
    return figure


def _has_curves(sweep: Sweep) -> bool:
    """Check that a run has validation accuracies of several epochs."""
    accuracies = (each["validation_accuracy"] for each in sweep.curves.values())
    return any(np.isfinite(each).sum() > 1 for each in accuracies)


def palette(values: pd.Series) -> dict[str, Any]:
    """Map each value to a colour: distinct colours for few values, shades in order for many."""
    names = tables.in_order(values)
    if len(names) <= len(COLOURS):
        return dict(zip(names, COLOURS, strict=False))
    return dict(zip(names, colormaps["viridis"](np.linspace(0, 0.9, len(names))), strict=True))


def _legend(figure: Figure, axis: str, looks: dict[str, Line2D], side: str) -> None:
    """Draw the legend of an axis with several values below all charts."""
    if len(looks) > 1:
        figure.legend(
            looks.values(),
            [short(value, 24) for value in looks],
            title=axis.replace("_", " "),
            loc=f"outside lower {side}",  # pyright: ignore[reportArgumentType]  # missing in the stubs
            ncols=2 if longest([*looks]) > 10 else 4,
            fontsize=SMALL,
            title_fontsize=SMALL,
            alignment="left",
            frameon=False,
        )
