"""Evaluate a trained network: accuracy, calibration, robustness and speed. Or compare two networks.

By default, on the test set of the first run. Run directories are not changed.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import command_text, exit_with, start
from fidle_jax.data import Crop, Variant
from fidle_jax.errors import InputError, Range
from fidle_jax.train.config import described
from fidle_jax.train.run_dir import check_new, default_run_dir
from fidle_jax.train.signals import Stop


@dataclasses.dataclass(frozen=True)
class Flags:
    """Runs, and the data to evaluate them on."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN]", help_behavior_hint="(required)"),
    ] = ()
    """Directory of a finished run, or of two runs to compare."""
    dataset: Annotated[str | None, described("the one of the first run")] = None
    """Another data set with the same classes, whose test set is used. Or a folder or file of your own images
    with some of these classes: its test split, or all images if there is none."""
    crop: Annotated[Crop | None, described("as in the first run")] = None
    """Full photographs, or roi for the regions of traffic signs or of a CSV file."""
    data: Annotated[
        Variant | None, described("as in the first run; for another data set: auto")
    ] = None
    """The variant of the data set, as in training."""
    archives: Annotated[Path | None, described("$FIDLE_JAX_ARCHIVES")] = None
    """Directory with the official archive files."""
    data_dir: Annotated[Path | None, described("the one of the runs")] = None
    """Directory with prepared data."""
    corrupted_examples: Annotated[int, Range(0)] = 2000
    """Number of evenly spaced test examples that are corrupted; 0 skips robustness."""
    latency: bool = True
    """Measure the latency."""
    seed: Annotated[int, Range(0)] = 0
    """Seed for the corruptions."""
    run_dir: Annotated[Path | None, described("runs/evaluate/UTC time")] = None
    """Output directory for the page, its figures and numbers."""
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
    from fidle_jax.report.lesson import Page, text_section, write_page

    names = ("dataset", "crop", "data", "archives", "data_dir")
    settings = {name: value for name in names if (value := getattr(flags, name)) is not None}
    subjects, test = read_subjects(flags.runs, settings)
    command, data = command_text("evaluate", argv), test.config.data
    numbers = {
        "command": command,
        "runs": {each.name: str(each.run_dir) for each in subjects},
        "dataset": data.dataset,
        "variant": data.variant,
        "crop": data.crop or "full",
        "examples": len(test.labels),
        "seed": flags.seed,
    }
    sections = []
    for name, section, part in make_parts(
        subjects, test, flags.corrupted_examples, flags.seed, flags.latency
    ):
        print(text_section(section), *(f"note: {note}\n" for note in part.notes), sep="")
        sections.append(section)
        numbers[name] = part.records
    results = [each.trained.result for each in subjects]
    runs = "; ".join(
        f"{each.name} is {result['experiment']} in {each.run_dir}, {result['parameters']:,} parameters, "
        f"trained on {result['dataset']} ({result['variant']})"
        for each, result in zip(subjects, results, strict=True)
    )
    page = Page(
        f"Evaluation of {' against '.join(result['experiment'] for result in results)}",
        f"Evaluated on {len(test.labels):,} test examples of {test.title()}. {runs}.",
        {},
        sections,
    )
    write_page(run_dir, page, command, {"evaluation.json": numbers})
    print(f"page: {run_dir / 'report.html'}")
