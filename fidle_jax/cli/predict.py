"""Classify image files with the network of a finished run.

Digits may be dark on light or light on dark. They are centred and scaled as in MNIST. Traffic signs are
preprocessed as in the run's data set. If a folder has a subfolder for each class, or such subfolders in
train/ and test/, the accuracy and the confusions are reported too.
"""

import csv
import dataclasses
import io
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import FAILED, WRONG_INPUT, exit_with, fail, print_data, start
from fidle_jax.errors import InputError, printable
from fidle_jax.files import as_input_error, write_atomically
from fidle_jax.train.config import described
from fidle_jax.train.signals import Stop

if TYPE_CHECKING:
    import numpy as np

    from fidle_jax.inference.labels import Label
    from fidle_jax.inference.load import Run

DEFAULT_TOP = 3
IMAGES_PER_SHEET = 120
UNSURE = 0.5  # less probable answers are framed on sheets
STDIN = Path("-")

IMAGES = tyro.conf.arg(metavar="IMAGE ...", help_behavior_hint="(required)")
Answers = list[tuple[str, float]]  # classes with their probabilities, the most probable first
Labels = list[str | None] | None  # names of the true classes; None if they are unknown

_log = logging.getLogger("fidle_jax")


@dataclasses.dataclass(frozen=True)
class Flags:
    """Images to classify, and the form of the output."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a finished run."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, IMAGES]
    """Image files or folders. A folder stands for all images in it. Subfolders named like classes are the
    labels of their images. Use - to read an image from standard input."""
    top: Annotated[int | None, described("3")] = None
    """Number of classes printed for each image."""
    format: Literal["table", "csv", "json"] = "table"
    """Output format: a table for people, CSV or JSON for programs. The accuracy of CSV and JSON is printed
    to standard error."""
    sheet: Annotated[Path | None, described("none")] = None
    """New PNG file with the inputs of the network and its predictions, for at most 120 images."""
    debug: bool = False
    """Show the traceback of an error."""


def main(argv: list[str] | None = None) -> None:
    """Print the answers, draw the sheet, and exit."""
    exit_with(lambda stop: _predict(argv, stop), "interrupted")


def _predict(argv: list[str] | None, stop: Stop) -> int:
    flags = parse_flags(__doc__ or "", Flags, argv)
    if not flags.images:
        raise InputError("the images are missing; give one or more images or folders after RUN")
    if flags.sheet is not None:
        _check_sheet(flags.sheet)
    start(stop, "fidle_jax.inference.load", "fidle_jax.inference.preprocess")
    import numpy as np

    from fidle_jax.inference.labels import summarise
    from fidle_jax.inference.load import classify, load

    trained = load(flags.run_dir)
    classes = len(trained.class_names)
    top = min(DEFAULT_TOP, classes) if flags.top is None else flags.top
    if not 1 <= top <= classes:
        raise InputError(f"--top is {top}; expected 1 to {classes}, the number of classes")
    if trained.config.data.crop == "roi":
        _log.warning("the network was trained on cropped signs; give images cropped to the sign")
    names, images, labels, errors = _read(flags.images, trained)
    for error in errors:
        fail(error, FAILED)
    if not images:
        return WRONG_INPUT
    probabilities = classify(trained, np.stack(images))
    answers = [
        [(trained.class_names[k], float(row[k])) for k in np.argsort(-row, kind="stable")[:top]]
        for row in probabilities
    ]
    is_labelled = any(label.text is not None for label in labels)
    texts = [label.text for label in labels] if is_labelled else None
    print_data(FORMATS[flags.format](names, answers, texts))
    if is_labelled:
        text = summarise(labels, probabilities.argmax(axis=1), trained.class_names)
        print(text, file=sys.stdout if flags.format == "table" else sys.stderr)
    if flags.sheet is not None:
        _draw_sheet(flags.sheet, flags.run_dir.resolve().name, names, images, answers)
    return FAILED if errors else 0


def _check_sheet(sheet: Path) -> None:
    if sheet.suffix.lower() != ".png":
        raise InputError(f"--sheet is {sheet}; expected a name that ends in .png")
    if not sheet.absolute().parent.is_dir():
        raise InputError(f"the folder of --sheet {sheet} does not exist; create it first")
    if sheet.exists():
        raise InputError(f"--sheet: {sheet} exists; give another name")


def _read(
    sources: tuple[Path, ...], trained: "Run"
) -> "tuple[list[str], list[np.ndarray], list[Label], list[InputError]]":
    """Return names, network inputs and labels of all readable images, and the errors of the others."""
    from tqdm import tqdm

    from fidle_jax.data.decode import MAX_BYTES
    from fidle_jax.inference.labels import NO_LABEL, find_labels
    from fidle_jax.inference.preprocess import find_images, read_input

    files, names, images, labels, errors = [], [], [], [], []
    for source in sources:
        try:
            found = find_images(source) if source.is_dir() else [source]
        except InputError as error:
            errors.append(error)
        else:
            own = find_labels(source, found, trained) if source.is_dir() else [NO_LABEL]
            files += zip(found, own, strict=True)
    for path, label in tqdm(files, unit="image", disable=None, leave=False):
        name = "standard input" if path == STDIN else str(path)
        try:
            content = _read_stdin(MAX_BYTES + 1) if path == STDIN else path
            images.append(read_input(content, trained, name))
        except InputError as error:
            errors.append(error)
        else:
            names.append(str(path))
            labels.append(label)
    return names, images, labels, errors


def _read_stdin(most: int) -> bytes:
    if sys.stdin is None:
        raise InputError("standard input is closed; pass an image to it, or give a file")
    return sys.stdin.buffer.read(most)


def _as_table(names: list[str], answers: list[Answers], labels: Labels) -> str:
    from fidle_jax.report.lesson import Table, text_table

    head = [
        "image",
        *(["label"] if labels else []),
        "answer",
        "",
        *["then", ""] * (len(answers[0]) - 1),
    ]
    rows = []
    for i, (name, row) in enumerate(zip(names, answers, strict=True)):
        label = [labels[i] or "–"] if labels else []
        rows.append(
            [name, *label, *(cell for each, p in row for cell in (each, f"{100 * p:.1f} %"))]
        )
    words = [i for i, title in enumerate(head) if title]
    return text_table(Table(head, rows, words)) + "\n"


def _as_csv(names: list[str], answers: list[Answers], labels: Labels) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ranks = range(1, len(answers[0]) + 1)
    head = ["file", *(["label"] if labels else [])]
    writer.writerow([*head, *(f"{what}_{n}" for n in ranks for what in ("class", "probability"))])
    for i, (name, row) in enumerate(zip(names, answers, strict=True)):
        cells = [name, *([labels[i] or ""] if labels else [])]
        for each, p in row:
            # Class names come from JSON and may contain lone surrogates. File names may contain any bytes.
            cells += [each.encode(errors="backslashreplace").decode(), f"{p:.6f}"]
        # A spreadsheet would compute a cell that starts like a formula.
        formula = [cell[:1] in tuple("=+-@\t\r") and cell != "-" for cell in cells]
        writer.writerow(["'" * marked + cell for marked, cell in zip(formula, cells, strict=True)])
    return text.getvalue()


def _as_json(names: list[str], answers: list[Answers], labels: Labels) -> str:
    rows = [
        {"file": name}
        | ({"label": labels[i]} if labels else {})
        | {"classes": [{"class": c, "probability": round(p, 6)} for c, p in row]}
        for i, (name, row) in enumerate(zip(names, answers, strict=True))
    ]
    return "[\n{}\n]\n".format(",\n".join(map(json.dumps, rows)))


FORMATS = {"table": _as_table, "csv": _as_csv, "json": _as_json}


def _caption(name: str, most: int = 80) -> str:
    from fidle_jax.report.style import short

    return printable(short(name, most))


def _draw_sheet(
    sheet: Path, run: str, names: list[str], images: "list[np.ndarray]", answers: list[Answers]
) -> None:
    import numpy as np

    from fidle_jax.report.pictures import draw_gallery
    from fidle_jax.report.style import png

    best = [row[0] for row in answers[:IMAGES_PER_SHEET]]
    unsure = [p < UNSURE for _, p in best]
    title = f"{_caption(run, 30)}: {len(best):,} of {len(names):,} images"
    figure = draw_gallery(
        np.stack(images[: len(best)]),
        [
            [_caption(Path(name).name), f"{_caption(each)}  {100 * p:.1f} %"]
            for name, (each, p) in zip(names, best, strict=False)
        ],
        unsure,
        f"{title}; framed: less than {100 * UNSURE:.0f} %" if any(unsure) else title,
    )
    with as_input_error(sheet, "--sheet"):
        write_atomically(sheet, png(figure))
    print(f"sheet: {sheet} with {len(best):,} of {len(names):,} images", file=sys.stderr)
