"""Explain what the network of a finished run predicts for image files or a test example, on one page.

Methods: gradients, integrated gradients, Grad-CAM, occlusion, feature maps and kernels.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from fidle_jax.cli.terminal import command_text, exit_with, parse_flags, start
from fidle_jax.errors import InputError, check_name
from fidle_jax.train.run_dir import check_new, default_run_dir, read_evaluation
from fidle_jax.train.signals import Stop


@dataclasses.dataclass(frozen=True)
class Flags:
    """Images, and the class to explain."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a finished run."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Image files."""
    test: int | None = None
    """Index of an example of the run's test set, starting at 0."""
    target: str | None = None
    """Class to explain, by name or index (default: the predicted class)."""
    run_dir: Path | None = None
    """Output directory for the page, its figures and numbers (default: runs/explain/UTC time)."""
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
    from fidle_jax.inference.explain import explain
    from fidle_jax.inference.explain_page import Example, make_sections, summarise
    from fidle_jax.inference.load import load
    from fidle_jax.inference.preprocess import prepare, read_image
    from fidle_jax.report.html import brief_percent
    from fidle_jax.report.lesson import Page, write_page

    images = [read_image(path) for path in flags.images]
    trained = load(flags.run)
    names = trained.class_names
    target = None if flags.target is None else _class_index(flags.target, names)
    examples = [
        Example(_printable(path.name), prepare(image, trained, path))
        for path, image in zip(flags.images, images, strict=True)
    ]
    if flags.test is not None:
        test, run = read_evaluation(flags.run), flags.run
        if not 0 <= flags.test < (count := len(test.labels)):
            raise InputError(
                f"--test is {flags.test}; expected 0 to {count - 1}, an example of {run}"
            )
        image, label = test.images[flags.test], int(test.labels[flags.test])
        examples.append(Example(f"test example {flags.test}", image, label))
    explanations = [explain(trained, each.pixels, target) for each in examples]
    pairs = zip(examples, explanations, strict=True)
    summaries = [summarise(example, one, names) for example, one in pairs]
    facts = {
        each["name"]: f"{each['answer']}, {brief_percent(each['probability'])}"
        for each in summaries
    }
    facts["network"] = trained.config.model.name
    facts["test accuracy"] = brief_percent(trained.result["test_accuracy"])
    command = _printable(command_text("explain", argv))
    run = _printable(str(flags.run))
    summary = (
        f"The network of the run {run}. Each map answers its own question. None of them shows why the "
        "network predicts a class."
    )
    numbers = {"run": run, "command": command, "images": summaries}
    sections = make_sections(examples, explanations, names)
    page = Page("Explained predictions", summary, facts, sections)
    write_page(run_dir, page, command, {"explanation.json": numbers})
    for each in summaries:
        print(f"{each['name']}: {each['answer']}, {100 * each['probability']:.1f} %")
    print(f"page: {run_dir / 'report.html'}")


def _class_index(target: str, names: tuple[str, ...]) -> int:
    # Names take precedence over indices, because the names of digits are numbers.
    if target not in names and target.isdecimal() and int(target) < len(names):
        return int(target)
    check_name("class of --target", target, names)
    return names.index(target)


def _printable(text: str) -> str:
    """Escape a file name that contains bytes outside of UTF-8 or control characters."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
