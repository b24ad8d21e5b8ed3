"""Figures of test examples: a page of predictions, and the worst errors."""

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fidle_jax.report.style import BLUE, LINES, TEXT, VERMILLION, WIDTH, longest, short

GAP = 0.05  # around a picture, in widths of a cell
LETTER = TEXT - 1  # points
LINE = 1.3 * LETTER / 72  # inches


def predictions(
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, "n"],
    predicted: Int[np.ndarray, "n"],
    class_names: list[str],
) -> Figure:
    """Up to 60 examples, evenly spaced, with what each was taken for; wrong ones framed."""
    brief = longest(class_names) <= 3
    columns, rows = (10, 6) if brief else (6, 6)
    shown = np.linspace(0, len(labels) - 1, min(len(labels), columns * rows)).astype(int)
    figure, axes, pitch = _grid(len(shown), columns, lines=1 if brief else 2)
    letters = _letters(columns)
    for place, i in enumerate(shown):
        truth, guess = class_names[labels[i]], class_names[predicted[i]]
        wrong = labels[i] != predicted[i]
        text = short(guess, letters)
        if wrong:
            text = f"{guess} (is {truth})" if brief else f"{text}\nis {short(truth, letters - 3)}"
        row, column = divmod(place, columns)
        _place(axes, images[i], column, row * pitch, text, VERMILLION if wrong else BLUE, wrong)
    return figure


def worst_errors(
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, "n"],
    probabilities: Float[np.ndarray, "n classes"],
    class_names: list[str],
) -> Figure:
    """Each example, one at least, with its class, what it was taken for, and both probabilities."""
    brief = longest(class_names) <= 3
    columns = 5
    figure, axes, pitch = _grid(len(labels), columns, lines=2 if brief else 4)
    letters = _letters(columns)
    for place, (image, label, row_p) in enumerate(zip(images, labels, probabilities, strict=True)):
        truth, guess = (short(class_names[k], letters) for k in (label, row_p.argmax()))
        verdict = f"{truth} taken for {guess}" if brief else f"{truth}\ntaken for\n{guess}"
        text = f"{verdict}\n{row_p.max():.2f}; true {row_p[label]:.2f}"
        row, column = divmod(place, columns)
        _place(axes, image, column, row * pitch, text, "black", framed=False)
    return figure


def _grid(count: int, columns: int, lines: int) -> tuple[Figure, Axes, float]:
    """A figure ruled in cells one unit wide; the last of the three is the distance of two rows."""
    inch = columns / WIDTH
    pitch = 1 + (lines * LINE + 0.12) * inch
    rows, columns = -(-count // columns), min(count, columns)
    figure = Figure(figsize=(columns / inch, rows * pitch / inch), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(rows * pitch, 0)
    return figure, axes, pitch


def _letters(columns: int) -> int:
    """How many letters of average width fit in a cell."""
    return int(WIDTH / columns / (0.68 * LETTER / 72))


def _place(
    axes: Axes, image: np.ndarray, left: float, top: float, text: str, colour: str, framed: bool
) -> None:
    h, w, _ = image.shape
    width, height = (1 - 2 * GAP) * np.array([w, h]) / max(w, h)
    corner = (left + (1 - width) / 2, top + (1 - height) / 2)
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
    axes.text(
        left + 0.5,
        top + 1,
        text,
        ha="center",
        va="top",
        color=colour,
        fontsize=LETTER,
        linespacing=1.15,
    )
