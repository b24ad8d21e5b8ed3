"""Tries a trained network: accuracy, calibration, robustness, speed; or two, and whether one is better.

By default on the test split that the first run came with. Nothing is written into a run.
"""

import dataclasses
import importlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fidle_jax.cli.terminal import (
    FAILED,
    enable_compilation_cache,
    exit_with,
    fail,
    parse_flags,
    set_up_output,
)
from fidle_jax.errors import InputError
from fidle_jax.files import write_atomically, write_json
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.signals import Stop

if TYPE_CHECKING:
    from _evaluate_page import Part
    from _evaluate_subjects import ExampleSet, Subject


@dataclasses.dataclass(frozen=True)
class Flags:
    """What to evaluate, on what."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """The directory of a finished run, or those of two that are to be compared."""
    dataset: str | None = None
    """Another data set of the same classes, whose test split is used (default: the first run's own)."""
    crop: str | None = None
    """Of traffic signs: full photographs, or roi for the sign alone (default: as in the first run)."""
    data: str | None = None
    """auto, full or sample, as in training (default: as the first run had it; of another set: auto)."""
    archives: Path | None = None
    """Folder of the official archive files, for machines without network (or FIDLE_JAX_ARCHIVES)."""
    data_dir: Path | None = None
    """Where prepared data lives (default: where the runs had it)."""
    corrupted_examples: int = 2000
    """Test examples that are corrupted, evenly spaced through all; 0: leave robustness out."""
    latency: bool = True
    """Measure how long an answer takes."""
    seed: int = 0
    """All that is random about the corruptions comes from this number."""
    run_dir: Path | None = None
    """Where the page, its figures and numbers are written (default: runs/evaluate/UTC time)."""
    debug: bool = False
    """Show the traceback of an error."""


def main(stop: Stop) -> int:
    """Evaluates as sys.argv asks: prints the numbers, writes a page."""
    flags = parse_flags(__doc__, Flags())
    _check(flags)
    run_dir = flags.run_dir or run_dirs.default_run_dir("evaluate")
    run_dirs.check_new(run_dir)
    set_up_output()
    enable_compilation_cache()
    # An interrupt that rises within an import may be swallowed there, or end the process.
    with stop.defer():
        subjects_of = importlib.import_module("_evaluate_subjects")
        importlib.import_module("_evaluate_robustness")
    stop.check()
    names = [field.name for field in dataclasses.fields(subjects_of.Source)]
    source = subjects_of.Source(**{name: getattr(flags, name) for name in names})
    subjects, test = subjects_of.read_subjects(flags.runs, source)
    parts = _evaluate(flags, subjects, test)
    try:
        with run_dirs.hold(run_dir):
            _write(run_dir, flags, subjects, test, parts)
    except OSError as error:
        return fail(error, FAILED)
    print(f"page: {run_dir / 'report.html'}")
    return 0


def _check(flags: Flags) -> None:
    if not 1 <= len(flags.runs) <= 2:
        raise InputError(
            f"{len(flags.runs)} runs were given; expected the directory of a finished run, or of two"
        )
    for name in ("corrupted_examples", "seed"):
        if getattr(flags, name) < 0:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} is {getattr(flags, name)}; expected 0 or more")


def _evaluate(flags: Flags, subjects: "list[Subject]", test: "ExampleSet") -> "list[Part]":
    """The parts of the page, each printed as soon as it is there."""
    from _evaluate_calibration import calibrations
    from _evaluate_page import accuracy, comparison, speed
    from _evaluate_robustness import robustness

    makers = [lambda: accuracy(subjects, test)]
    if len(subjects) == 2:
        makers.append(lambda: comparison(subjects, test))
    makers.append(lambda: calibrations(subjects, test))
    if flags.corrupted_examples:
        makers.append(lambda: robustness(subjects, test, flags.corrupted_examples, flags.seed))
    if flags.latency:
        makers.append(lambda: speed(subjects))
    parts = []
    for make in makers:
        parts.append(make())
        _print(parts[-1])
    return parts


def _print(part: "Part") -> None:
    from fidle_jax.report.lesson import Table, text_table

    print(part.section.title)
    for note in part.notes:
        print(f"note: {note}")
    for shown in part.section.shown:
        if isinstance(shown, Table):
            print(f"\n{text_table(shown)}")
    print()


def _write(
    run_dir: Path, flags: Flags, subjects: "list[Subject]", test: "ExampleSet", parts: "list[Part]"
) -> None:
    from fidle_jax.report.lesson import Table, render_lesson

    command = shlex.join(["python", *sys.argv])
    (run_dir / "figures").mkdir(exist_ok=True)
    for shown in (each for part in parts for each in part.section.shown):
        if not isinstance(shown, Table):
            write_atomically(run_dir / "figures" / f"{shown.name}.png", shown.png)
    page = render_lesson(
        f"{' against '.join(each.trained.result['experiment'] for each in subjects)}: evaluation",
        _summary(subjects, test),
        {name: value for part in parts for name, value in part.facts.items()},
        [part.section for part in parts],
        command,
    )
    write_json(run_dir / "evaluation.json", _numbers(flags, subjects, test, parts, command))
    write_atomically(run_dir / "report.html", page)


def _summary(subjects: "list[Subject]", test: "ExampleSet") -> str:
    runs = "; ".join(
        f"{each.name} is {each.trained.result['experiment']} in {each.run_dir}, "
        f"{each.trained.result['parameters']:,} parameters, trained on {each.trained.config.data.dataset} "
        f"({each.trained.config.data.variant})"
        for each in subjects
    )
    return f"Tried on {len(test.labels):,} test examples of {test.title()}. {runs}."


def _numbers(flags, subjects, test, parts, command) -> dict[str, Any]:
    return {
        "command": command,
        "runs": {each.name: str(each.run_dir) for each in subjects},
        "dataset": test.dataset,
        "variant": test.variant,
        "crop": test.crop,
        "examples": len(test.labels),
        "seed": flags.seed,
        **{part.name: part.numbers for part in parts},
    }


if __name__ == "__main__":
    exit_with(main, "interrupted; nothing was written")
