"""Evaluate a trained network: accuracy, calibration, robustness and speed. Or compare two networks.

By default, on the test set of the first run. Run directories are not changed.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fidle_jax.cli.terminal import command_text, exit_with, parse_flags, start
from fidle_jax.errors import InputError, Range
from fidle_jax.train.run_dir import check_new, default_run_dir
from fidle_jax.train.signals import Stop

if TYPE_CHECKING:
    from fidle_jax.inference.evaluate_page import Part


@dataclasses.dataclass(frozen=True)
class Flags:
    """Runs, and the data to evaluate them on."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Directory of a finished run, or of two runs to compare."""
    dataset: str | None = None
    """Another data set with the same classes, whose test set is used (default: the one of the first run)."""
    crop: str | None = None
    """Traffic signs: full photographs, or roi for the sign alone (default: as in the first run)."""
    data: str | None = None
    """auto, full or sample, as in training (default: as in the first run; for another data set: auto)."""
    archives: Path | None = None
    """Directory with the official archive files (or FIDLE_JAX_ARCHIVES)."""
    data_dir: Path | None = None
    """Directory with prepared data (default: the one of the runs)."""
    corrupted_examples: Annotated[int, Range(0)] = 2000
    """Number of evenly spaced test examples that are corrupted; 0 skips robustness."""
    latency: bool = True
    """Measure the latency."""
    seed: Annotated[int, Range(0)] = 0
    """Seed for the corruptions."""
    run_dir: Path | None = None
    """Output directory for the page, its figures and numbers (default: runs/evaluate/UTC time)."""
    debug: bool = False
    """Show the traceback of an error."""


def main(argv: list[str] | None = None) -> None:
    """Print the results, write the page, and exit."""
    exit_with(lambda stop: _evaluate(argv, stop))


def _evaluate(argv: list[str] | None, stop: Stop) -> None:
    flags = parse_flags(__doc__ or "", Flags(), argv)
    if not 1 <= len(flags.runs) <= 2:
        raise InputError(
            f"got {len(flags.runs)} runs; expected one or two; give the directories of finished runs"
        )
    run_dir = flags.run_dir or default_run_dir("evaluate")
    check_new(run_dir)
    start(stop, "fidle_jax.inference.evaluate_page")
    from fidle_jax.inference.evaluate import read_subjects
    from fidle_jax.inference.evaluate_page import make_parts
    from fidle_jax.report.lesson import Page, write_page

    source = flags.dataset, flags.crop, flags.data, flags.archives, flags.data_dir
    subjects, test = read_subjects(flags.runs, *source)
    parts = []
    for part in make_parts(subjects, test, flags.corrupted_examples, flags.seed, flags.latency):
        _print(part)
        parts.append(part)
    command = command_text("evaluate", argv)
    experiments = [each.trained.result["experiment"] for each in subjects]
    runs = "; ".join(
        f"{each.name} is {experiment} in {each.run_dir}, {each.trained.result['parameters']:,} parameters, "
        f"trained on {each.trained.config.data.dataset} "
        f"({each.trained.config.data.variant})"
        for each, experiment in zip(subjects, experiments, strict=True)
    )
    numbers = {
        "command": command,
        "runs": {each.name: str(each.run_dir) for each in subjects},
        "dataset": test.dataset,
        "variant": test.variant,
        "crop": test.crop,
        "examples": len(test.labels),
        "seed": flags.seed,
        **{part.name: part.numbers for part in parts},
    }
    page = Page(
        f"Evaluation of {' against '.join(experiments)}",
        f"Evaluated on {len(test.labels):,} test examples of {test.title()}. {runs}.",
        {name: value for part in parts for name, value in part.facts.items()},
        [part.section for part in parts],
    )
    write_page(run_dir, page, command, {"evaluation.json": numbers})
    print(f"page: {run_dir / 'report.html'}")


def _print(part: "Part") -> None:
    from fidle_jax.report.lesson import Table, text_table

    print(part.section.title)
    for note in part.notes:
        print(f"note: {note}")
    for shown in part.section.shown:
        if isinstance(shown, Table):
            print(f"\n{text_table(shown)}")
    print()
