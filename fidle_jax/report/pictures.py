"""Figures of examples: galleries, predictions, worst errors, and augmented images."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.figure import Figure

from fidle_jax.report.style import GREY, VERMILLION, WIDTH, longest, short, wrapped
from fidle_jax.report.tiles import LETTER, LINE, letters_of, place, sheet, write
from fidle_jax.train.run_dir import Augmented

SHORT = 3  # letters; shorter class names are written next to each other
TITLE_HEIGHT = 0.5  # inches
MOST_PREDICTIONS = 40
MOST_LETTERS = 90  # of a title

Images = UInt8[np.ndarray, "batch height width channel"]


def draw_gallery(
    images: Images,
    answers: Sequence[Sequence[str]],
    names: Sequence[str] = (),
    framed: Sequence[bool] | Bool[np.ndarray, " batch"] = (),
    title: str = "",
    columns: int | None = None,
) -> Figure:
    """Draw images in a grid.

    Args:
        images: At least one image.
        answers: Lines of text below each image. If they are short, they become one line.
        names: Name of each image, written in grey below its answers.
        framed: Boolean mask of the images with a coloured frame.
        title: Line at the top.
        columns: Number of images in a row (default: depends on the length of the answers).
    """
    brief = longest([line for lines in answers for line in lines]) <= SHORT + 5
    columns = columns or (8 if brief else 5)
    cell, letters = WIDTH / columns, letters_of(columns)
    texts = ["  ".join(lines) for lines in answers]
    if not brief:
        texts = [
            "\n".join(part for line in lines for part in wrapped(line, letters, 3))
            for lines in answers
        ]
    inches = [TITLE_HEIGHT if title else 0.0]
    for start in range(0, len(texts), columns):
        lines = max(text.count("\n") + 1 for text in texts[start : start + columns])
        inches.append(cell + (lines + bool(names)) * LINE + 0.12)
    tops = np.cumsum(inches) / cell
    figure, axes = sheet(min(columns, len(texts)) if not title else columns, tops[-1], cell)
    if title:
        axes.text(0.05, tops[0] / 2, title, va="center", fontsize=LETTER)
    for i, (image, text) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(i, columns)
        has_frame = bool(len(framed)) and framed[i]
        colour = VERMILLION if has_frame else "black"
        place(axes, image, column, tops[row], text, colour, framed=has_frame)
        if names:
            below = tops[row] + 1 + (1 + text.count("\n")) * LINE / cell
            write(axes, column + 0.5, below, short(names[i], letters), GREY)
    return figure


def predictions(
    images: Images,
    labels: Int[np.ndarray, " batch"],
    predicted: Int[np.ndarray, " batch"],
    class_names: list[str],
) -> Figure:
    """Draw up to 40 evenly spaced examples with their predictions. Errors are framed."""
    shown = np.linspace(0, len(labels) - 1, min(len(labels), MOST_PREDICTIONS)).astype(int)
    wrong = labels[shown] != predicted[shown]
    answers = [
        [class_names[predicted[i]], *([f"is {class_names[labels[i]]}"] if error else [])]
        for i, error in zip(shown, wrong, strict=True)
    ]
    return draw_gallery(images[shown], answers, framed=wrong)


def worst_errors(
    images: Images,
    labels: Int[np.ndarray, " batch"],
    probabilities: Float[np.ndarray, "batch classes"],
    class_names: list[str],
) -> Figure:
    """Draw at least one error with the true and the predicted class and both probabilities."""
    answers = []
    for label, row in zip(labels, probabilities, strict=True):
        guess, truth = class_names[row.argmax()], class_names[label]
        answers.append([guess, f"is {truth}", f"{row.max():.2f}; true {row[label]:.2f}"])
    return draw_gallery(images, answers)


def augmented(found: Augmented, class_names: list[str]) -> Figure:
    """Draw an image, then its augmented versions. Versions of another class are framed."""
    framed = found.labels != found.label
    title = class_names[found.label]
    if framed.any():
        others = [class_names[k] for k in np.unique(found.labels[framed])]
        title += f"; framed: {', '.join(others)}"
    images = np.concatenate([found.image[None], found.versions])
    answers = [["original"], *([""] for _ in found.versions)]
    return draw_gallery(
        images, answers, framed=np.insert(framed, 0, False), title=short(title, MOST_LETTERS)
    )
