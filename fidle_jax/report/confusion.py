"""Figure of the confusion matrix."""

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fidle_jax.report.style import LINES, SMALL, TEXT, longest, new_figure, short

MOST_CLASSES_WITH_COUNTS = 20
MOST_NAMES = 50  # along a side; beyond, only every second class has its name, or third, ...


def confusion_matrix(counts: Int[np.ndarray, "classes classes"], class_names: list[str]) -> Figure:
    """Counts of test examples; rows are true classes, columns what they were taken for.

    The colour scale is that of the errors alone, or a diagonal of thousands would bleach them; the
    diagonal has one pale colour. Beyond 20 classes there is no room for counts: colours alone.
    """
    classes = len(class_names)
    side = float(np.clip(3 + 0.5 * classes, 5.5, 10))
    figure = new_figure(height=side, width=side + 0.9, layout="compressed")
    axes = figure.subplots()
    errors = counts - np.diag(np.diag(counts))
    _shade(axes, errors)
    size = TEXT if classes <= 12 else SMALL if classes <= 25 else 9
    _name_classes(axes, class_names, size)
    if classes <= MOST_CLASSES_WITH_COUNTS:
        _write_counts(axes, counts, errors.max(), size)
    return figure


def _shade(axes: Axes, errors: np.ndarray) -> None:
    diagonal = np.ma.masked_equal(np.eye(len(errors)), 0)
    axes.imshow(diagonal, cmap="Blues", vmin=0, vmax=4)
    if not errors.any():
        return
    shades = axes.imshow(np.ma.masked_equal(errors, 0), cmap="Oranges", vmin=0, vmax=errors.max())
    whole = MaxNLocator(6, integer=True)
    bar = axes.figure.colorbar(shades, ax=axes, fraction=0.04, ticks=whole)
    bar.set_label("wrong examples", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL)


def _name_classes(axes: Axes, class_names: list[str], size: float) -> None:
    classes = len(class_names)
    named = range(0, classes, -(-classes // MOST_NAMES))
    names = [short(class_names[i], 20) for i in named]
    axes.set_xticks(named, names, fontsize=size, rotation=90 if longest(names) > 3 else 0)
    axes.set_yticks(named, names, fontsize=size)
    axes.set_xlabel("taken for", fontsize=TEXT + 1)
    axes.set_ylabel("true class", fontsize=TEXT + 1)
    between = np.arange(classes - 1) + 0.5
    axes.set_xticks(between, minor=True)
    axes.set_yticks(between, minor=True)
    axes.grid(which="minor", color=LINES, linewidth=0.6)
    axes.tick_params(which="both", length=0)


def _write_counts(axes: Axes, counts: np.ndarray, most: int, size: float) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            on_dark = row != column and count > 0.6 * most
            colour = "white" if on_dark else "black"
            axes.text(column, row, count, ha="center", va="center", fontsize=size, color=colour)
