"""Shared parts of the pages on trained networks: texts, galleries of images, and writing the files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.figure import Figure

from fidle_jax.files import write_atomically, write_json
from fidle_jax.report.html import Picture
from fidle_jax.report.lesson import Section, render_lesson
from fidle_jax.report.style import GREY, VERMILLION, WIDTH, longest, short, wrapped
from fidle_jax.report.tiles import LETTER, LINE, letters_of, place, sheet, write
from fidle_jax.train.run_dir import hold

SHORT = 3  # letters; shorter class names are written next to each other
TITLE_HEIGHT = 0.5  # inches


def text_template(name: str) -> Template:
    """Load a template of plain text from this package."""
    environment = Environment(
        loader=PackageLoader("fidle_jax.inference", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def read_texts(name: str, **values: Any) -> dict[str, tuple[str, str]]:
    """Return title and text of each section of a template. A section starts with ``## key: title``."""
    text = text_template(name).render(**values)
    _, *parts = re.split(r"^## (\w+): (.*)\n", text, flags=re.MULTILINE)
    return {
        key: (title, content.strip())
        for key, title, content in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


def write_page(
    run_dir: Path,
    title: str,
    summary: str,
    facts: dict[str, str],
    sections: Sequence[Section],
    command: str,
    numbers: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the figures, report.html and JSON files to the new directory ``run_dir``.

    ``numbers`` maps the name of each JSON file to its content.
    """
    with hold(run_dir):
        (run_dir / "figures").mkdir(exist_ok=True)
        for shown in (each for section in sections for each in section.shown):
            if isinstance(shown, Picture) and shown.png is not None:
                write_atomically(run_dir / "figures" / f"{shown.name}.png", shown.png)
        for name, content in numbers.items():
            write_json(run_dir / name, content)
        page = render_lesson(title, summary, facts, sections, command)
        write_atomically(run_dir / "report.html", page)


def draw_gallery(
    images: UInt8[np.ndarray, "n height width channel"],
    answers: Sequence[Sequence[str]],
    names: Sequence[str] = (),
    framed: Sequence[bool] | np.ndarray = (),
    title: str = "",
) -> Figure:
    """Draw images in a grid.

    Args:
        images: At least one image.
        answers: Lines of text below each image. If they are short, they become one line.
        names: Name of each image, written in grey below its answers.
        framed: Boolean mask of the images with a coloured frame.
        title: Line at the top.
    """
    brief = longest([line for lines in answers for line in lines]) <= SHORT + 5
    columns = 8 if brief else 5
    cell, letters = WIDTH / columns, letters_of(columns)
    texts = ["  ".join(lines) for lines in answers]
    if not brief:
        texts = [
            "\n".join(part for line in lines for part in wrapped(line, letters, 3))
            for lines in answers
        ]
    inches = [TITLE_HEIGHT if title else 0.0]
    for start in range(0, len(texts), columns):
        lines = max(text.count("\n") + 1 for text in texts[start : start + columns])
        inches.append(cell + (lines + bool(names)) * LINE + 0.12)
    tops = np.cumsum(inches) / cell
    figure, axes = sheet(min(columns, len(texts)) if not title else columns, tops[-1], cell)
    axes.text(0.05, tops[0] / 2, title, va="center", fontsize=LETTER)
    for i, (image, text) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(i, columns)
        has_frame = bool(len(framed)) and framed[i]
        colour = VERMILLION if has_frame else "black"
        place(axes, image, column, tops[row], text, colour, framed=has_frame)
        if names:
            below = tops[row] + 1 + (1 + text.count("\n")) * LINE / cell
            write(axes, column + 0.5, below, short(names[i], letters), GREY)
    return figure
