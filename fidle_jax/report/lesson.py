"""The page of a lesson: text, tables, figures and slides that a teacher would project."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from fidle_jax.report.html import Picture, page_template
from fidle_jax.report.style import png

COLOURS = 128  # of an animation


@dataclass(frozen=True)
class Table:
    """Rows under a head.

    Attributes:
        head: the columns' names.
        rows: of as many cells each.
        words: places of the columns of words, which begin at the left; the others are numbers.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = (0,)


@dataclass(frozen=True)
class Slides:
    """Pictures one after the other, of one size; ``caption`` says what to see.

    Attributes:
        name: of the file that has them as an animation.
        title: for who cannot see them.
        pngs: the pictures.
        labels: of each, in a few words.
        seconds: that each is shown.
    """

    name: str
    title: str
    caption: str
    pngs: Sequence[bytes]
    labels: Sequence[str]
    seconds: float = 0.8

    def gif(self) -> bytes:
        """All of them as an animated GIF that starts again at its end."""
        frames = [Image.open(io.BytesIO(each)).convert("RGB") for each in self.pngs]
        # The same colours for all: with a palette of each frame's own they would flicker.
        palette = Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames]))
        palette = palette.quantize(COLOURS)
        first, *rest = [
            frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
        ]
        buffer = io.BytesIO()
        milliseconds = round(1000 * self.seconds)
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
        return buffer.getvalue()


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        text: paragraphs, an empty line between two.
        shown: what follows it, in this order.
    """

    title: str
    text: str = ""
    shown: Sequence[Picture | Slides | Table] = ()


def picture(name: str, title: str, caption: str, figure: Figure) -> Picture:
    """A figure of the page, drawn; ``name`` is its file's, ``caption`` says what to see."""
    return Picture(name, title, caption, png(figure))


def render_lesson(
    title: str, summary: str, facts: dict[str, str], sections: Sequence[Section], command: str
) -> str:
    """The page, in one file.

    Args:
        title: its heading.
        summary: what the lesson shows, in a few sentences.
        facts: the numbers that are to be remembered, by name.
        sections: in this order.
        command: what a person would type to have it again.
    """
    return page_template("lesson.html.j2").render(
        title=title,
        summary=summary,
        facts=facts,
        sections=[
            (each.title, each.text.split("\n\n") if each.text else [], each.shown)
            for each in sections
        ],
        kind=lambda shown: type(shown).__name__,
        command=command,
    )


def text_table(table: Table) -> str:
    """The table for a terminal."""
    rows = [list(map(str, row)) for row in (table.head, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place in table.words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
