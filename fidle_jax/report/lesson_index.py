"""The page that leads to those of all lessons."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fidle_jax.report.html import page_template

THUMBNAIL = (580, 380)  # pixels, twice as many as are shown


@dataclass(frozen=True)
class Card:
    """A lesson on the index.

    Attributes:
        name: its name.
        failure: why it has no page; empty where it has one, and then the others are filled.
        title: of its page, as is ``summary``.
        seconds: that it took.
        page: where its page is, seen from the index.
        thumbnail: a picture of it, PNG.
    """

    name: str
    failure: str = ""
    title: str = ""
    summary: str = ""
    seconds: float = 0.0
    page: str = ""
    thumbnail: bytes = b""


def thumbnail(figure: Path) -> bytes:
    """The picture in that file, the last of an animation, made small, as PNG."""
    with Image.open(figure) as image:
        image.seek(getattr(image, "n_frames", 1) - 1)
        small = image.convert("RGB")
    small.thumbnail(THUMBNAIL)
    buffer = io.BytesIO()
    small.quantize(64).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def render_index(cards: Sequence[Card], quick: bool, command: str) -> str:
    """The page, in one file; ``quick`` says that the lessons had a small budget."""
    return page_template("lesson_index.html.j2").render(cards=cards, quick=quick, command=command)
