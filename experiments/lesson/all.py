"""Every lesson on a small budget, one after the other, and a page that leads to theirs."""

import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from _lesson import FAILED, exit_with, parse_flags, run_dirs

from fidle_jax.files import write_atomically
from fidle_jax.train.signals import Stop


class Entry(NamedTuple):
    """A lesson: the figure that stands for it, and whether it has a smaller budget."""

    figure: str
    has_quick: bool


LESSONS = {
    "perceptron": Entry("hidden.png", True),
    "gradient_descent": Entry("race.gif", True),
    "activations": Entry("activations.png", False),
    "losses": Entry("mistake.png", False),
    "regression": Entry("predicted.png", True),
    "classification": Entry("roc.png", True),
    "overfitting": Entry("side_by_side.png", True),
    "convolution": Entry("principle.gif", False),
    "dense_vs_cnn": Entry("by_shift.png", True),
}


@dataclasses.dataclass(frozen=True)
class All:
    """How they are run."""

    run_dir: Path | None = None
    """Where the index and a folder for each lesson are written (default: runs/lesson/all/UTC time)."""
    quick: bool = True
    """On a small budget; --no-quick: as each is by itself."""
    debug: bool = False
    """Show the traceback of an error."""


def main(stop: Stop) -> int:
    """Runs them; 1 where one of them failed, which the page names."""
    flags = parse_flags(__doc__, All())
    run_dir = flags.run_dir or run_dirs.default_run_dir("lesson/all")
    run_dirs.check_new(run_dir)
    failed = []
    with run_dirs.hold(run_dir):
        for name, entry in LESSONS.items():
            status = _run(name, flags.quick and entry.has_quick, run_dir / name)
            stop.check()
            if status:
                failed.append(name)
            _write_index(run_dir, flags.quick)
    print(
        f"{len(LESSONS) - len(failed)} of {len(LESSONS)} lessons; page: {run_dir / 'report.html'}"
    )
    if failed:
        print(f"error: {', '.join(failed)} failed; why stands above", file=sys.stderr)
    return FAILED if failed else 0


def _run(name: str, quick: bool, run_dir: Path) -> int:
    file = Path(__file__).with_name(f"{name}.py")
    print(f"\n{name}\n{'=' * len(name)}", flush=True)
    command = [sys.executable, str(file), "--run-dir", str(run_dir), *["--quick"] * quick]
    return subprocess.run(command, check=False).returncode


def _write_index(run_dir: Path, quick: bool) -> None:
    """The page of what there is by now: it can be looked at while the rest runs."""
    from fidle_jax.report.lesson_index import Card, render_index, thumbnail

    cards = []
    for name, entry in LESSONS.items():
        if not (run_dir / name).exists():
            cards.append(Card(name, failure="It has not run yet, or failed before it began."))
        elif not (run_dir / name / "report.html").exists():
            cards.append(Card(name, failure="It failed; the terminal says why."))
        else:
            result = json.loads((run_dir / name / "result.json").read_text())
            said = {key: result[key] for key in ("title", "summary", "seconds")}
            figure = thumbnail(run_dir / name / "figures" / entry.figure)
            cards.append(Card(name, page=f"{name}/report.html", thumbnail=figure, **said))
    page = render_index(cards, quick, shlex.join(["python", *sys.argv]))
    write_atomically(run_dir / "report.html", page)


if __name__ == "__main__":
    exit_with(main, "interrupted; the lessons that ended have their pages")
