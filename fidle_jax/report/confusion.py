"""Scores of classes and groups of classes, the confusion matrix, and the worst errors."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fidle_jax.report.style import LINES, SMALL, TEXT, longest, new_figure, short
from fidle_jax.train.run_content import Evaluation, Groups

MOST_CLASSES_WITH_COUNTS = 20
MOST_NAMES = 50  # per axis
MOST_LETTERS = 30
# Without the palest part, so that a single error is visible.
SHADES = ListedColormap(colormaps["Oranges"](np.linspace(0.15, 1, 256)))

# Columns of a table, with a row for each class or group.
Scores = dict[str, Float[np.ndarray, " row"] | Int[np.ndarray, " row"]]


def count_confusions(data: Evaluation) -> Int[np.ndarray, "classes classes"]:
    """Count the examples of each true class (row) and predicted class (column)."""
    classes = len(data.class_names)
    pairs = classes * data.labels.astype(int) + data.predicted
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_scores(counts: Int[np.ndarray, "classes classes"]) -> Scores:
    """Return precision, recall, f1 and support of each class.

    Scores are NaN if they are undefined: the precision of a class that is never predicted, and recall and f1
    of a class without examples.
    """
    correct, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    return {
        "precision": _ratios(correct, predicted),
        "recall": _ratios(correct, support),
        "f1": _ratios(2 * correct, np.where(support, support + predicted, 0)),
        "support": support,
    }


def group_scores(counts: Int[np.ndarray, "classes classes"], groups: Groups) -> Scores:
    """Return the accuracy of each group of classes.

    Returns:
        Columns: classes (their number), accuracy (share of correct classes), group_accuracy (share of
        predictions in the correct group), support (number of examples).
    """
    members = np.eye(len(groups.names), dtype=int)[groups.of_class]
    between = members.T @ counts @ members
    support = between.sum(axis=1)
    return {
        "classes": members.sum(axis=0),
        "accuracy": _ratios(np.diag(counts) @ members, support),
        "group_accuracy": _ratios(np.diag(between), support),
        "support": support,
    }


def _ratios(values: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return np.divide(values, totals, out=np.full(len(totals), np.nan), where=totals > 0)


def commonest_confusions(
    counts: Int[np.ndarray, "classes classes"], most: int
) -> list[tuple[int, int, int]]:
    """Return up to ``most`` (true class, predicted class, count), the most frequent first."""
    errors = counts - np.diag(np.diag(counts))
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [(int(i), int(j), int(errors[i, j])) for i, j in pairs if errors[i, j]]


def select_worst_errors(data: Evaluation, most: int) -> Evaluation:
    """Return up to ``most`` errors, the most confident first."""
    wrong = np.flatnonzero(data.predicted != data.labels)
    confidence = data.probabilities[wrong].max(axis=1)
    return select_rows(data, wrong[np.argsort(-confidence, kind="stable")[:most]])


def select_rows(data: Evaluation, rows: Int[np.ndarray, " row"]) -> Evaluation:
    """Return some examples."""
    names = ("images", "labels", "probabilities")
    return dataclasses.replace(data, **{name: getattr(data, name)[rows] for name in names})


def draw_confusion_matrix(
    counts: Int[np.ndarray, "classes classes"], class_names: list[str]
) -> Figure:
    """Draw counts of test examples. Rows are true classes, columns are predicted classes.

    The colour scale is that of the errors, because thousands of correct examples would hide them. The
    diagonal has one pale colour. With more than 20 classes, there are no numbers.
    """
    classes = len(class_names)
    # Leave space for the names and a colour bar.
    side = float(np.clip(3 + 0.5 * classes, 5.5, 10))
    side += 0.07 * max(min(longest(class_names), MOST_LETTERS) - 20, 0)
    figure = new_figure(height=side, width=side + 0.9, layout="compressed")
    axes = figure.subplots()
    errors = counts - np.diag(np.diag(counts))
    axes.imshow(np.ma.masked_equal(np.eye(classes), 0), cmap="Blues", vmin=0, vmax=4)
    if errors.any():
        shades = axes.imshow(np.ma.masked_equal(errors, 0), cmap=SHADES, vmin=0, vmax=errors.max())
        ticks = MaxNLocator(6, integer=True)
        bar = figure.colorbar(shades, ax=axes, fraction=0.04, ticks=ticks)
        bar.set_label("errors", fontsize=TEXT)
        bar.ax.tick_params(labelsize=SMALL)
    size = TEXT if classes <= 12 else SMALL if classes <= 45 else 9
    _label_axes(axes, class_names, size)
    if classes <= MOST_CLASSES_WITH_COUNTS:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if errors[row, column] > 0.6 * errors.max() else "black"
                style = {"ha": "center", "va": "center", "fontsize": size, "color": colour}
                axes.text(column, row, count, **style)
    return figure


def _label_axes(axes: Axes, all_names: list[str], size: float) -> None:
    classes = len(all_names)
    named = range(0, classes, -(-classes // MOST_NAMES))
    names = [short(all_names[i], MOST_LETTERS) for i in named]
    axes.set_xticks(named, names, fontsize=size, rotation=90 if longest(names) > 3 else 0)
    axes.set_yticks(named, names, fontsize=size)
    axes.set_xlabel("predicted class", fontsize=TEXT + 1)
    axes.set_ylabel("true class", fontsize=TEXT + 1)
    axes.tick_params(length=0)
    # Minor ticks with a grid would take a third of the drawing time.
    between, ends = np.arange(classes - 1) + 0.5, (-0.5, classes - 0.5)
    for draw in (axes.hlines, axes.vlines):
        draw(between, *ends, colors=LINES, linewidths=0.6)
