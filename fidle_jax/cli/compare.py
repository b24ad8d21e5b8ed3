"""Compare finished runs: one row per setting, with mean and standard deviation over its seeds.

In a folder, all finished runs are found: `compare.py runs` compares all runs of this machine.

If rows look the same, a further column shows the flags in which they differ.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, NoReturn

import tyro

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import exit_with
from fidle_jax.errors import InputError
from fidle_jax.train.command_line import format_flags

HEAD = ("experiment", "data", "recipe", "epochs", "trained on", "seeds", "test accuracy", "seconds")
SHOWN = ("dataset", "data", "crop", "recipe", "epochs", "hold_out", "validation_fraction")


@dataclasses.dataclass(frozen=True)
class Flags:
    """The runs."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="PATH ...", help_behavior_hint="(required)"),
    ]
    """Run directories, or folders of them."""
    debug: bool = False
    """Show the traceback of an error."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Print a Markdown table of runs, and exit."""
    exit_with(lambda _: _main(argv), "interrupted")


def _main(argv: list[str] | None) -> None:
    flags = parse_flags(__doc__ or "", Flags(()), argv)
    if not flags.runs:
        raise InputError("no runs are given; give run directories, or folders of them")
    from fidle_jax.report import tables

    found = _find(flags.runs)
    runs = tables.read_runs(found, optional=set(found) - set(flags.runs))
    if runs.empty:
        raise InputError("all runs are damaged; expected at least one finished run; run it again")
    table = tables.average_over_seeds(runs)
    others = tables.ambiguous_flags(table["flags"], SHOWN)
    rows = []
    for _, row in table.iterrows():
        same = runs[runs["setting"] == row["setting"]]
        settings = row["flags"]
        each = ", ".join(f"{100 * accuracy:.2f}" for accuracy in same[tables.TEST])
        cells = [
            row["experiment"],
            f"{row['dataset']} {row['variant']}{' cropped' if settings['crop'] == 'roi' else ''}",
            row["recipe"],
            str(row["epochs"]),
            f"{same['train_examples'].quantile(interpolation='lower'):,}",
            str(row["seeds"]),
            f"{tables.percent(row, tables.TEST, digits=3)} % ({each})"
            f"{', epoch selected on it' if settings['hold_out'] == 'test' else ''}",
            f"{row['train_seconds']:.0f}",
        ]
        rows.append([*cells, format_flags(settings, others)] if others else cells)
    print(tables.to_markdown((*HEAD, "other flags") if others else HEAD, rows))


def _find(paths: tuple[Path, ...]) -> list[Path]:
    """Return the given run directories, and the finished runs in the given folders."""
    found: list[Path] = []
    for path in paths:
        inside = () if (path / "config.json").exists() else path.rglob("model.json")
        runs = sorted(each.parent for each in inside if (each.parent / "result.json").exists())
        found += runs or [path]
    return list(dict.fromkeys(found))
