"""What a finished run's network takes image files for: the likeliest classes of each.

Digits are found on their paper, dark or light, and normalised as MNIST was; traffic signs are scaled and
treated as the run's data set was.
"""

import dataclasses
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from _answers import FORMATS, Top, write_out

from fidle_jax.cli.terminal import (
    FAILED,
    WRONG_INPUT,
    enable_compilation_cache,
    exit_with,
    fail,
    parse_flags,
    set_up_output,
)
from fidle_jax.errors import InputError
from fidle_jax.train.signals import Stop

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from fidle_jax.inference.load import Trained

USUAL_TOP = 3
MOST_SHEETS = 10
STDIN = Path("-")

_log = logging.getLogger("fidle_jax")


@dataclasses.dataclass(frozen=True)
class Flags:
    """Which images, and how to tell what they are."""

    run_dir: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """The directory of a finished run."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")] = ()
    """Image files; folders, for all images within them; - for standard input."""
    top: int | None = None
    """How many classes to tell of each image (default: 3)."""
    format: Literal["table", "csv", "json"] = "table"
    """What is printed: a table for people, or CSV or JSON for programs."""
    sheet: Path | None = None
    """A new PNG file with the images as the network saw them and its answers; what does not fit goes on to
    files that end in -2.png, -3.png, ..."""
    debug: bool = False
    """Show the traceback of an error."""


def main(stop: Stop) -> int:
    """Prints the answers, and draws the sheets that are asked for."""
    flags = parse_flags(__doc__, Flags())
    if not flags.images:
        raise InputError("expected a run's directory and then images: predict.py RUN IMAGE ...")
    if flags.sheet is not None:
        _check_sheet(flags.sheet)
    set_up_output()
    with stop.defer():
        import numpy as np

        from fidle_jax.inference.classify import classify, likeliest
        from fidle_jax.inference.load import load
    stop.check()
    enable_compilation_cache()
    trained = load(flags.run_dir)
    classes = len(trained.class_names)
    top = min(USUAL_TOP, classes) if flags.top is None else flags.top
    if not 1 <= top <= classes:
        raise InputError(f"--top is {top}; expected 1 to {classes}, the number of classes")
    if trained.config.data.crop == "roi":
        _log.warning("the network knows signs cut out of their photographs: give images cut so too")
    names, images, failures = _read(flags.images, trained)
    for failure in failures:
        fail(failure, FAILED)
    if not images:
        return WRONG_INPUT
    images = np.stack(images)
    labels, shares = likeliest(classify(trained, images), top)
    tops = [
        [(trained.class_names[label], float(share)) for label, share in zip(*answer, strict=True)]
        for answer in zip(labels, shares, strict=True)
    ]
    write_out(FORMATS[flags.format](names, tops))
    if flags.sheet is not None:
        _draw(flags.sheet, flags.run_dir.resolve().name, names, images, tops)
    return FAILED if failures else 0


def _check_sheet(sheet: Path) -> None:
    if sheet.suffix.lower() != ".png":
        raise InputError(f"--sheet is {sheet}; expected a name that ends in .png")
    if not sheet.absolute().parent.is_dir():
        raise InputError(f"--sheet is {sheet}, in a folder that is not there; make it first")
    for path in _sheet_paths(sheet, MOST_SHEETS):
        if path.exists():
            raise InputError(f"--sheet: {path} is there already; give another name")


def _sheet_paths(sheet: Path, count: int) -> list[Path]:
    return [sheet, *(sheet.with_stem(f"{sheet.stem}-{n}") for n in range(2, count + 1))]


def _read(
    sources: tuple[Path, ...], trained: "Trained"
) -> tuple[list[str], list["UInt8[np.ndarray, 'height width channel']"], list[InputError]]:
    """The names of all images that could be read, what the network is given of them, and the errors."""
    from tqdm import tqdm

    names, images, failures = [], [], []
    for path in tqdm(_files(sources, failures), unit="image", disable=None, leave=False):
        try:
            images.append(_prepared(path, trained))
            names.append(str(path))
        except InputError as error:
            failures.append(error)
    return names, images, failures


def _prepared(path: Path, trained: "Trained") -> "UInt8[np.ndarray, 'height width channel']":
    from fidle_jax.inference.files import read_image
    from fidle_jax.inference.prepare import prepare

    name = "standard input" if path == STDIN else str(path)
    image = read_image(_standard_input() if path == STDIN else path, name)
    try:
        return prepare(image, trained)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _files(sources: tuple[Path, ...], failures: list[InputError]) -> list[Path]:
    """Each file, those within folders too; folders without any are added to the failures."""
    from fidle_jax.inference.files import image_files

    files = []
    for source in sources:
        try:
            files += image_files(source) if source.is_dir() else [source]
        except InputError as error:
            failures.append(error)
    return files


def _standard_input() -> bytes:
    from fidle_jax.inference.files import LARGEST_BYTES

    content = sys.stdin.buffer.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise InputError(f"standard input has more than the {LARGEST_BYTES:,} bytes that are read")
    return content


def _draw(sheet: Path, run: str, names: list[str], images, tops: list[Top]) -> None:
    """Writes the sheets, and says where they are."""
    import numpy as np

    from fidle_jax.files import write_atomically
    from fidle_jax.report.contact_sheet import PER_SHEET, contact_sheet
    from fidle_jax.report.style import png, short

    drawn = min(len(names), MOST_SHEETS * PER_SHEET)
    paths = _sheet_paths(sheet, -(-drawn // PER_SHEET))
    for number, path in enumerate(paths):
        part = slice(number * PER_SHEET, min((number + 1) * PER_SHEET, drawn))
        answers, shares = zip(*(top[0] for top in tops[part]), strict=True)
        figure = contact_sheet(
            images[part],
            [Path(name).stem for name in names[part]],
            list(answers),
            np.array(shares),
            f"{short(run, 30)}: images {part.start + 1:,} to {part.stop:,} of {len(names):,}",
        )
        try:
            write_atomically(path, png(figure))
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from error
    rest = f"; {len(names) - drawn:,} images are not drawn" if drawn < len(names) else ""
    print(f"sheet: {', '.join(map(str, paths))}{rest}", file=sys.stderr)


if __name__ == "__main__":
    exit_with(main, "interrupted")
