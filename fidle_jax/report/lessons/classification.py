"""Figures of a classification: curves of all thresholds, counts at some, and probabilities of classes."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidle_jax.report.style import BLUE, GREEN, GREY, LINES, SMALL, TEXT, VERMILLION, new_figure

Curve = tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]

STYLES: list[dict[str, Any]] = [
    {"color": BLUE, "linestyle": "-"},
    {"color": VERMILLION, "linestyle": "--"},
]
PROBABILITIES = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)


def roc_and_precision(
    roc: dict[str, Curve], precision: dict[str, Curve], marks: tuple[tuple[float, float], ...]
) -> Figure:
    """The ROC curve, and precision against recall, of up to two models.

    Args:
        roc: false and true positive rates, by what the legend says.
        precision: recall and precision, by what the legend says.
        marks: of the first model at its threshold: the place in either panel.
    """
    figure = new_figure(height=3.8)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], ":", color=GREY)
    left.text(0.47, 0.4, "by chance", fontsize=SMALL, color=GREY)
    for axes, curves, mark in zip((left, right), (roc, precision), marks, strict=True):
        for style, (label, (x, y)) in zip(STYLES, curves.items(), strict=False):
            axes.plot(x, y, linewidth=2, label=label, **style)
        axes.plot(*mark, "o", color=GREEN, markersize=9)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.legend(fontsize=SMALL, frameon=False, loc="lower right")
        _plain(axes)
    left.set_xlabel("false positive rate", fontsize=TEXT)
    left.set_ylabel("true positive rate (recall)", fontsize=TEXT)
    right.set_xlabel("recall", fontsize=TEXT)
    right.set_ylabel("precision", fontsize=TEXT)
    return figure


def by_threshold(
    thresholds: Float[np.ndarray, " threshold"],
    precision: Float[np.ndarray, " place"],
    recall: Float[np.ndarray, " place"],
    marked: dict[str, float],
) -> Figure:
    """Precision and recall against the threshold, on an axis that is even in log-odds.

    Args:
        thresholds: probabilities in ascending order.
        precision: at each, and one more: above the last.
        recall: the same.
        marked: thresholds to mark, by what the legend says.
    """
    figure = new_figure(height=4.2)
    axes = figure.subplots()
    # The axis has no place for 0 and 1. Between two thresholds all is as at the upper one.
    x = np.clip([0, *thresholds, 1], 1e-12, 1 - 1e-12)
    steps: dict[str, Any] = {"drawstyle": "steps-pre", "linewidth": 2}
    axes.plot(x, [precision[0], *precision], label="precision", **steps, **STYLES[0])
    axes.plot(x, [recall[0], *recall], label="recall", **steps, **STYLES[1])
    for (label, threshold), linestyle in zip(marked.items(), (":", "-."), strict=False):
        axes.axvline(threshold, color=GREEN, linestyle=linestyle, linewidth=1.8, label=label)
    axes.set_xscale("logit")
    axes.set_xlim(PROBABILITIES[0] / 2, 1 - PROBABILITIES[0] / 2)
    axes.set_xticks(PROBABILITIES, [f"{each:g}" for each in PROBABILITIES])
    axes.set_xticks([], minor=True)
    axes.set_ylim(top=1.01)
    axes.set_xlabel("threshold: malignant from this probability on", fontsize=TEXT)
    figure.legend(loc="outside lower center", ncols=2, fontsize=TEXT, frameon=False)
    _plain(axes)
    return figure


def two_by_two(counts: dict[str, Int[np.ndarray, "2 2"]], class_names: tuple[str, str]) -> Figure:
    """Confusion matrices of two classes side by side, by title; errors are orange, the more the darker."""
    figure = new_figure(height=3.7)
    panels = figure.subplots(1, len(counts), squeeze=False)[0]
    most = max(int(each[0, 1] + each[1, 0]) for each in counts.values())
    for axes, (title, each) in zip(panels, counts.items(), strict=True):
        for (row, column), count in np.ndenumerate(each):
            wrong = row != column
            shade = 0.15 + 0.5 * count / most if wrong and count else 0
            colour = (0.835, 0.369, 0, shade) if wrong else (0, 0.447, 0.698, 0.15)
            axes.fill_between(
                [column - 0.5, column + 0.5], row - 0.5, row + 0.5, color=colour, linewidth=0
            )
            axes.text(column, row, str(count), ha="center", va="center", fontsize=TEXT + 6)
        axes.set_xticks([0, 1], class_names)
        axes.set_yticks([0, 1], class_names if axes is panels[0] else ["", ""], rotation=90)
        for label in axes.get_yticklabels():
            label.set_va("center")
        axes.set_xlim(-0.5, 1.5)
        axes.set_ylim(1.5, -0.5)
        axes.axhline(0.5, color="white", linewidth=3)
        axes.axvline(0.5, color="white", linewidth=3)
        axes.set_xlabel("taken for", fontsize=TEXT)
        axes.set_title(title, fontsize=TEXT)
        axes.tick_params(labelsize=TEXT, length=0)
        axes.spines[:].set_visible(False)
    panels[0].set_ylabel("true class", fontsize=TEXT)
    return figure


def probabilities_of(
    images: Float[np.ndarray, "example height width"],
    probabilities: Float[np.ndarray, "example class"],
    labels: Int[np.ndarray, " example"],
    class_names: tuple[str, ...],
) -> Figure:
    """Each image with a bar for each class's probability, two examples a row.

    The true class's bar is blue; where another's is the highest, that is orange and hatched.
    """
    rows = -(-len(images) // 2)
    figure = new_figure(height=1.9 * rows + 0.3)
    panels = figure.subplots(rows, 4, width_ratios=[1, 2.2, 1, 2.2], squeeze=False).reshape(-1, 2)
    for picture, bars in panels[len(images) :]:
        picture.set_visible(False)
        bars.set_visible(False)
    shown = zip(panels, images, probabilities, labels, strict=False)
    for (picture, bars), image, chances, label in shown:
        picture.imshow(image, cmap="Greys")
        picture.set_xticks([])
        picture.set_yticks([])
        taken = int(chances.argmax())
        colours = [GREY] * len(chances)
        colours[taken], colours[label] = VERMILLION, BLUE
        hatches = ["//" if colour == VERMILLION else "" for colour in colours]
        bars.bar(
            range(len(chances)),
            chances,
            color=colours,
            hatch=hatches,
            edgecolor="white",
            linewidth=0,
        )
        bars.set_title(
            f"{class_names[label]}, taken for {class_names[taken]} ({100 * chances[taken]:.0f} %)",
            fontsize=SMALL + 1,
        )
        bars.set_ylim(0, 1.02)
        bars.set_yticks([0, 0.5, 1], ["0", "", "1"])
        bars.set_xticks(range(len(chances)), class_names)
        bars.tick_params(labelsize=SMALL)
        bars.spines[["top", "right"]].set_visible(False)
    return figure


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=SMALL + 1)
    axes.grid(color=LINES)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
