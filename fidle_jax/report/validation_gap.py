"""Comparison of the validation accuracy of finished runs with their test accuracy."""

import json
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from fidle_jax.errors import InputError
from fidle_jax.report.style import GREEN, TEXT, VERMILLION, legend_below, new_figure, tidy
from fidle_jax.report.tables import TEST, VALIDATION, average_over_seeds, percent

HOLD_OUT = {"examples": "random examples", "groups": "whole tracks"}


def read_runs(run_dirs: tuple[Path, ...]) -> pd.DataFrame:
    """Return a table with one row per run, sorted by setting.

    The columns include the setting, the seed and the accuracies.

    Raises:
        InputError: A directory is not a finished run with a hold-out set.
    """
    columns = ["dataset", "model", "epochs", "hold_out", "seed", VALIDATION, TEST, "train_seconds"]
    runs = pd.DataFrame([_read_run(run_dir) for run_dir in run_dirs], columns=columns)
    runs = runs.sort_values(columns[:5], ignore_index=True)
    runs["setting"] = [
        f"{run.model}, {run.dataset}, {run.epochs} epoch{'' if run.epochs == 1 else 's'}, "
        f"{HOLD_OUT[run.hold_out]} held out"
        for run in runs.itertuples()
    ]
    return runs


def _read_run(run_dir: Path) -> tuple:
    if not run_dir.is_dir():
        raise InputError(f"{run_dir} is not a directory; give --runs finished runs")
    try:
        names = ("config.json", "result.json")
        config, result = (json.loads((run_dir / name).read_text("utf-8")) for name in names)
        dataset = result["dataset"] + (" cropped" if config.get("crop") == "roi" else "")
        hold_out, validation, test = config["hold_out"], result[VALIDATION], float(result[TEST])
        validation = None if validation is None else float(validation)
        row = (dataset, config["model"], result["epochs"], hold_out, result["seed"])
        seconds = result["train_seconds"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise InputError(
            f"{run_dir} is not a finished run of gtsrb_cnn.py: {reason}; give --runs finished runs"
        ) from None
    if hold_out == "test":
        raise InputError(
            f"{run_dir} selected its epoch on the test set; give runs with a hold-out set"
        )
    if validation is None:
        raise InputError(f"{run_dir} has no validation accuracy; give runs with a hold-out set")
    if hold_out not in HOLD_OUT or not all(0 <= x <= 1 for x in (validation, test)):
        raise InputError(
            f"{run_dir} is damaged: {hold_out=}, {validation=}, {test=}; give runs of gtsrb_cnn.py"
        )
    return (*row, validation, test, seconds)


def gap_rows(runs: pd.DataFrame) -> list[dict[str, str]]:
    """Return the cells of a table with one row per setting."""
    return [
        {
            "setting": row["setting"],
            "seeds": ", ".join(map(str, runs["seed"][runs["setting"] == row["setting"]])),
            "validation": percent(row, VALIDATION),
            "test": percent(row, TEST),
            "gap": f"{100 * (row[VALIDATION] - row[TEST]):+.2f}".replace("-", "\N{MINUS SIGN}"),
        }
        for _, row in average_over_seeds(runs).iterrows()
    ]


def gap_chart(runs: pd.DataFrame) -> Figure:
    """Draw the validation and test accuracy of each run as points, and their means as bars."""
    settings = list(runs["setting"].unique())
    figure = new_figure(height=1.2 + 0.8 * len(settings))
    axes = figure.subplots()
    for column, colour, offset, label in (
        (VALIDATION, VERMILLION, -0.15, "validation"),
        (TEST, GREEN, 0.15, "test"),
    ):
        rows = runs["setting"].map(settings.index) + offset
        axes.scatter(
            100 * runs[column], rows, s=26, color=colour, alpha=0.6, linewidth=0, label=label
        )
        for row, mean in runs.assign(row=rows).groupby("row")[column].mean().items():
            axes.vlines(100 * mean, row - 0.14, row + 0.14, color=colour, linewidth=3)
    labels = [",\n".join(setting.rsplit(", ", 1)) for setting in settings]
    axes.set_yticks(range(len(settings)), labels)
    axes.set_ylim(len(settings) - 0.5, -0.5)
    axes.set_xlabel("accuracy, %", fontsize=TEXT)
    tidy(axes, "x")
    axes.tick_params(axis="y", length=0)
    legend_below(figure, columns=2)
    return figure
