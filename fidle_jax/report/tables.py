"""Tables of runs with pandas: averages over seeds, effects of variants, Markdown."""

import logging
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fidle_jax.errors import InputError, printable
from fidle_jax.report.html import rounded
from fidle_jax.train.config import hyperparameters
from fidle_jax.train.run_dir import read_config, read_objects, read_result

logger = logging.getLogger("fidle_jax")

VALIDATION, TEST = "best_validation_accuracy", "test_accuracy"
NEEDED = (
    *(
        "experiment",
        "dataset",
        "variant",
        "recipe",
        "epochs",
        "parameters",
        "train_examples",
        "seed",
    ),
    *(VALIDATION, TEST, "train_seconds"),
)


def read_runs(run_dirs: Iterable[Path], optional: Container[Path] = ()) -> pd.DataFrame:
    """Return one row per run: its result, its flags without the seed, and its setting.

    Args:
        run_dirs: Directories of the runs.
        optional: Those that are left out, with a warning, if they are damaged.

    Raises:
        InputError: Another directory is not a finished run, or is damaged.
    """
    rows = []
    for run_dir in run_dirs:
        try:
            result, config = read_result(run_dir, *NEEDED), read_config(run_dir)
            objects = read_objects(run_dir)
        except InputError as error:
            if run_dir not in optional:
                raise
            logger.warning("a damaged run is left out: %s", error)
            continue
        flags = hyperparameters(config)
        del flags["seed"]
        flags["objects"] = ", ".join(f"{name} {value}" for name, value in objects.items()) or None
        # A run that is being extended still has the result of fewer epochs.
        flags["epochs"] = result.get("epochs", flags["epochs"])
        setting = str((result["experiment"], result["parameters"], *flags.items()))
        rows.append(result | {"flags": flags, "setting": setting})
    return pd.DataFrame(rows)


def ambiguous_flags(rows: Iterable[dict[str, Any]], shown: Sequence[str]) -> list[str]:
    """Return the flags in which rows differ whose ``shown`` flags are equal."""
    equal: dict[tuple, list[dict[str, Any]]] = {}
    for flags in rows:
        equal.setdefault(tuple(flags[name] for name in shown), []).append(flags)
    names = dict.fromkeys(name for same in equal.values() for flags in same for name in flags)
    return [n for n in names if any(len({f[n] for f in same}) > 1 for same in equal.values())]


def criterion(runs: pd.DataFrame) -> str:
    """Return the column that ranks settings: validation, or test if no run held anything out."""
    return TEST if runs[VALIDATION].isna().all() else VALIDATION


def as_text(value: object) -> str:
    """Format the value of a flag."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def in_order(values: Iterable[str]) -> list[str]:
    """Return different values in numeric order, or in alphabetical order if some are no numbers."""
    try:
        return sorted(set(values), key=float)
    except ValueError:
        return sorted(set(values))


def average_over_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """Average runs with the same "setting".

    Args:
        runs: One row per run with the columns setting, seed, VALIDATION, TEST and train_seconds.

    Returns:
        One row per setting, in the order of ``runs``. VALIDATION and TEST are means, "... spread" are
        sample standard deviations (NaN for one seed), train_seconds is the median, and seeds is the
        number of runs. Other columns are those of the lowest seed.
    """
    order = runs["setting"].unique()
    runs = runs.sort_values("seed", kind="stable").astype({VALIDATION: float, TEST: float})
    groups = runs.groupby("setting")
    table = runs.drop_duplicates("setting").set_index("setting")
    for column in (VALIDATION, TEST):
        table[column] = groups[column].mean()
        table[f"{column} spread"] = groups[column].std()
    table["train_seconds"] = groups["train_seconds"].median()
    table["seeds"] = groups.size()
    return table.loc[order].reset_index()


def rank_settings(runs: pd.DataFrame, axes: Sequence[str], baseline: str = "") -> pd.DataFrame:
    """Return `average_over_seeds` of the runs of a sweep, the best setting first.

    Settings with fewer finished seeds come last. The axes become text.

    Args:
        runs: Table of the runs, see `fidle_jax.sweep.results.read_table`.
        axes: Columns that distinguish settings.
        baseline: Variant to compare with. If given, "... difference" is the mean difference to the runs
            of the baseline with the same seed and axes, and "... difference spread" its deviation.
    """
    runs = runs.assign(**{axis: runs[axis].map(as_text) for axis in axes})
    table = average_over_seeds(runs)
    if baseline:
        keys = [*(axis for axis in axes if axis != "variant"), "seed"]
        base = runs[runs["variant"] == baseline].set_index(keys)
        pairs = runs.set_index(keys)
        for column in (VALIDATION, TEST):
            difference = pairs[column].astype(float) - base[column].astype(float).reindex(
                pairs.index
            )
            groups = difference.groupby(pairs["setting"].to_numpy())
            table[f"{column} difference"] = table["setting"].map(groups.mean())
            table[f"{column} difference spread"] = table["setting"].map(groups.std())
    order = ["seeds", criterion(runs), TEST]
    return table.sort_values(order, ascending=False, kind="stable", ignore_index=True)


def percent(row: pd.Series, column: str, digits: int = 2) -> str:
    """Format the mean and the spread of a column in percent, such as "98.57 ± 0.16"."""
    if pd.isna(row[column]):
        return "–"
    spread = row[f"{column} spread"]
    sign = "+" if column.endswith("difference") else ""
    text = f"{100 * row[column]:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return text if pd.isna(spread) else f"{text} ± {100 * spread:.{digits}f}"


def to_markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(printable(f"| {' | '.join(line)} |") for line in lines)


def settings_markdown(settings: pd.DataFrame, axes: Sequence[str]) -> str:
    """Return `rank_settings` as a Markdown table with the best setting in bold."""
    head, rows = [*axes, "seeds"], []
    columns = [VALIDATION, TEST]
    if f"{TEST} difference" in settings:
        columns = [VALIDATION, f"{VALIDATION} difference", TEST, f"{TEST} difference"]
    names = {VALIDATION: "validation, %", TEST: "test, %"}
    head += [*(names.get(column, "difference") for column in columns), "seconds", "parameters"]
    for index, row in settings.iterrows():
        cells = [*row[list(axes)], str(row["seeds"]), *(percent(row, column) for column in columns)]
        cells += [rounded(row["train_seconds"]), f"{row['parameters']:,}"]
        bold = index == 0 and len(settings) > 1
        rows.append([f"**{cell}**" for cell in cells] if bold else cells)
    return to_markdown(head, rows)


def best_in_cells(settings: pd.DataFrame, rows: str, columns: str) -> pd.DataFrame:
    """Return the row number of the best setting for each pair of values. Pairs without a setting are NaN."""
    indices = settings.assign(index=range(len(settings))).groupby([rows, columns])["index"].min()
    return indices.unstack(columns).loc[in_order(settings[rows]), in_order(settings[columns])]
