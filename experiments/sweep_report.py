"""The page of a sweep, and its table in Markdown, of the runs that are finished by now."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import tyro

from fidle_jax.cli.terminal import exit_with, parse_flags
from fidle_jax.errors import InputError
from fidle_jax.train.signals import Stop


@dataclasses.dataclass(frozen=True)
class Flags:
    """Which sweep."""

    sweep_dir: Annotated[Path, tyro.conf.Positional] = Path("runs/sweeps/mnist_cnn")
    """The sweep's directory."""
    debug: bool = False
    """Show the traceback of an error."""


def main(stop: Stop) -> int:
    """Writes report.html into the sweep's directory, and prints the table."""
    flags = parse_flags(__doc__, Flags())
    with stop.defer():
        import pandas as pd

        from fidle_jax.files import write_atomically
        from fidle_jax.report.sweep import Sweep, render_sweep
        from fidle_jax.report.sweep_tables import by_setting, markdown
        from fidle_jax.sweep import folder
    stop.check()
    sweep_dir = flags.sweep_dir
    plan, axes = folder.read_plan(sweep_dir), folder.axes_of(sweep_dir)
    table = folder.read_table(sweep_dir)
    failures = folder.all_failures(sweep_dir)
    if table.empty:
        raise InputError(
            f"no run of the sweep in {sweep_dir} is finished yet, {len(failures)} failed; run it first"
        )
    runs = sweep_dir / "runs"
    page = render_sweep(
        Sweep(
            title=plan["experiment"].removesuffix(".py"),
            axes=axes,
            halving=plan["search"] == "halving",
            table=table,
            curves={run: pd.read_csv(runs / run / "metrics.csv") for run in table["run"]},
            planned=plan["runs"],
            failures=failures,
            winner=lambda run: _command(runs / run),
            folder=shlex.quote(str(sweep_dir)),
        )
    )
    write_atomically(sweep_dir / "report.html", page)
    print(markdown(by_setting(table, axes)))
    print(f"\n{sweep_dir / 'report.html'}", file=sys.stderr)
    return 0


def _command(run_dir: Path) -> str:
    """What runs it again, from the project's folder, wherever its result is to lie."""
    words = shlex.split(json.loads((run_dir / "config.json").read_text())["command"])
    place, file = words.index("--run-dir"), Path(words[1])
    own = file.parent == Path(__file__).absolute().parent
    name = f"experiments/{file.name}" if own else str(file)
    return shlex.join(["python", name, *words[2:place], *words[place + 2 :]])


if __name__ == "__main__":
    exit_with(main, "interrupted")
