"""The page of a sweep: which setting won, and by how much."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from fidle_jax.report import sweep_charts
from fidle_jax.report.html import Picture, page_template
from fidle_jax.report.style import png
from fidle_jax.report.sweep_tables import (
    TEST,
    VALIDATION,
    accuracy,
    as_text,
    best_in_cells,
    by_setting,
    criterion,
    importance,
)


@dataclass(frozen=True)
class Sweep:
    """What the page shows.

    Attributes:
      title: the experiment's name.
      axes: flags, as fields of a config, that tell its settings apart.
      halving: whether the best were trained anew for more epochs, which are the last axis.
      table: a row for each finished run, one at least.
      curves: of each of them metrics.csv.
      planned: runs that are known by now, those that are not finished too.
      failures: (run, reason).
      winner: the command that reproduces the first run of the best setting, of the name that is given.
      folder: as one would type it.
    """

    title: str
    axes: list[str]
    halving: bool
    table: pd.DataFrame
    curves: dict[str, pd.DataFrame]
    planned: int
    failures: list[tuple[str, str]]
    winner: Any
    folder: str


def render_sweep(sweep: Sweep) -> str:
    """The page as HTML text, one file that needs nothing else but links to the runs' own reports."""
    settings = by_setting(sweep.table, sweep.axes)
    best = settings.iloc[0]
    shares = _shares(sweep)
    return page_template("sweep.html.j2").render(
        title=sweep.title,
        words=[axis.replace("_", " ") for axis in sweep.axes],
        facts=_facts(sweep, settings),
        on_test=criterion(sweep.table) == TEST or _first_run(sweep, best)["hold_out"] == "test",
        best=_best(sweep, best),
        command=sweep.winner(best["run"]),
        cells=_cells(settings, sweep.axes, shares),
        settings=[_setting_row(sweep, row) for _, row in settings.iterrows()],
        runs=[_run_row(sweep, row) for _, row in sweep.table.iterrows()],
        pictures=_pictures(sweep, settings, shares),
        failures=sweep.failures,
        folder=sweep.folder,
    )


def _first_run(sweep: Sweep, setting: pd.Series) -> pd.Series:
    return sweep.table.set_index("run").loc[setting["run"]]


def _shares(sweep: Sweep) -> dict[str, float]:
    """What mattered, of a halving in its first rung: later, only what was good is there."""
    if not sweep.halving:
        return importance(sweep.table, sweep.axes)
    epochs = sweep.table["epochs"]
    return importance(sweep.table[epochs == epochs.min()], sweep.axes[:-1])


def pair_of_axes(axes: list[str], shares: dict[str, float]) -> tuple[str, str] | None:
    """The rows and columns of the table of two axes: data sets by models, or the two that mattered most."""
    if {"dataset", "model"} <= set(axes):
        return "dataset", "model"
    pair = [axis for axis in shares if axis in axes][:2]
    return (pair[0], pair[1]) if len(pair) == 2 else None


def _facts(sweep: Sweep, settings: pd.DataFrame) -> dict[str, str]:
    facts = {
        "Runs finished": f"{len(sweep.table):,} of {sweep.planned:,}",
        "Settings": f"{len(settings):,}",
        "Seeds each": as_text(int(settings["seeds"].max())),
        "Training, all together": _duration(sweep.table["train_seconds"].sum()),
    }
    return facts | ({"Failed": str(len(sweep.failures))} if sweep.failures else {})


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _best(sweep: Sweep, row: pd.Series) -> dict[str, str]:
    return {
        "setting": ", ".join(f"{axis.replace('_', ' ')} {row[axis]}" for axis in sweep.axes),
        "validation": accuracy(row, VALIDATION),
        "test": accuracy(row, TEST),
        "seeds": str(row["seeds"]),
        "report": f"runs/{row['run']}/report.html",
    }


def _cells(
    settings: pd.DataFrame, axes: list[str], shares: dict[str, float]
) -> dict[str, Any] | None:
    """The best setting of each pair of values of two axes, as rows of (text, whether it is best of all)."""
    if (pair := pair_of_axes(axes, shares)) is None:
        return None
    places = best_in_cells(settings, *pair)
    rows = []
    for name, row in places.iterrows():
        cells = [
            None if pd.isna(place) else _cell(settings.iloc[int(place)], place == 0)
            for place in row
        ]
        rows.append((name, cells))
    return {
        "rows": rows,
        "columns": list(places.columns),
        "of": [axis.replace("_", " ") for axis in pair],
        "over": [axis.replace("_", " ") for axis in axes if axis not in pair],
    }


def _cell(row: pd.Series, best: bool) -> dict[str, Any]:
    return {
        "validation": accuracy(row, VALIDATION),
        "test": accuracy(row, TEST),
        "seconds": row["train_seconds"],
        "parameters": int(row["parameters"]),
        "report": f"runs/{row['run']}/report.html",
        "best": best,
    }


def _setting_row(sweep: Sweep, row: pd.Series) -> dict[str, Any]:
    return {
        "values": [row[axis] for axis in sweep.axes],
        "seeds": int(row["seeds"]),
        "validation": (_sortable(row[VALIDATION]), accuracy(row, VALIDATION)),
        "test": (_sortable(row[TEST]), accuracy(row, TEST)),
        "seconds": float(row["train_seconds"]),
        "parameters": int(row["parameters"]),
        "best": row.name == 0,
    }


def _run_row(sweep: Sweep, row: pd.Series) -> dict[str, Any]:
    return {
        "run": row["run"],
        "values": [as_text(row[axis]) for axis in sweep.axes],
        "seed": int(row["seed"]),
        "validation": _sortable(row[VALIDATION]),
        "test": _sortable(row[TEST]),
        "seconds": float(row["train_seconds"]),
    }


def _sortable(share: float | None) -> float | None:
    return None if share is None or pd.isna(share) else float(share)


def _pictures(sweep: Sweep, settings: pd.DataFrame, shares: dict[str, float]) -> list[Picture]:
    column, pair = criterion(sweep.table), pair_of_axes(sweep.axes, shares)
    mark, colour = pair or (None, sweep.axes[0])
    what = "Test" if column == TEST else "Validation"
    pictures = [
        Picture(
            "cost",
            "Accuracy and its price",
            f"{what} accuracy of each setting, mean over its seeds, the bar their standard deviation. "
            "Seconds are those of the machine and the workers that the sweep ran on.",
            png(sweep_charts.cost_chart(settings, column, colour, mark)),
        )
    ]
    if any(curve["validation_accuracy"].notna().any() for curve in sweep.curves.values()):
        colour = next(iter(shares))
        of_run = {row["run"]: as_text(row[colour]) for _, row in sweep.table.iterrows()}
        in_best = sweep.table["setting"] == settings["setting"].iloc[0]
        best = list(sweep.table["run"][in_best])
        pictures.append(
            Picture(
                "curves",
                "Curves of all runs",
                "Validation accuracy by epoch; the runs of the best setting thick.",
                png(sweep_charts.curves_chart(sweep.curves, of_run, colour, best)),
            )
        )
    if len(sweep.axes) > 1 and any(share == share for share in shares.values()):
        pictures.append(
            Picture(
                "importance",
                "Which flag mattered most",
                f"Share of the variance of {what.lower()} accuracy between runs that goes with each flag "
                "alone, beyond what as many values would have by chance (Kelley's epsilon squared). Where "
                "settings were drawn at random, or not all have finished, shares overlap.",
                png(sweep_charts.importance_chart(shares)),
            )
        )
    return pictures
