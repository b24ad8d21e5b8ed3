"""The tables of a sweep: a row for each setting, and which axis mattered."""

import pandas as pd

VALIDATION, TEST = "best_validation_accuracy", "test_accuracy"
MOST_LEVELS = 6  # of an axis of numbers; more are grouped


def criterion(table: pd.DataFrame) -> str:
    """The column by which settings are compared: validation, or, where no run held anything out, test."""
    return TEST if table[VALIDATION].isna().all() else VALIDATION


def as_text(value: object) -> str:
    """A flag's value in a cell: those of several numbers joined."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def by_setting(table: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """A row for each setting, with its axes, means and spreads over its seeds: the best first, and those
    last of which fewer seeds are finished than of others.

    Args:
      table: a row for each run, as of `fidle_jax.sweep.folder.read_table`.
      axes: the columns that tell settings apart.

    Returns:
      Columns: setting, the axes as text, seeds, VALIDATION and TEST with, after each, its standard deviation
      over the seeds ("... spread"), train_seconds (median), parameters, run (that of the lowest seed).
    """
    rows = []
    for setting, runs in table.sort_values("seed").groupby("setting", sort=False):
        row = {"setting": setting} | {axis: as_text(runs[axis].iloc[0]) for axis in axes}
        row["seeds"] = len(runs)
        for column in (VALIDATION, TEST):
            values = runs[column].astype(float)
            row |= {column: values.mean(), f"{column} spread": values.std()}
        row["train_seconds"] = runs["train_seconds"].median()
        row |= {name: runs[name].iloc[0] for name in ("parameters", "run")}
        rows.append(row)
    order = ["seeds", criterion(table), TEST]
    return pd.DataFrame(rows).sort_values(order, ascending=False, kind="stable", ignore_index=True)


def accuracy(row: pd.Series, column: str) -> str:
    """Mean and spread of a row of `by_setting`, in percent."""
    if pd.isna(row[column]):
        return "–"
    spread = row[f"{column} spread"]
    return f"{100 * row[column]:.2f}{'' if pd.isna(spread) else f' ± {100 * spread:.2f}'}"


def markdown(settings: pd.DataFrame) -> str:
    """The rows of `by_setting` as a Markdown table; the best, the first, in bold."""
    columns = list(settings.columns)
    axes = columns[1 : columns.index("seeds")]
    head = (*axes, "seeds", "validation, %", "test, %", "seconds", "parameters")
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for place, row in settings.iterrows():
        cells = [*(row[axis] for axis in axes), str(row["seeds"])]
        cells += [accuracy(row, VALIDATION), accuracy(row, TEST)]
        cells += [f"{row['train_seconds']:.0f}", f"{row['parameters']:,}"]
        if place == 0 and len(settings) > 1:
            cells = [f"**{cell}**" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def best_in_cells(settings: pd.DataFrame, rows: str, columns: str) -> pd.DataFrame:
    """Of two axes, the place in ``settings`` of the best setting of each pair of values, or NaN."""
    places = settings.assign(place=range(len(settings))).groupby([rows, columns], sort=False)
    return places["place"].min().unstack(columns, sort=False)


def importance(table: pd.DataFrame, axes: list[str]) -> dict[str, float]:
    """How much of the variance between runs goes with each axis alone, the most first.

    Kelley's epsilon squared (1935) of an analysis of variance without interactions: the share between the
    axis' values, less what that many values would have by chance; at least 0, and NaN of an axis that has one
    value, or another in each run. What is left goes with seeds and with several axes together.
    """
    table = table[table[criterion(table)].notna()]
    scores = table[criterion(table)].astype(float)
    total = ((scores - scores.mean()) ** 2).sum()
    between, levels = {}, {}
    for axis in axes:
        groups = scores.groupby(_levels(table[axis]), observed=True)
        within = ((scores - groups.transform("mean")) ** 2).sum()
        if 1 < groups.ngroups < len(scores) and total > 0:
            between[axis], levels[axis] = total - within, groups.ngroups
    left = max(0.0, total - sum(between.values()))
    free = len(scores) - 1 - sum(levels.values()) + len(levels)
    by_chance = left / free if free > 0 else 0.0
    shares = {
        axis: max(0.0, (between[axis] - (levels[axis] - 1) * by_chance) / total) for axis in between
    }
    best_first = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return best_first | {axis: float("nan") for axis in axes if axis not in between}


def _levels(values: pd.Series) -> pd.Series:
    """The values as text; many numbers in four groups of equally many runs."""
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > MOST_LEVELS:
        return pd.qcut(values, 4, duplicates="drop")
    return values.map(as_text)
