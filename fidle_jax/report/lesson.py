"""Pages of sections with text, tables, figures and slides, and the index page of the lessons."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fidle_jax.errors import printable
from fidle_jax.files import write_atomically, write_json
from fidle_jax.nn.graph import Node
from fidle_jax.nn.table import Row
from fidle_jax.report.html import load_template
from fidle_jax.report.network_page import encode, explorer_data, pack_weights, read_scripts
from fidle_jax.train.run_dir import hold

COLOURS = 128  # of an animation
THUMBNAIL = (580, 380)  # pixels, twice the displayed size


@dataclass(frozen=True)
class Table:
    """A table of strings."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = (0,)  # columns with words, aligned left; the others contain numbers


@dataclass(frozen=True)
class Slides:
    """Images of equal size that are shown one after the other."""

    pngs: Sequence[bytes]
    labels: Sequence[str]  # short, one of each image
    seconds: float = 0.8  # display time of an image

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
class DrawingNetwork:
    """Layers that the page computes on the reader's drawing, with the numbers behind each value."""

    nodes: Sequence[Node]
    layers: Sequence[Row]
    maps: Mapping[str, Sequence[str]]  # names of the output channels, by layer
    side: int  # of the drawing, in pixels
    start: Sequence[Sequence[Sequence[float]]]  # strokes of the first drawing, from 0 to 1

    def data(self) -> dict[str, Any]:
        """Return what the page needs as JSON."""
        found = explorer_data(self.nodes, self.layers)
        for name, maps in self.maps.items():
            found["layers"][name]["maps"] = maps
        weights = encode(pack_weights(self.nodes))
        own = {"side": self.side, "start": self.start, "open": self.nodes[0].name}
        return found | own | {"weights": weights, "classNames": []}


@dataclass(frozen=True)
class Picture:
    """A figure of a page."""

    name: str  # file name without suffix
    title: str  # alternative text
    caption: str
    png: bytes  # of the figure, or of the last slide
    slides: Slides | None = None  # of an animation


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    title: str
    text: str = ""  # paragraphs, separated by empty lines; other white space has no meaning
    shown: Sequence[Picture | Table | DrawingNetwork] = ()  # below the text


@dataclass(frozen=True)
class Page:
    """Content of a page."""

    title: str
    summary: str  # first paragraph
    facts: dict[str, str]  # the key numbers, formatted, by name
    sections: Sequence[Section]

    @property
    def pictures(self) -> dict[str, Picture]:
        """All figures by name."""
        shown = (each for section in self.sections for each in section.shown)
        return {each.name: each for each in shown if isinstance(each, Picture)}


def write_page(
    run_dir: Path, page: Page, command: str, numbers: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the figures, report.html and JSON files to the new directory ``run_dir``.

    ``command`` created the page. ``numbers`` maps the name of each JSON file to its content.
    """
    with hold(run_dir):
        (run_dir / "figures").mkdir(exist_ok=True)
        for name, each in page.pictures.items():
            file, data = f"{name}.png", each.png
            if each.slides:
                file, data = f"{name}.gif", each.slides.gif()
            write_atomically(run_dir / "figures" / file, data)
        for name, content in numbers.items():
            write_json(run_dir / name, content)
        write_atomically(run_dir / "report.html", render_page(page, command))


def render_page(page: Page, command: str) -> str:
    """Render the page as one HTML file. ``command`` is the command that created it."""
    shown = (each for section in page.sections for each in section.shown)
    drawing = next((each.data() for each in shown if isinstance(each, DrawingNetwork)), None)
    return load_template("lesson.html.j2").render(
        page=page,
        paragraphs=lambda text: re.split(r"\n\s*\n", text),
        command=command,
        drawing=drawing,
        scripts=read_scripts("engine", "pixels", "board", "explain", "explorer", "lesson_drawing"),
    )


def text_section(section: Section) -> str:
    """Format the title and the tables of a section for a terminal. Return "" without tables."""
    tables = [text_table(each) for each in section.shown if isinstance(each, Table)]
    return "\n\n".join([section.title, *tables]) + "\n" if tables else ""


def text_table(table: Table) -> str:
    """Format the table for a terminal."""
    rows = [[printable(str(cell)) for cell in row] for row in (table.head, *table.rows)]
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
    thumbnail: bytes = b""


def thumbnail(png: bytes) -> bytes:
    """Return a small version of a PNG file."""
    with Image.open(io.BytesIO(png)) as image:
        small = image.convert("RGB")
    small.thumbnail(THUMBNAIL)
    buffer = io.BytesIO()
    # Other methods merge the blue and green curves of a small picture.
    small.quantize(64, method=Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def render_index(cards: Sequence[Card], quick: bool, command: str) -> str:
    """Render the index page as one HTML file. ``quick`` announces the smaller budget."""
    return load_template("lesson_index.html.j2").render(cards=cards, quick=quick, command=command)
