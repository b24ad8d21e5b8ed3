"""Figures of the dense and the convolutional network of equal size."""

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidle_jax.report.style import BLUE, LINES, SMALL, TEXT, VERMILLION, new_figure

STYLES = ((BLUE, "o-"), (VERMILLION, "s--"))


def by_training_size(
    sizes: Int[np.ndarray, " size"], accuracies: dict[str, Float[np.ndarray, "size seed"]]
) -> Figure:
    """Test accuracy (shares) by how many digits were learned from; bars: lowest to highest seed."""
    figure = new_figure(height=4.0)
    axes = figure.subplots()
    _lines(axes, sizes, accuracies)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=SMALL + 1)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training digits", fontsize=TEXT)
    return figure


def by_shift(accuracies: dict[str, Float[np.ndarray, "shift seed"]]) -> Figure:
    """Test accuracy (shares) of each network by how many pixels the digits were moved."""
    figure = new_figure(height=4.0)
    axes = figure.subplots()
    shifts = np.arange(len(next(iter(accuracies.values()))))
    _lines(axes, shifts, accuracies)
    axes.set_xticks(shifts)
    axes.set_xlabel("shift, pixels", fontsize=TEXT)
    return figure


def _lines(axes: Axes, x: np.ndarray, accuracies: dict[str, np.ndarray]) -> None:
    for (name, values), (colour, style) in zip(accuracies.items(), STYLES, strict=True):
        middle = 100 * values.mean(axis=1)
        reach = np.abs(100 * np.stack([values.min(axis=1), values.max(axis=1)]) - middle)
        axes.errorbar(x, middle, reach, fmt=style, color=colour, capsize=4, lw=2, label=name)
    axes.set_ylabel("test accuracy, %", fontsize=TEXT)
    axes.set_ylim(top=101)
    axes.tick_params(labelsize=SMALL + 1)
    axes.grid(color=LINES)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=TEXT, frameon=False)


def shifted_digits(
    images: UInt8[np.ndarray, "digit shift height width"],
    labels: Int[np.ndarray, " digit"],
    answers: dict[str, Int[np.ndarray, "digit shift"]],
    shifts: Int[np.ndarray, " shift"],
) -> Figure:
    """A row for each digit, a column for each shift; below each image what the networks say, wrong in red."""
    digits, columns = images.shape[:2]
    figure = new_figure(height=1.55 * digits + 0.4)
    panels = figure.subplots(digits, columns, squeeze=False)
    for row in range(digits):
        for column in range(columns):
            axes = panels[row, column]
            axes.imshow(images[row, column], cmap="gray_r", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(f"{shifts[column]} px", fontsize=TEXT)
            _write_answers(axes, labels[row], {name: a[row, column] for name, a in answers.items()})
    return figure


def _write_answers(axes: Axes, label: int | np.integer, said: dict[str, int | np.integer]) -> None:
    for place, (name, answer) in enumerate(said.items()):
        right = answer == label
        axes.text(
            0.27 + 0.46 * place,
            -0.06,
            f"{name}: {answer}",
            transform=axes.transAxes,
            ha="center",
            va="top",
            fontsize=SMALL,
            color=BLUE if right else VERMILLION,
            weight="normal" if right else "bold",
        )
