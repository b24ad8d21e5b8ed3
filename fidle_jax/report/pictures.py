"""Figures of examples: predictions, worst errors, and augmented images."""

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from fidle_jax.report.style import BLUE, VERMILLION, WIDTH, longest, wrapped
from fidle_jax.report.tiles import LINE, letters_of, place, sheet, write

BRIEF = 3  # letters: shorter names are next to each other on one line

Images = UInt8[np.ndarray, "batch height width channel"]


def predictions(
    images: Images,
    labels: Int[np.ndarray, " batch"],
    predicted: Int[np.ndarray, " batch"],
    class_names: list[str],
) -> Figure:
    """Draw up to 60 evenly spaced examples with their predictions. Errors are framed."""
    brief = longest(class_names) <= BRIEF
    columns, rows = (10, 6) if brief else (5, 8)
    shown = np.linspace(0, len(labels) - 1, min(len(labels), columns * rows)).astype(int)
    wrong = labels[shown] != predicted[shown]
    letters, texts = letters_of(columns), []
    for i in shown:
        truth, guess = class_names[labels[i]], class_names[predicted[i]]
        lines = wrapped(guess, letters, 3)
        if labels[i] != predicted[i]:
            lines = (
                [f"{guess} (is {truth})"]
                if brief
                else [*lines, *wrapped(f"is {truth}", letters, 3)]
            )
        texts.append("\n".join(lines))
    colours = np.where(wrong, VERMILLION, BLUE)
    return _gallery(images[shown], texts, columns, colours, wrong)


def worst_errors(
    images: Images,
    labels: Int[np.ndarray, " batch"],
    probabilities: Float[np.ndarray, "batch classes"],
    class_names: list[str],
) -> Figure:
    """Draw at least one error with the true and the predicted class and both probabilities."""
    brief, columns = longest(class_names) <= BRIEF, 5
    letters, texts = letters_of(columns), []
    for label, row in zip(labels, probabilities, strict=True):
        truth, guess = class_names[label], class_names[row.argmax()]
        if brief:
            lines = [f"{truth} predicted as {guess}"]
        else:
            lines = [*wrapped(truth, letters, 3), "predicted as", *wrapped(guess, letters, 3)]
        texts.append("\n".join([*lines, f"{row.max():.2f}; true {row[label]:.2f}"]))
    colours = np.full(len(labels), "black")
    return _gallery(images, texts, columns, colours, np.zeros(len(labels), bool))


def augmented(
    image: UInt8[np.ndarray, "height width channel"],
    label: int,
    versions: Images,
    labels: Int[np.ndarray, " batch"],
    class_names: list[str],
) -> Figure:
    """Draw an image next to its augmented versions. Versions of another class are framed."""
    columns, size, first = 8, 2, 2.2
    scale = (first + columns) / WIDTH  # cells per inch
    height = max(-(-len(versions) // columns), size + 5 * LINE * scale)
    figure, axes = sheet(first + columns, height, 1 / scale)
    place(axes, image, 0, 0, size=size)
    names = [(class_names[label], BLUE)]
    names += [(f"framed: {class_names[k]}", VERMILLION) for k in np.unique(labels[labels != label])]
    top = float(size)
    for name, colour in names:
        lines = wrapped(name, size * letters_of(first + columns), 3)
        write(axes, size / 2, top, "\n".join(lines), colour)
        top += (len(lines) + 0.3) * LINE * scale
    for number, (version, k) in enumerate(zip(versions, labels, strict=True)):
        row, column = divmod(number, columns)
        place(axes, version, first + column, row, colour=VERMILLION, framed=k != label)
    return figure


def _gallery(
    images: Images, texts: list[str], columns: int, colours: np.ndarray, framed: np.ndarray
) -> Figure:
    """Draw images row by row, each above its text. Rows have the height of their longest text."""
    counts = [text.count("\n") + 1 for text in texts]
    lines = np.array([max(counts[k : k + columns]) for k in range(0, len(texts), columns)])
    tops = np.cumsum([0, *(1 + (lines * LINE + 0.12) * columns / WIDTH)])
    figure, axes = sheet(min(len(texts), columns), tops[-1], WIDTH / columns)
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(number, columns)
        place(axes, image, column, tops[row], text, colours[number], framed[number])
    return figure
