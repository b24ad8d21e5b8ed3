"""Figures of an evaluation: reliability, accuracy on corrupted images, where two networks disagree."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidle_jax.report.style import (
    BLUE,
    GREY,
    LINES,
    SMALL,
    TEXT,
    VERMILLION,
    WIDTH,
    longest,
    new_figure,
    wrapped,
)
from fidle_jax.report.tiles import LETTER, LINE, grid, letters_of, place, sheet

STYLES = ((BLUE, "o-"), (VERMILLION, "s--"))
BRIEF = 3  # letters: such names stand beside each other in a line


class Shares(NamedTuple):
    """Shares, 0 to 1, and where each lies with 95 % confidence; NaN where there is none."""

    middle: Float[np.ndarray, " place"]
    low: Float[np.ndarray, " place"]
    high: Float[np.ndarray, " place"]


class Bins(NamedTuple):
    """Examples by the probability of their class, in bins of equal width from 0 to 1.

    Attributes:
        counts: examples in each.
        confidence: mean probability of each; NaN in an empty bin.
        accuracy: of each.
    """

    counts: Int[np.ndarray, " bin"]
    confidence: Float[np.ndarray, " bin"]
    accuracy: Shares


def reliability(panels: dict[str, Bins]) -> Figure:
    """Accuracy against confidence, by title; below each, how many examples there are of which confidence."""
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(height=4.7 * down, width=WIDTH * (1 if across == 2 else 0.6))
    rows = figure.subplots(2 * down, across, squeeze=False, height_ratios=[3, 1] * down)
    for place_, (title, bins) in enumerate(panels.items()):
        row, column = divmod(place_, across)
        upper, lower = rows[2 * row, column], rows[2 * row + 1, column]
        _draw_accuracy(upper, bins)
        upper.set_title(title, fontsize=TEXT)
        _draw_counts(lower, bins)
        if column == 0:
            upper.set_ylabel("accuracy", fontsize=TEXT)
            lower.set_ylabel("examples", fontsize=TEXT)
    for place_ in range(len(panels), down * across):
        row, column = divmod(place_, across)
        for axes in rows[2 * row : 2 * row + 2, column]:
            axes.set_axis_off()
    return figure


def _draw_accuracy(axes: Axes, bins: Bins) -> None:
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1.5)
    _bars(axes, bins, bins.accuracy.middle, color=BLUE, alpha=0.3)
    middle, low, high = bins.accuracy
    axes.errorbar(
        bins.confidence,
        middle,
        [middle - low, high - middle],
        fmt="o",
        color=BLUE,
        markersize=5,
        linewidth=1.5,
    )
    axes.set_ylim(0, 1.03)
    axes.set_xlim(0, 1.01)
    axes.set_xticklabels([])
    _plain(axes)


def _draw_counts(axes: Axes, bins: Bins) -> None:
    _bars(axes, bins, bins.counts, color=GREY)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(0.5, 2 * bins.counts.max())
    axes.set_xlim(0, 1.01)
    axes.set_xlabel("confidence", fontsize=TEXT)
    _plain(axes)


def _bars(axes: Axes, bins: Bins, heights: np.ndarray, **style) -> None:
    width = 1 / len(bins.counts)
    lefts = width * np.arange(len(bins.counts))
    axes.bar(lefts, heights, width, align="edge", edgecolor="white", linewidth=0.8, **style)


class Strengths(NamedTuple):
    """Accuracy by the strength of a corruption.

    Attributes:
        measure: what its strength is.
        texts: of each strength.
        accuracy: of each network, by what the legend says; the first on the images as they are.
    """

    measure: str
    texts: list[str]
    accuracy: dict[str, Shares]


def accuracy_by_strength(panels: dict[str, Strengths], chance: float) -> Figure:
    """A panel for each corruption, by name; ``chance`` is the accuracy of guessing."""
    across = 3
    down = -(-len(panels) // across)
    figure = new_figure(height=2.9 * down + 0.4)
    all_axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes, (name, strengths) in zip(all_axes, panels.items(), strict=False):
        places = np.arange(len(strengths.texts) + 1)
        for (label, shares), (colour, style) in zip(
            strengths.accuracy.items(), STYLES, strict=False
        ):
            middle, low, high = (100 * each for each in shares)
            reach = [middle - low, high - middle]
            axes.errorbar(
                places, middle, reach, fmt=style, color=colour, lw=2, ms=5, capsize=3, label=label
            )
        axes.axhline(100 * chance, color=GREY, linestyle=":", linewidth=1.5, label="by chance")
        axes.set_xticks(places, ["–", *strengths.texts])
        axes.set_xlabel(strengths.measure, fontsize=SMALL + 1)
        axes.set_title(name, fontsize=TEXT)
        axes.set_ylim(0, 103)
        _plain(axes)
        axes.tick_params(axis="x", labelsize=SMALL - 1)
    for axes in all_axes[::across]:
        axes.set_ylabel("accuracy, %", fontsize=TEXT)
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    # Matplotlib names lines before what has error bars.
    (chance_line, *handles), (by_chance, *labels) = all_axes[0].get_legend_handles_labels()
    handles, labels = [*handles, chance_line], [*labels, by_chance]
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3, fontsize=TEXT, frameon=False
    )
    return figure


def corrupted_examples(
    rows: dict[str, UInt8[np.ndarray, "strength h w c"]],
    texts: dict[str, list[str]],
    answers: dict[str, Int[np.ndarray, " strength"]],
    label: int,
    class_names: Sequence[str],
) -> Figure:
    """An image of class ``label`` under each corruption, by name, and what it is taken for; wrong: framed.

    ``texts`` say the strength of each image.
    """
    columns = len(next(iter(rows.values())))
    letters = letters_of(columns)
    brief = longest(class_names) <= BRIEF
    lines = 1 if brief else 3
    cell = WIDTH / columns
    title, pitch = LINE * 1.5 / cell, 1 + (lines * LINE + 0.12) / cell
    figure, axes = sheet(columns, len(rows) * (title + pitch), cell)
    for number, (name, images) in enumerate(rows.items()):
        top = number * (title + pitch)
        axes.text(0.05, top + 0.4 * title, name, va="center", fontsize=LETTER, weight="bold")
        for column, (image, text, answer) in enumerate(
            zip(images, texts[name], answers[name], strict=True)
        ):
            said = class_names[int(answer)]
            below = [f"{text}: {said}"] if brief else [text, *wrapped(said, letters, 2)]
            wrong = answer != label
            colour = VERMILLION if wrong else BLUE
            place(axes, image, column, top + title, "\n".join(below), colour, framed=wrong)
    return figure


def disagreements(
    images: UInt8[np.ndarray, "n h w c"],
    answers: dict[str, Int[np.ndarray, " n"]],
    class_names: Sequence[str],
) -> Figure:
    """Each image with what each network, by its name, takes it for."""
    columns = 5
    texts = [
        _answers({name: class_names[int(each[number])] for name, each in answers.items()}, columns)
        for number in range(len(images))
    ]
    lines = max(text.count("\n") + 1 for text in texts)
    figure, axes, pitch = grid(len(images), columns, lines)
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(number, columns)
        place(axes, image, column, row * pitch, text)
    return figure


def _answers(said: dict[str, str], columns: int) -> str:
    """Each network's answer; those of a few letters stand beside each other."""
    each = [f"{name}: {answer}" for name, answer in said.items()]
    if longest(list(said.values())) <= BRIEF:
        return "   ".join(each)
    return "\n".join(line for text in each for line in wrapped(text, letters_of(columns), 3))


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=SMALL)
    axes.grid(color=LINES)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
