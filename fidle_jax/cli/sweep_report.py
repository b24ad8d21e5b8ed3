"""Draw the page of a sweep and print its table in Markdown. The sweep may still be running."""

import dataclasses
import logging
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import exit_with, start
from fidle_jax.errors import InputError
from fidle_jax.files import read_json, write_atomically
from fidle_jax.sweep import results
from fidle_jax.train.run_content import read_metrics
from fidle_jax.train.signals import Stop

logger = logging.getLogger("fidle_jax")


@dataclasses.dataclass(frozen=True)
class Flags:
    """The sweep."""

    sweep_dir: Annotated[Path, tyro.conf.Positional] = Path("runs/sweeps/mnist_cnn")
    """Directory of the sweep."""
    debug: bool = False
    """Show the traceback of an error."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Write report.html into the directory of the sweep, print the table, and exit."""
    exit_with(lambda stop: _main(stop, argv), "interrupted")


def _main(stop: Stop, argv: list[str] | None) -> int:
    flags = parse_flags(__doc__ or "", Flags(), argv)
    start(stop, "fidle_jax.report.sweep_page")
    from fidle_jax.report.sweep_page import Sweep, render_sweep
    from fidle_jax.report.tables import rank_settings, settings_markdown

    sweep_dir = flags.sweep_dir
    plan = results.read_plan(sweep_dir)
    axes, table = plan["columns"], results.read_table(sweep_dir)
    failures = results.failures(sweep_dir)
    if table.empty:
        raise InputError(
            f"the sweep in {sweep_dir} has no finished run, and {len(failures)} runs failed; expected at "
            "least one finished run; run the sweep again, with --retry-failed if runs failed"
        )
    runs, baseline = sweep_dir / "runs", plan["baseline"]
    page = render_sweep(
        Sweep(
            title=plan["experiment"].removesuffix(".py"),
            axes=axes,
            runs=table,
            curves=_read_curves(runs, table["run"]),
            planned=plan["runs"],
            failures=failures,
            command=lambda run: _command(runs / run),
            folder=shlex.quote(str(sweep_dir)),
            baseline=baseline,
        )
    )
    write_atomically(sweep_dir / "report.html", page)
    print(settings_markdown(rank_settings(table, axes, baseline), axes))
    print(f"\n{sweep_dir / 'report.html'}", file=sys.stderr)
    return 0


def _read_curves(runs: Path, names: Iterable[str]) -> dict[str, Any]:
    """Return the columns of each metrics.csv. Name the damaged ones in a warning and leave them out."""
    curves = {}
    for name in names:
        try:
            curves[name] = read_metrics(runs / name / "metrics.csv")
        except InputError as error:
            logger.warning("a curve is left out: %s", error)
    return curves


def _command(run_dir: Path) -> str:
    """Return the command of a run without --run-dir. The script is relative to the project directory.

    A command that has another form is returned unchanged.
    """
    command = read_json(run_dir / "config.json", {"command": str})["command"]
    try:
        words = shlex.split(command)
        index = words.index("--run-dir", 2)
    except ValueError:
        return command
    file = Path(words[1])
    project = Path(__file__).absolute().parents[2]
    name = file.relative_to(project) if file.is_relative_to(project) else file
    return shlex.join(["python", str(name), *words[2:index], *words[index + 2 :]])
