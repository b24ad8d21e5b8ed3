"""Explain what the network of a finished run predicts for image files or a test example, on one page.

Methods: gradients, integrated gradients, Grad-CAM, occlusion and feature maps.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import command_text, exit_with, start
from fidle_jax.errors import InputError, check_name, check_range, printable
from fidle_jax.train.config import described
from fidle_jax.train.run_content import read_evaluation
from fidle_jax.train.run_dir import check_new, default_run_dir
from fidle_jax.train.signals import Stop


@dataclasses.dataclass(frozen=True)
class Flags:
    """Images, and the class to explain."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a finished run."""
    images: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[IMAGE ...]", help_behavior_hint=""),
    ] = ()
    """Image files."""
    test: int | None = None
    """Index of an example of the run's test set, starting at 0."""
    target: Annotated[str | None, described("the predicted class")] = None
    """Class to explain, by name or index."""
    run_dir: Annotated[Path | None, described("runs/explain/UTC time")] = None
    """Output directory for the page, its figures and numbers."""
    debug: bool = False
    """Show the traceback of an error."""


def main(argv: list[str] | None = None) -> None:
    """Write the page, print the predictions, and exit."""
    exit_with(lambda stop: _explain(argv, stop))


def _explain(argv: list[str] | None, stop: Stop) -> None:
    flags = parse_flags(__doc__ or "", Flags, argv)
    if not flags.images and flags.test is None:
        raise InputError("there is no image; give image files, or --test with an example's index")
    run_dir = flags.run_dir or default_run_dir("explain")
    check_new(run_dir)
    start(stop, "fidle_jax.inference.explain_page", "fidle_jax.inference.preprocess")
    from fidle_jax.inference.explain import Example, explain
    from fidle_jax.inference.explain_page import make_sections, summarise
    from fidle_jax.inference.load import load
    from fidle_jax.inference.preprocess import read_input
    from fidle_jax.report.lesson import Page, write_page

    trained = load(flags.run)
    names = trained.class_names
    target = None if flags.target is None else _class_index(flags.target, names)
    examples = [Example(printable(path.name), read_input(path, trained)) for path in flags.images]
    if flags.test is not None:
        test = read_evaluation(flags.run)
        check_range("test", flags.test, 0, len(test.labels) - 1)
        image, label = test.images[flags.test], int(test.labels[flags.test])
        examples.append(Example(f"test example {flags.test}", image, label))
    explanations = [explain(trained, each, target) for each in examples]
    summaries = [summarise(each, names) for each in explanations]
    run, command = printable(str(flags.run)), printable(command_text("explain", argv))
    page = Page(
        "Explained predictions",
        f"The network {trained.config.model.name} of the run {run}. Each map answers its own question. None "
        "of them shows why the network predicts a class.",
        {},
        make_sections(explanations, names),
    )
    numbers = {"run": run, "command": command, "images": summaries}
    write_page(run_dir, page, command, {"explanation.json": numbers})
    for each in summaries:
        print(printable(f"{each['name']}: {each['answer']}, {100 * each['probability']:.1f} %"))
    print(f"page: {run_dir / 'report.html'}")


def _class_index(target: str, names: tuple[str, ...]) -> int:
    # Names take precedence over indices, because the names of digits are numbers.
    indices = [str(index) for index in range(len(names))]
    if target not in names and target in indices:
        return indices.index(target)
    check_name("class of --target", target, names)
    return names.index(target)
