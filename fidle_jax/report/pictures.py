"""Figures of examples: galleries, predictions, worst errors, and augmented images."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fidle_jax.report import style
from fidle_jax.train.near_duplicates import NearDuplicates
from fidle_jax.train.run_content import Augmented, Evaluation

SHORT = 3  # letters; shorter class names are written next to each other
TITLE_HEIGHT = 0.5  # inches
LINE = 1.3 * style.SMALL / 72  # inches
MARGIN, GAP = 0.05, 0.3  # around an image, and between groups of images, in images
MOST_PREDICTIONS = 40
MOST_LETTERS = 90  # of a title

Images = UInt8[np.ndarray, "batch height width channel"]


def draw_gallery(
    images: Images | Sequence[np.ndarray | Sequence[np.ndarray]],
    answers: Sequence[Sequence[str]],
    framed: Sequence[bool] | Bool[np.ndarray, " batch"] = (),
    title: str = "",
    columns: int | None = None,
) -> Figure:
    """Draw images, or groups of images, in a grid of cells.

    Args:
        images: At least one image, or for each cell the images that are drawn next to each other.
        answers: Lines of text below each cell. If they are short, they become one line.
        framed: Boolean mask of the cells with a coloured frame.
        title: Line at the top.
        columns: Number of cells in a row (default: depends on the length of the answers).
    """
    groups = [[each] if np.ndim(each) == 3 else list(each) for each in images]
    most = max(map(len, groups))
    pitch = most + (GAP if most > 1 else 0)
    brief = style.longest([line for lines in answers for line in lines]) <= SHORT + 5
    columns = columns or (8 if brief else 5)
    side = style.WIDTH / columns / pitch
    # Number of letters of average width that fit in a cell.
    letters = int(style.WIDTH / columns / (0.68 * style.SMALL / 72))
    texts = ["  ".join(lines) for lines in answers]
    if not brief:
        texts = [
            "\n".join(part for line in lines for part in style.wrapped(line, letters, 3))
            for lines in answers
        ]
    inches = [TITLE_HEIGHT if title else 0.0]
    for start in range(0, len(texts), columns):
        lines = max(text.count("\n") + 1 for text in texts[start : start + columns])
        inches.append(side + lines * LINE + 0.12)
    tops = np.cumsum(inches) / side
    width = pitch * (columns if title else min(columns, len(texts)))
    figure = style.new_figure(height=tops[-1] * side, width=width * side, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(tops[-1], 0))
    axes.set_axis_off()
    if title:
        axes.text(0.05, tops[0] / 2, title, va="center", fontsize=style.SMALL)
    for i, (group, text) in enumerate(zip(groups, texts, strict=True)):
        row, column = divmod(i, columns)
        colour = style.VERMILLION if len(framed) and framed[i] else "black"
        for k, image in enumerate(group):
            _place(axes, image, column * pitch + k, tops[row], colour)
        look = {"ha": "center", "va": "top", "linespacing": 1.15, "fontsize": style.SMALL}
        x, top = column * pitch + len(group) / 2, tops[row] + 1
        if text:
            axes.text(x, top, text, color=colour, **look)
    return figure


def _place(axes: Axes, image, left: float, top: float, colour: str) -> None:
    """Draw an image in a square of side 1, with a frame if the colour is not black."""
    h, w, channels = image.shape
    width, height = (1 - 2 * MARGIN) * np.array([w, h]) / max(w, h)
    x, y = left + (1 - width) / 2, top + (1 - height) / 2
    axes.imshow(
        image.squeeze(axis=2) if channels == 1 else image,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(x, x + width, y + height, y),
        aspect="auto",
        interpolation="nearest",
    )
    edge, line = (style.LINES, 0.6) if colour == "black" else (colour, 4)
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=edge, linewidth=line))


def evenly_spaced(examples: int, limit: int) -> Int[np.ndarray, " index"]:
    """Return the indices of at most ``limit`` evenly spaced examples."""
    return np.linspace(0, examples - 1, min(examples, limit)).astype(int)


def predictions(data: Evaluation) -> Figure:
    """Draw up to 40 evenly spaced examples with their predictions. Errors are framed."""
    names, shown = data.class_names, evenly_spaced(len(data.labels), MOST_PREDICTIONS)
    labels, predicted = data.labels[shown], data.predicted[shown]
    answers = [
        [names[guess], *([f"is {names[label]}"] if guess != label else [])]
        for label, guess in zip(labels, predicted, strict=True)
    ]
    return draw_gallery(data.images[shown], answers, framed=labels != predicted)


def worst_errors(data: Evaluation) -> Figure:
    """Draw at least one error with the true and the predicted class and both probabilities."""
    names, answers = data.class_names, []
    for label, row in zip(data.labels, data.probabilities, strict=True):
        guess, truth = names[row.argmax()], names[label]
        answers.append([guess, f"is {truth}", f"{row.max():.2f}; true {row[label]:.2f}"])
    return draw_gallery(data.images, answers)


def augmented(found: Augmented, class_names: list[str]) -> Figure:
    """Draw an image, then its augmented versions. Versions of another class are framed."""
    framed = found.labels != found.label
    others = [class_names[k] for k in np.unique(found.labels[framed])]
    title = f"framed: {', '.join(others)}" if others else ""
    images = np.concatenate([found.image[None], found.versions])
    answers = [["original"], *([""] for _ in found.versions)]
    return draw_gallery(
        images, answers, framed=np.insert(framed, 0, False), title=style.short(title, MOST_LETTERS)
    )


def near_duplicates(groups: NearDuplicates, class_names: list[str]) -> Figure:
    """Draw groups of similar images, one in each cell."""
    answers = [[class_names[label]] for label, _ in groups]
    return draw_gallery([list(images) for _, images in groups], answers, columns=2)
