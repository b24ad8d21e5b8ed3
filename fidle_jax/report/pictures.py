"""Figures of examples: a page of predictions, the worst errors, and what augmentation makes of one."""

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from fidle_jax.report.style import BLUE, VERMILLION, WIDTH, longest, wrapped
from fidle_jax.report.tiles import LINE, letters_of, place, sheet, write

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
    letters = letters_of(columns)
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
    letters = letters_of(columns)
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
    inch = (first + columns) / WIDTH  # in cells
    height = max(-(-len(versions) // columns), size + 5 * LINE * inch)
    figure, axes = sheet(first + columns, height, 1 / inch)
    place(axes, image, 0, 0, size=size)
    others = np.unique(labels[labels != label])
    names = [(class_names[label], BLUE)]
    names += [(f"framed: {class_names[k]}", VERMILLION) for k in others]
    top = size
    for name, colour in names:
        lines = wrapped(name, size * letters_of(first + columns), 3)
        write(axes, size / 2, top, "\n".join(lines), colour)
        top += (len(lines) + 0.3) * LINE * inch
    for number, (version, k) in enumerate(zip(versions, labels, strict=True)):
        row, column = divmod(number, columns)
        place(axes, version, first + column, row, colour=VERMILLION, framed=k != label)
    return figure


def _gallery(
    images: UInt8[np.ndarray, "n h w c"],
    texts: list[str],
    columns: int,
    colours: np.ndarray,
    framed: np.ndarray,
) -> Figure:
    """The images row by row, each with its text below, in its colour."""
    tops = _tops(texts, columns)
    figure, axes = sheet(min(len(texts), columns), tops[-1], WIDTH / columns)
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(number, columns)
        place(axes, image, column, tops[row], text, colours[number], framed[number])
    return figure


def _tops(texts: list[str], columns: int) -> Float[np.ndarray, "row"]:
    """Where each row begins, and the last ends, in widths of a cell; each has room for its texts."""
    rows = [texts[start : start + columns] for start in range(0, len(texts), columns)]
    lines = np.array([max(text.count("\n") + 1 for text in row) for row in rows])
    return np.cumsum([0, *(1 + (lines * LINE + 0.12) * columns / WIDTH)])
