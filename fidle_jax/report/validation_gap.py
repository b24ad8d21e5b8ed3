"""Comparison of the validation accuracy of finished runs with their test accuracy."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from fidle_jax.errors import InputError
from fidle_jax.report.style import GREEN, TEXT, VERMILLION, legend_below, new_figure, tidy
from fidle_jax.report.tables import TEST, VALIDATION, average_over_seeds, percent
from fidle_jax.train.run_dir import read_json, read_result

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
    result = read_result(run_dir, "dataset", "epochs", "seed", VALIDATION, TEST, "train_seconds")
    config = read_json(run_dir / "config.json", {"model": str, "hold_out": str})
    if result[VALIDATION] is None or config["hold_out"] not in HOLD_OUT:
        raise InputError(f"{run_dir} has no hold-out set; give runs of gtsrb_cnn.py that have one")
    dataset = result["dataset"] + (" cropped" if config.get("crop") == "roi" else "")
    row = dataset, config["model"], result["epochs"], config["hold_out"], result["seed"]
    return (*row, result[VALIDATION], result[TEST], result["train_seconds"])


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
