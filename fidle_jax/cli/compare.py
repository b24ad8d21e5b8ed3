"""Compare finished runs: one row per setting, with mean and standard deviation over its seeds.

In a folder, all finished runs are found: `compare.py runs` compares all runs of this machine.

If a run has other values than its recipe, a further column shows these flags. If rows look the same, it
shows the flags in which they differ. If runs have the same setting and seed, only the one that finished
first counts.
"""

import dataclasses
import json
import logging
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import tyro

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import command_text, exit_with
from fidle_jax.data import is_own
from fidle_jax.errors import InputError
from fidle_jax.files import as_input_error, require, write_atomically
from fidle_jax.report.settings import IDENTITY, settings_by_origin
from fidle_jax.train.command_line import format_flags

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("fidle_jax")

HEAD = (
    *("experiment", "data", "recipe", "epochs", "trained on", "parameters", "seeds"),
    *("test accuracy, %", "seconds", "compile"),
)
SHOWN = ("dataset", "data", "crop", "recipe", "epochs")
# Entries of result.json that should be equal in a row, for comparable seconds.
SAME = ("platform", "devices", "cpu", "versions")
MOST_LISTED = 10  # seeds whose accuracies are listed; of more, the range is shown


@dataclasses.dataclass(frozen=True)
class Flags:
    """The runs, and what to write about runs of one setting."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="PATH ...", help_behavior_hint="(required)"),
    ]
    """Run directories, folders of them, or files of --write."""
    write: Path | None = None
    """Write the results of all seeds to this JSON file."""
    errors: Path | None = None
    """Write a page with all test errors to this HTML file."""
    remarks: Path | None = None
    """TOML file with remarks for the page, for example 2597 = "a 5 or a 3" for test image 2597."""
    debug: bool = False
    """Show the traceback of an error."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Print a Markdown table of runs, write the files, and exit."""
    exit_with(lambda _: _main(argv), "interrupted")


def _main(argv: list[str] | None) -> None:
    flags = parse_flags(__doc__ or "", Flags(()), argv)
    if not flags.runs:
        raise InputError("no runs are given; give run directories, or folders of them")
    if flags.remarks and not flags.errors:
        raise InputError("--remarks is given without --errors; give both, or none")
    from fidle_jax.report import tables

    found = _find(flags.runs)
    runs = tables.read_runs(found, optional=set(found) - set(flags.runs))
    if runs.empty:
        raise InputError("all runs are damaged; expected at least one finished run; run it again")
    if (flags.write or flags.errors) and (settings := runs["setting"].nunique()) > 1:
        raise InputError(
            f"the runs have {settings} different settings; --write and --errors expect one; give the "
            "runs of one row"
        )
    print(_table(runs))
    if flags.write:
        tables.write_results(flags.write, runs)
        print(f"results: {flags.write}")
    if flags.errors:
        from fidle_jax.report.error_page import render_errors

        page = render_errors(runs, _read_remarks(flags.remarks), command_text("compare", argv))
        with as_input_error(flags.errors, "--errors"):
            write_atomically(flags.errors, page)
        print(f"page: {flags.errors}")


def _table(runs: "pd.DataFrame") -> str:
    from fidle_jax.report import tables

    table = tables.average_over_seeds(runs)
    others = []
    for flags in table["flags"]:
        alike = [each for each in table["flags"] if all(each[n] == flags[n] for n in SHOWN)]
        ambiguous = tables.ambiguous_flags(alike, SHOWN)
        others.append(list(dict.fromkeys([*_changed(flags), *ambiguous])))
    rows = []
    for (_, row), names in zip(table.iterrows(), others, strict=True):
        same = runs[runs["setting"] == row["setting"]].sort_values("seed")
        settings, accuracies = row["flags"], 100 * same[tables.TEST]
        each = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
        if len(same) > MOST_LISTED:
            each = f"{accuracies.min():.2f} to {accuracies.max():.2f}"
        cells = [
            row["experiment"],
            f"{row['dataset']} {row['variant']}{' cropped' if settings['crop'] == 'roi' else ''}",
            row["recipe"],
            str(row["epochs"]),
            f"{same['train_examples'].quantile(interpolation='lower'):,}",
            f"{row['parameters']:,}",
            str(row["seeds"]),
            f"{tables.percent(row, tables.TEST, digits=3)} ({each})"
            f"{', epoch selected on it' if settings['hold_out'] == 'test' else ''}",
            tables.rounded(row["train_seconds"]),
            tables.rounded(same["compile_seconds"].median()),
        ]
        rows.append([*cells, format_flags(settings, names)] if any(others) else cells)
        for name in SAME:
            found = dict.fromkeys(str(each[name]) for each in same["record"] if name in each)
            if len(found) > 1:
                text = "the runs of %s, recipe %s, differ in %s: %s; their seconds may not be comparable"
                logger.warning(text, row["experiment"], row["recipe"], name, "; ".join(found))
    return tables.to_markdown((*HEAD, "other flags") if any(others) else HEAD, rows)


def _changed(flags: dict[str, Any]) -> list[str]:
    """Return the flags of a run that a user has chosen, apart from those in other columns."""
    if is_own(flags["dataset"]):  # the recipe depends on the images
        return []
    chosen = settings_by_origin(json.loads(json.dumps(flags)), 0, 0).user
    shown = (*IDENTITY, *SHOWN, "validation_fraction")
    return [name for name, value in chosen.items() if name not in shown and value != "auto"]


def _read_remarks(path: Path | None) -> dict[int, str]:
    """Return the remarks on test images, by index."""
    if path is None:
        return {}
    with as_input_error(path, "--remarks"):
        data = path.read_bytes()
    try:
        content = tomllib.loads(data.decode())
        for name, remark in content.items():
            valid = name.isdecimal() and isinstance(remark, str)
            require(valid, f'{name} = {remark!r}, but expected the index of an image = "remark"')
    except ValueError as error:
        raise InputError(f"--remarks {path} is wrong: {error}; correct the file") from error
    return {int(name): remark for name, remark in content.items()}


def _find(paths: tuple[Path, ...]) -> list[Path]:
    """Return the given run directories and files, and the finished runs in the given folders."""
    found: list[Path] = []
    for path in paths:
        inside = () if (path / "config.json").exists() else path.rglob("model.json")
        runs = sorted(each.parent for each in inside if (each.parent / "result.json").exists())
        found += runs or [path]
    return list(dict.fromkeys(found))
