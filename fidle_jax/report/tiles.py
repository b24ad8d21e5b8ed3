"""Sheets of small pictures in a grid of cells, each above some text."""

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fidle_jax.report.style import LINES, SMALL, WIDTH

GAP = 0.05  # around a picture, in cells
LETTER = SMALL  # points
LINE = 1.3 * LETTER / 72  # inches


def sheet(columns: float, height: float, cell: float) -> tuple[Figure, Axes]:
    """Return a figure with ``columns`` by ``height`` cells of ``cell`` inches."""
    figure = Figure(figsize=(columns * cell, height * cell), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(height, 0)
    return figure, axes


def letters_of(columns: float) -> int:
    """Return the number of letters of average width that fit in a cell."""
    return int(WIDTH / columns / (0.68 * LETTER / 72))


def place(
    axes: Axes,
    image: UInt8[np.ndarray, "height width channel"],
    left: float,
    top: float,
    text: str = "",
    colour: str = "black",
    framed: bool | np.bool = False,
    size: float = 1,
) -> None:
    """Draw an image in a square of ``size`` cells, with a text below it."""
    h, w, channels = image.shape
    width, height = (size - 2 * GAP) * np.array([w, h]) / max(w, h)
    corner = (left + (size - width) / 2, top + (size - height) / 2)
    axes.imshow(
        image.squeeze(axis=2) if channels == 1 else image,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(corner[0], corner[0] + width, corner[1] + height, corner[1]),
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
    """Write a text that is centred at ``x``."""
    how = {"ha": "center", "va": "top", "linespacing": 1.15}
    axes.text(x, top, text, color=colour, fontsize=size, **how)
