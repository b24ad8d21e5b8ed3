"""Comparison of the validation accuracy of finished runs with their test accuracy."""

from pathlib import Path

import pandas as pd

from fidle_jax.errors import InputError
from fidle_jax.files import read_json
from fidle_jax.report.tables import TEST, VALIDATION, average_over_seeds, percent
from fidle_jax.train.run_dir import read_result

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
