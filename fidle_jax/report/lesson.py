"""Pages of sections with text, tables, figures and slides, and the index page of the lessons."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from fidle_jax.report.html import Picture, load_template
from fidle_jax.report.style import png

COLOURS = 128  # of an animation
THUMBNAIL = (580, 380)  # pixels, twice the displayed size


@dataclass(frozen=True)
class Table:
    """A table of strings.

    Attributes:
        head: Column names.
        rows: Rows with one cell per column.
        words: Indices of the columns with words, aligned left. The others contain numbers.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = (0,)


@dataclass(frozen=True)
class Slides:
    """Images of equal size that are shown one after the other.

    Attributes:
        name: Name of the animation's file, without suffix.
        title: Alternative text of the images.
        caption: What to see.
        pngs: PNG files of the images.
        labels: Short label of each image.
        seconds: Display time of each image.
    """

    name: str
    title: str
    caption: str
    pngs: Sequence[bytes]
    labels: Sequence[str]
    seconds: float = 0.8

    def gif(self) -> bytes:
        """Return the images as an animated GIF that repeats."""
        # Matplotlib's PillowWriter makes the same call, but would draw every figure a second time.
        frames = [Image.open(io.BytesIO(each)).convert("RGB") for each in self.pngs]
        # One palette for all frames: separate palettes flicker and need three times the bytes.
        palette = Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames]))
        palette = palette.quantize(COLOURS)
        first, *rest = [
            frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
        ]
        buffer = io.BytesIO()
        duration = round(1000 * self.seconds)
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)
        return buffer.getvalue()


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: Heading.
        text: Paragraphs, separated by empty lines. Other white space has no meaning.
        shown: Figures, slides and tables below the text.
    """

    title: str
    text: str = ""
    shown: Sequence[Picture | Slides | Table] = ()


def picture(name: str, title: str, caption: str, figure: Figure) -> Picture:
    """Draw a figure for the page. See `Picture`."""
    return Picture(name, title, caption, png(figure))


def render_lesson(
    title: str, summary: str, facts: dict[str, str], sections: Sequence[Section], command: str
) -> str:
    """Render the page as one HTML file.

    ``facts`` are the key numbers, formatted, by name. ``command`` is the command that created the page.
    """
    return load_template("lesson.html.j2").render(
        title=title,
        summary=summary,
        facts=facts,
        sections=[
            (each.title, re.split(r"\n\s*\n", each.text) if each.text else [], each.shown)
            for each in sections
        ],
        kind=lambda shown: type(shown).__name__,
        command=command,
    )


def text_table(table: Table) -> str:
    """Format the table for a terminal."""
    rows = [list(map(str, row)) for row in (table.head, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i in table.words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


@dataclass(frozen=True)
class Card:
    """A lesson on the index page: links to its page, or states the ``failure`` of the lesson."""

    name: str
    failure: str = ""
    title: str = ""
    summary: str = ""
    seconds: float = 0.0
    page: str = ""
    thumbnail: bytes = b""


def thumbnail(shown: Picture | Slides) -> bytes:
    """Return a small PNG file of a figure, or of the last one of several slides."""
    original = shown.pngs[-1] if isinstance(shown, Slides) else shown.png
    assert original is not None
    with Image.open(io.BytesIO(original)) as image:
        small = image.convert("RGB")
    small.thumbnail(THUMBNAIL)
    buffer = io.BytesIO()
    # Other methods merge the blue and green curves of a small picture.
    small.quantize(64, method=Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def render_index(cards: Sequence[Card], quick: bool, command: str) -> str:
    """Render the index page as one HTML file. ``quick`` announces the smaller budget."""
    return load_template("lesson_index.html.j2").render(cards=cards, quick=quick, command=command)
