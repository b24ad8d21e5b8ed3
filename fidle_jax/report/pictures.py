"""Figures of examples: a page of predictions, the worst errors, and what augmentation makes of one."""

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fidle_jax.report.style import BLUE, LINES, SMALL, VERMILLION, WIDTH, longest, wrapped

GAP = 0.05  # around a picture, in widths of a cell
LINE = 1.3 * SMALL / 72  # inches
BRIEF = 3  # letters: such names stand beside each other in a line


def predictions(
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, "n"],
    predicted: Int[np.ndarray, "n"],
    class_names: list[str],
) -> Figure:
    """Up to 60 examples, evenly spaced, with what each was taken for; wrong ones framed."""
    brief = longest(class_names) <= BRIEF
    columns, rows = (10, 6) if brief else (5, 8)
    shown = np.linspace(0, len(labels) - 1, min(len(labels), columns * rows)).astype(int)
    wrong = labels[shown] != predicted[shown]
    letters = _letters(columns)
    texts = []
    for i in shown:
        truth, guess = class_names[labels[i]], class_names[predicted[i]]
        if labels[i] == predicted[i]:
            lines = wrapped(guess, letters, 3)
        elif brief:
            lines = [f"{guess} (is {truth})"]
        else:
            lines = [*wrapped(guess, letters, 3), *wrapped(f"is {truth}", letters, 3)]
        texts.append("\n".join(lines))
    colours = np.where(wrong, VERMILLION, BLUE)
    return _gallery(images[shown], texts, columns, colours, framed=wrong)


def worst_errors(
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, "n"],
    probabilities: Float[np.ndarray, "n classes"],
    class_names: list[str],
) -> Figure:
    """Each example, one at least, with its class, what it was taken for, and both probabilities."""
    brief = longest(class_names) <= BRIEF
    columns = 5
    letters = _letters(columns)
    texts = []
    for label, row in zip(labels, probabilities, strict=True):
        truth, guess = class_names[label], class_names[row.argmax()]
        if brief:
            verdict = [f"{truth} taken for {guess}"]
        else:
            verdict = [*wrapped(truth, letters, 3), "taken for", *wrapped(guess, letters, 3)]
        texts.append("\n".join([*verdict, f"{row.max():.2f}; true {row[label]:.2f}"]))
    nothing = np.zeros(len(labels), bool)
    return _gallery(images, texts, columns, np.full(len(labels), "black"), framed=nothing)


def augmented(
    image: UInt8[np.ndarray, "h w c"],
    label: int,
    versions: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, "n"],
    class_names: list[str],
) -> Figure:
    """The image with its class, and its versions beside it; those of another class are framed."""
    columns, size, first = 8, 2, 2.2
    inch = (first + columns) / WIDTH
    figure, axes = _canvas(
        first + columns, max(-(-len(versions) // columns), size + 5 * LINE * inch), inch
    )
    _place(axes, image, (0, 0), BLUE, framed=False, size=size)
    others = np.unique(labels[labels != label])
    names = [(class_names[label], BLUE)]
    names += [(f"framed: {class_names[k]}", VERMILLION) for k in others]
    top = size
    for name, colour in names:
        lines = wrapped(name, size * _letters(first + columns), 3)
        _write(axes, "\n".join(lines), (size / 2, top), colour)
        top += (len(lines) + 0.3) * LINE * inch
    for place, (version, k) in enumerate(zip(versions, labels, strict=True)):
        row, column = divmod(place, columns)
        _place(axes, version, (first + column, row), VERMILLION, framed=k != label)
    return figure


def _letters(columns: float) -> int:
    """How many letters of average width fit in a cell."""
    return int(WIDTH / columns / (0.68 * SMALL / 72))


def _gallery(
    images: UInt8[np.ndarray, "n h w c"],
    texts: list[str],
    columns: int,
    colours: np.ndarray,
    framed: np.ndarray,
) -> Figure:
    """The images row by row, each with its text below, in its colour."""
    tops = _tops(texts, columns)
    figure, axes = _canvas(min(len(texts), columns), tops[-1], columns / WIDTH)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        _place(axes, image, (column, tops[row]), colours[place], framed[place])
        _write(axes, texts[place], (column + 0.5, tops[row] + 1), colours[place])
    return figure


def _tops(texts: list[str], columns: int) -> Float[np.ndarray, "rows+1"]:
    """Where each row begins, and the last ends, in widths of a cell; each has room for its texts."""
    rows = [texts[start : start + columns] for start in range(0, len(texts), columns)]
    lines = np.array([max(text.count("\n") + 1 for text in row) for row in rows])
    return np.cumsum([0, *(1 + (lines * LINE + 0.12) * columns / WIDTH)])


def _canvas(width: float, height: float, inch: float) -> tuple[Figure, Axes]:
    """A figure of so many cells; ``inch`` of them are one inch."""
    figure = Figure(figsize=(width / inch, height / inch), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return figure, axes


def _place(
    axes: Axes,
    image: UInt8[np.ndarray, "h w c"],
    place: tuple[float, float],
    colour: str,
    framed: bool,
    size: float = 1,
) -> None:
    """The image in a cell of ``size`` whose left and top are ``place``."""
    h, w, _ = image.shape
    width, height = (size - 2 * GAP) * np.array([w, h]) / max(w, h)
    corner = (place[0] + (size - width) / 2, place[1] + (size - height) / 2)
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


def _write(axes: Axes, text: str, place: tuple[float, float], colour: str) -> None:
    axes.text(*place, text, ha="center", va="top", color=colour, fontsize=SMALL, linespacing=1.15)
