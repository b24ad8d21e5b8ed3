"""Tables of runs with pandas: kept results, averages over seeds, effects of variants, Markdown."""

import json
import logging
import re
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fidle_jax.errors import InputError, printable
from fidle_jax.files import (
    as_input_error,
    changed_files,
    check_types,
    read_json,
    reading,
    require,
    sealed,
    write_json,
)
from fidle_jax.report.html import rounded
from fidle_jax.train.config import Config, check, hyperparameters, to_json
from fidle_jax.train.config_json import NEWER, from_json
from fidle_jax.train.run_dir import RESULT, check_result, read_config, read_objects, read_result

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
    *(VALIDATION, TEST, "test_loss", "train_seconds", "compile_seconds"),
)
# The folders of an absolute path. They mean nothing on another machine.
FOLDERS = re.compile(r"(?<=')~?/(?:[^'\"/]+/)+|(?<![\w.])~?/(?:[^\s'\"/]+/)+")
# Entries of config.json that are no settings, but determine the result: Python objects, the epochs at which
# a run had ended before it was extended, and the images.
OTHERS = {"objects": str | None, "extended_from": str | None, "images": str | None}


def read_runs(paths: Iterable[Path], optional: Container[Path] = ()) -> pd.DataFrame:
    """Return one row per setting and seed: the result, flags without the seed, setting, run and record.

    Runs with the same setting and seed are not independent. Only the first finished one, by the time of
    result.json, is returned. A warning names the others and their differences.

    Args:
        paths: Directories of runs, and files of `write_results`.
        optional: Those that are left out, with a warning, if they are damaged.

    Raises:
        InputError: Another path is not a finished run or a file of results, or is damaged.
    """
    rows = []
    for path in paths:
        try:
            rows += _read_kept(path) if path.is_file() else [_read_run(path)]
        except InputError as error:
            if path not in optional:
                raise
            logger.warning("a damaged run is left out: %s", error)
    if not rows:
        return pd.DataFrame()
    runs = pd.DataFrame(rows).astype({"test_loss": float})  # None becomes NaN
    first = runs.sort_values("finished", kind="stable").drop_duplicates(["setting", "seed"])
    kept = {(row["setting"], row["seed"]): row for _, row in first.iterrows()}
    repeats = [
        _describe_repeat(row, kept[row["setting"], row["seed"]])
        for _, row in runs.drop(first.index).iterrows()
    ]
    if repeats:
        text = "repeated runs are left out, the one that finished first counts: %s"
        logger.warning(text, "; ".join(repeats))
    return runs.loc[sorted(first.index)].reset_index(drop=True)


def _describe_repeat(run: pd.Series, first: pd.Series) -> str:
    names = [VALIDATION, TEST, "test_loss"]
    texts = [f"{100 * each[TEST]:.3f} %, loss {each['test_loss']:.6g}" for each in (run, first)]
    difference = "same result" if run[names].equals(first[names]) else " instead of ".join(texts)
    return f"{run['run']} repeats {first['run']} ({difference})"


def _read_run(run_dir: Path) -> dict[str, Any]:
    result, config = read_result(run_dir, *NEEDED), read_config(run_dir)
    if changed := {"result.json", "evaluation.npz"}.intersection(changed_files(run_dir)):
        raise InputError(
            f"{run_dir} was changed after it was finished: {', '.join(sorted(changed))}; restore its "
            "files, or run again"
        )
    content = read_json(run_dir / "config.json", {})
    objects = ", ".join(f"{name} {value}" for name, value in read_objects(run_dir).items()) or None
    images = content.get("own_images")
    others = {
        "objects": objects,
        "extended_from": str(content.get("extended_from") or "").strip("[]") or None,
        "images": str(images.get("digest"))[:8] if isinstance(images, dict) else None,
    }
    record = {"command": str(content.get("command") or ""), **result}
    finished = (run_dir / "result.json").stat().st_mtime
    return _row(run_dir, record, config, others, finished)


def _read_kept(path: Path) -> list[dict[str, Any]]:
    content = read_json(path, {"flags": dict, "runs": list, "checksum": str})
    flags = content["flags"]
    others = {name: flags.get(name) for name in OTHERS}
    with reading(path):
        check_types(others, OTHERS)
        # The file has no flags that don't change the result, and none that were added later.
        config = from_json(to_json(Config()) | NEWER | flags)
        check(config)
        for record in content["runs"]:
            check_types(record, {"command": str} | {name: RESULT[name] for name in NEEDED})
            check_result(record)
        require(content["runs"], "it has no runs")
        return [_row(path, record, config, others, 0) for record in content["runs"]]


def _row(
    path: Path,
    record: dict[str, Any],
    config: Config,
    others: dict[str, Any],
    finished: float,
) -> dict[str, Any]:
    flags = hyperparameters(config) | others
    del flags["seed"]
    # A run that is being extended still has the result of fewer epochs.
    flags["epochs"] = record["epochs"]
    setting = json.dumps([record["experiment"], record["parameters"], flags])
    own = {"flags": flags, "setting": setting, "run": path, "finished": finished}
    return record | own | {"record": record}


def write_results(path: Path, runs: pd.DataFrame) -> None:
    """Write the results of one setting, with the command of each run, to a JSON file.

    Absolute paths are shortened to ``./NAME``.

    Args:
        path: The file.
        runs: Rows of `read_runs` with the same setting.
    """
    content = {"flags": runs["flags"].iloc[0], "runs": list(runs["record"])}
    with as_input_error(path, "--write"):
        write_json(path, sealed(json.loads(FOLDERS.sub("./", json.dumps(content)))))


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
    return f"{value:.6g}" if isinstance(value, float) else str(value)


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
    # Lists cannot be compared, and text has fewer digits.
    runs = runs.assign(**{axis: runs[axis].map(json.dumps) for axis in axes})
    table = average_over_seeds(runs)
    if baseline:
        keys = [*(axis for axis in axes if axis != "variant"), "seed"]
        base = runs[runs["variant"] == json.dumps(baseline)].set_index(keys)
        pairs = runs.set_index(keys)
        for column in (VALIDATION, TEST):
            difference = pairs[column].astype(float) - base[column].astype(float).reindex(
                pairs.index
            )
            groups = difference.groupby(pairs["setting"].to_numpy())
            table[f"{column} difference"] = table["setting"].map(groups.mean())
            table[f"{column} difference spread"] = table["setting"].map(groups.std())
    for axis in axes:
        table[axis] = table[axis].map(json.loads).map(as_text)
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
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join(printable(f"| {' | '.join(line)} |") for line in lines)


def settings_markdown(settings: pd.DataFrame, axes: Sequence[str]) -> str:
    """Return `rank_settings` as a Markdown table with the best setting in bold."""
    head, rows = [*axes, "seeds"], []
    columns = [VALIDATION, TEST]
    if f"{TEST} difference" in settings:
        columns = [VALIDATION, f"{VALIDATION} difference", TEST, f"{TEST} difference"]
    on_test = "hold_out" in settings and "test" in set(settings["hold_out"])
    names = {
        VALIDATION: "test of the epoch with the best test, %" if on_test else "validation, %",
        TEST: "test, %",
    }
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
