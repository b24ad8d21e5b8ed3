"""Small pictures in a grid, each with some words below it."""

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fidle_jax.report.style import LINES, SMALL, WIDTH

GAP = 0.05  # around a picture, in widths of a cell
LETTER = SMALL  # points
LINE = 1.3 * LETTER / 72  # inches


def sheet(columns: float, height: float, cell: float) -> tuple[Figure, Axes]:
    """A figure ruled in cells one unit wide, so many across and down, of so many inches each."""
    figure = Figure(figsize=(columns * cell, height * cell), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(height, 0)
    return figure, axes


def grid(count: int, columns: int, lines: int) -> tuple[Figure, Axes, float]:
    """A sheet for so many cells with lines of text below; the third is the distance of two rows."""
    cell = WIDTH / columns
    pitch = 1 + (lines * LINE + 0.12) / cell
    rows = -(-count // columns)
    figure, axes = sheet(min(count, columns), rows * pitch, cell)
    return figure, axes, pitch


def letters_of(columns: float) -> int:
    """How many letters of average width fit in a cell."""
    return int(WIDTH / columns / (0.68 * LETTER / 72))


def place(
    axes: Axes,
    image: UInt8[np.ndarray, "h w c"],
    left: float,
    top: float,
    text: str = "",
    colour: str = "black",
    framed: bool | np.bool = False,
    size: float = 1,
) -> None:
    """Draws the image, grey or in colour, in the square of ``size`` at that place, with a text below it."""
    h, w, _ = image.shape
    width, height = (size - 2 * GAP) * np.array([w, h]) / max(w, h)
    corner = (left + (size - width) / 2, top + (size - height) / 2)
    extent = (corner[0], corner[0] + width, corner[1] + height, corner[1])
    axes.imshow(
        image.squeeze(axis=2) if image.shape[2] == 1 else image,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=extent,
        aspect="auto",
        interpolation="nearest",
    )
    edge, line = (colour, 4) if framed else (LINES, 0.6)
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=edge, linewidth=line))
    if text:
        write(axes, left + size / 2, top + size, text, colour)


def write(
    axes: Axes, x: float, top: float, text: str, colour: str = "black", size: float = LETTER
) -> None:
    """The text, centred at ``x``, its letters of ``size`` points."""
    axes.text(
        x,
        top,
        text,
        ha="center",
        va="top",
        color=colour,
        fontsize=size,
        linespacing=1.15,
    )
