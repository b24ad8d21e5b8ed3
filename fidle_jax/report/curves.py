"""Figure of the training curves."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fidle_jax.report.style import (
    BLUE,
    GREEN,
    GREY,
    TEXT,
    VERMILLION,
    legend_below,
    new_figure,
    tidy,
)

ROUNDING = 1e-6  # smaller errors are rounding errors of float32


def training_curves(
    metrics: dict[str, Float[np.ndarray, " epochs"]],
    best_epoch: int | None,
    test_accuracy: float,
    selected_on_test: bool = False,
) -> Figure:
    """Draw loss and accuracy of training and validation by epoch, and mark the best epoch.

    The accuracy axis is logarithmic in the error, so that 99.0 and 99.5 % are far apart.

    Args:
        metrics: Columns epoch, train_loss, train_accuracy, validation_loss and validation_accuracy with at
            least one row. Accuracies are in [0, 1]. Missing values are NaN.
        best_epoch: Epoch of the selected checkpoint, or None.
        test_accuracy: Test accuracy of that checkpoint, in [0, 1].
        selected_on_test: Whether the test set is the validation data.
    """
    figure = new_figure(height=4.6)
    loss, accuracy = figure.subplots(1, 2)
    loss.set_title("Loss", fontsize=TEXT + 1)
    accuracy.set_title("Accuracy", fontsize=TEXT + 1)
    names = ("test", "test, best epoch") if selected_on_test else ("validation", "test, read once")

    _draw_lines(loss, metrics["epoch"], metrics["train_loss"], metrics["validation_loss"], names[0])
    loss.set_ylim(bottom=0)

    errors = {split: 1 - metrics[f"{split}_accuracy"] for split in ("train", "validation")}
    every = np.array([*errors["train"], *errors["validation"], 1 - test_accuracy])
    visible = every[every > ROUNDING]
    # A logarithmic axis has no 0, so 100 % is at half of the smallest other error.
    perfect = visible.min() / 2 if visible.size else 0.001
    shown = {split: np.where(x <= ROUNDING, perfect, x) for split, x in errors.items()}
    _draw_lines(accuracy, metrics["epoch"], shown["train"], shown["validation"], names[0])
    accuracy.axhline(
        max(1 - test_accuracy, perfect),
        color=GREEN,
        linestyle=(0, (6, 2)),
        linewidth=1.8,
        label=f"{names[1]}: {100 * test_accuracy:.2f} %",
    )
    least = perfect if (every <= ROUNDING).any() else visible.min()
    most = min(1.0, max(least, np.nanmax(every)) * 1.15)
    _set_accuracy_ticks(accuracy, least / 1.15, most, perfect)

    if best_epoch is not None:
        for axes in (loss, accuracy):
            axes.axvline(best_epoch, color=GREY, linestyle=":", label=f"best epoch: {best_epoch}")
    legend_below(figure, columns=2)
    return figure


def _draw_lines(
    axes: Axes, epoch: np.ndarray, train: np.ndarray, validation: np.ndarray, name: str
) -> None:
    marks = ("o-", "s-") if len(epoch) <= 25 else ("-", "-")
    axes.plot(epoch, train, marks[0], color=BLUE, markersize=4, label="train")
    if not np.isnan(validation).all():
        axes.plot(epoch, validation, marks[1], color=VERMILLION, markersize=4, label=name)
    axes.set_xlabel("epoch", fontsize=TEXT)
    margin = 0.5 if len(epoch) == 1 else 0.03 * np.ptp(epoch)
    axes.set_xlim(epoch.min() - margin, epoch.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    tidy(axes)


def _set_accuracy_ticks(axes: Axes, low: float, high: float, perfect: float) -> None:
    """Show errors from ``low`` to ``high``, upside down, and label them with accuracies."""
    if high / low > 6:
        ticks = np.array([m * 10.0**e for e in range(-6, 1) for m in (1, 2, 5)])
    else:
        ticks = np.asarray(MaxNLocator(6).tick_values(low, high))
    ticks = ticks[(ticks >= max(low, 1.3 * perfect)) & (ticks <= high)]
    axes.set_yscale("log")
    axes.set_ylim(high, low)
    axes.set_yticks([], minor=True)
    labels = [f"{100 - 100 * error:.4g} %" for error in ticks]
    if low < perfect:
        ticks, labels = [perfect, *ticks], ["100 %", *labels]
    axes.set_yticks(ticks, labels)
