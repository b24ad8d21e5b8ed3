"""Figures of the confusion matrix, by class and by group of classes."""

import numpy as np
from jaxtyping import Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from fidle_jax.report.style import BLUE, LINES, SMALL, TEXT, longest, new_figure, short

MOST_CLASSES_WITH_COUNTS = 20
MOST_NAMES = 50  # along a side; beyond, only every second class has its name, or third, ...
MOST_LETTERS = 30
# Without its palest part: one error alone is to be seen.
SHADES = ListedColormap(colormaps["Oranges"](np.linspace(0.15, 1, 256)))


def confusion_matrix(counts: Int[np.ndarray, "classes classes"], class_names: list[str]) -> Figure:
    """Counts of test examples; rows are true classes, columns what they were taken for.

    The colour scale is that of the errors alone, or a diagonal of thousands would bleach them; the
    diagonal has one pale colour. Beyond 20 classes there is no room for counts: colours alone.
    """
    classes = len(class_names)
    figure, axes = _square(float(np.clip(3 + 0.5 * classes, 5.5, 10)), class_names)
    errors = counts - np.diag(np.diag(counts))
    diagonal = np.ma.masked_equal(np.eye(classes), 0)
    axes.imshow(diagonal, cmap="Blues", vmin=0, vmax=4)
    _shade(axes, errors)
    size = TEXT if classes <= 12 else SMALL if classes <= 45 else 9
    _name_both_axes(axes, class_names, size, "class")
    if classes <= MOST_CLASSES_WITH_COUNTS:
        _write_counts(axes, counts, errors, size)
    return figure


def group_confusion(errors: Int[np.ndarray, "groups groups"], group_names: list[str]) -> Figure:
    """Counts of wrong test examples; rows are groups of the true class, columns of what it was taken for.

    On the diagonal, framed, are those that were taken for another class of the same group.
    """
    groups = len(group_names)
    figure, axes = _square(float(np.clip(3 + 0.5 * groups, 5.5, 10)), group_names)
    axes.imshow(np.zeros((groups, groups)), cmap="Greys")
    _shade(axes, errors)
    _name_both_axes(axes, group_names, TEXT, "group")
    _write_counts(axes, errors, errors, TEXT)
    for place in range(groups):
        corner = place - 0.5, place - 0.5
        frame = Rectangle(corner, 1, 1, fill=False, edgecolor=BLUE, linewidth=2.5, zorder=3)
        axes.add_patch(frame)
    return figure


def _square(side: float, names: list[str]) -> tuple[Figure, Axes]:
    """A figure with room for the names below, and for these and a colour bar beside."""
    room = 0.07 * max(min(longest(names), MOST_LETTERS) - 20, 0)
    figure = new_figure(height=side + room, width=side + room + 0.9, layout="compressed")
    return figure, figure.subplots()


def _shade(axes: Axes, errors: np.ndarray) -> None:
    if not errors.any():
        return
    shades = axes.imshow(np.ma.masked_equal(errors, 0), cmap=SHADES, vmin=0, vmax=errors.max())
    whole = MaxNLocator(6, integer=True)
    bar = axes.figure.colorbar(shades, ax=axes, fraction=0.04, ticks=whole)
    bar.set_label("wrong examples", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL)


def _name_both_axes(axes: Axes, all_names: list[str], size: float, what: str) -> None:
    classes = len(all_names)
    named = range(0, classes, -(-classes // MOST_NAMES))
    names = [short(all_names[i], MOST_LETTERS) for i in named]
    axes.set_xticks(named, names, fontsize=size, rotation=90 if longest(names) > 3 else 0)
    axes.set_yticks(named, names, fontsize=size)
    axes.set_xlabel("taken for", fontsize=TEXT + 1)
    axes.set_ylabel(f"true {what}", fontsize=TEXT + 1)
    between = np.arange(classes - 1) + 0.5
    axes.set_xticks(between, minor=True)
    axes.set_yticks(between, minor=True)
    axes.grid(which="minor", color=LINES, linewidth=0.6)
    axes.tick_params(which="both", length=0)


def _write_counts(axes: Axes, counts: np.ndarray, shaded: np.ndarray, size: float) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            on_dark = shaded[row, column] > 0.6 * shaded.max()
            colour = "white" if on_dark else "black"
            axes.text(column, row, count, ha="center", va="center", fontsize=size, color=colour)
