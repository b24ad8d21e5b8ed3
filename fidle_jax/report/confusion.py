"""Scores of classes and groups of classes, their confusion matrices, and the worst errors."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from fidle_jax.report.style import BLUE, LINES, SMALL, TEXT, longest, new_figure, short

MOST_CLASSES_WITH_COUNTS = 20
MOST_NAMES = 50  # per axis
MOST_LETTERS = 30
# Without the palest part, so that a single error is visible.
SHADES = ListedColormap(colormaps["Oranges"](np.linspace(0.15, 1, 256)))


def class_scores(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], class_names: list[str]
) -> pd.DataFrame:
    """Return precision, recall, f1 and support of each class. Undefined scores are 0."""
    from sklearn.metrics import precision_recall_fscore_support

    scores = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(class_names)), zero_division=0
    )
    names = ("precision", "recall", "f1", "support")
    return pd.DataFrame(dict(zip(names, scores, strict=True)), index=class_names)


def group_scores(
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    group_of_class: Int[np.ndarray, " classes"],
    group_names: list[str],
) -> pd.DataFrame:
    """Return the accuracy of each group of classes.

    Returns:
        Columns: classes (their number), accuracy (share of correct classes), group_accuracy (share of
        predictions in the correct group), support (number of examples).
    """
    group, predicted_group = group_of_class[labels], group_of_class[predicted]
    correct = pd.DataFrame({"class": labels == predicted, "group": group == predicted_group})
    groups = correct.groupby(group)
    index = range(len(group_names))
    return pd.DataFrame(
        {
            "classes": np.bincount(group_of_class, minlength=len(group_names)),
            "accuracy": groups["class"].mean().reindex(index, fill_value=0),
            "group_accuracy": groups["group"].mean().reindex(index, fill_value=0),
            "support": groups.size().reindex(index, fill_value=0),
        }
    ).set_axis(group_names)


def confusion_counts(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Count examples. The row is the true class, the column the predicted one."""
    pairs = np.bincount(labels.astype(int) * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes)


def group_errors(
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    group_of_class: Int[np.ndarray, " classes"],
    groups: int,
) -> Int[np.ndarray, "groups groups"]:
    """Count errors. The row is the group of the true class, the column that of the predicted one."""
    wrong = labels != predicted
    both = group_of_class[labels[wrong]], group_of_class[predicted[wrong]]
    return confusion_counts(*both, groups)


def commonest_confusions(
    counts: Int[np.ndarray, "classes classes"], most: int
) -> list[tuple[int, int, int]]:
    """Return up to ``most`` (true class, predicted class, count), the most frequent first."""
    errors = counts - np.diag(np.diag(counts))
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [(int(i), int(j), int(errors[i, j])) for i, j in pairs if errors[i, j]]


def worst_errors_of(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], most: int
) -> Int[np.ndarray, " errors"]:
    """Return the indices of up to ``most`` errors, the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    confidence = probabilities[wrong].max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")[:most]]


def confusion_matrix(counts: Int[np.ndarray, "classes classes"], class_names: list[str]) -> Figure:
    """Draw counts of test examples. Rows are true classes, columns are predicted classes.

    The colour scale is that of the errors, because thousands of correct examples would hide them. The
    diagonal has one pale colour. With more than 20 classes, there are no numbers.
    """
    classes = len(class_names)
    figure, axes = _square(class_names)
    errors = counts - np.diag(np.diag(counts))
    axes.imshow(np.ma.masked_equal(np.eye(classes), 0), cmap="Blues", vmin=0, vmax=4)
    _shade(axes, errors)
    size = TEXT if classes <= 12 else SMALL if classes <= 45 else 9
    _label_axes(axes, class_names, size, "class")
    if classes <= MOST_CLASSES_WITH_COUNTS:
        _write_counts(axes, counts, errors, size)
    return figure


def group_confusion(errors: Int[np.ndarray, "groups groups"], group_names: list[str]) -> Figure:
    """Draw counts of errors between groups. The diagonal, errors within a group, is framed."""
    figure, axes = _square(group_names)
    axes.imshow(np.zeros(errors.shape), cmap="Greys")
    _shade(axes, errors)
    _label_axes(axes, group_names, TEXT, "group")
    _write_counts(axes, errors, errors, TEXT)
    for k in range(len(group_names)):
        corner = k - 0.5, k - 0.5
        frame = Rectangle(corner, 1, 1, fill=False, edgecolor=BLUE, linewidth=2.5, zorder=3)
        axes.add_patch(frame)
    return figure


def _square(names: list[str]) -> tuple[Figure, Axes]:
    """Return a figure with space for the names and a colour bar."""
    side = float(np.clip(3 + 0.5 * len(names), 5.5, 10))
    side += 0.07 * max(min(longest(names), MOST_LETTERS) - 20, 0)
    figure = new_figure(height=side, width=side + 0.9, layout="compressed")
    return figure, figure.subplots()


def _shade(axes: Axes, errors: np.ndarray) -> None:
    if not errors.any():
        return
    shades = axes.imshow(np.ma.masked_equal(errors, 0), cmap=SHADES, vmin=0, vmax=errors.max())
    ticks = MaxNLocator(6, integer=True)
    bar = axes.figure.colorbar(shades, ax=axes, fraction=0.04, ticks=ticks)
    bar.set_label("errors", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL)


def _label_axes(axes: Axes, all_names: list[str], size: float, what: str) -> None:
    classes = len(all_names)
    named = range(0, classes, -(-classes // MOST_NAMES))
    names = [short(all_names[i], MOST_LETTERS) for i in named]
    axes.set_xticks(named, names, fontsize=size, rotation=90 if longest(names) > 3 else 0)
    axes.set_yticks(named, names, fontsize=size)
    axes.set_xlabel(f"predicted {what}", fontsize=TEXT + 1)
    axes.set_ylabel(f"true {what}", fontsize=TEXT + 1)
    between = np.arange(classes - 1) + 0.5
    axes.set_xticks(between, minor=True)
    axes.set_yticks(between, minor=True)
    axes.grid(which="minor", color=LINES, linewidth=0.6)
    axes.tick_params(which="both", length=0)


def _write_counts(axes: Axes, counts: np.ndarray, shaded: np.ndarray, size: float) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shaded[row, column] > 0.6 * shaded.max() else "black"
            axes.text(column, row, count, ha="center", va="center", fontsize=size, color=colour)
