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
    LINES,
    SMALL,
    TEXT,
    VERMILLION,
    new_figure,
)

ROUNDING = 1e-6  # an error below this is float32's, not the network's


def training_curves(
    metrics: dict[str, Float[np.ndarray, "epochs"]],
    best_epoch: int | None,
    test_accuracy: float,
    chosen_on_test: bool = False,
) -> Figure:
    """Loss and accuracy by epoch, in training and validation, the best epoch marked.

    ``chosen_on_test``: validation was on the test split, and is called so.

    ``metrics`` has the columns epoch, train_loss, train_accuracy, validation_loss and
    validation_accuracy, at least one row, NaN where there was no validation; accuracies in [0, 1].
    The axis of accuracy is logarithmic in the error, so that 99.0 and 99.5 % can be told apart.
    """
    figure = new_figure(height=4.6)
    loss, accuracy = figure.subplots(1, 2)
    epoch = metrics["epoch"]

    names = ("test", "test, its best") if chosen_on_test else ("validation", "test, read once")
    _lines(loss, epoch, metrics["train_loss"], metrics["validation_loss"], names[0])
    loss.set_ylim(bottom=0)
    loss.set_title("Loss", fontsize=TEXT + 1)

    _draw_accuracy(accuracy, metrics, test_accuracy, names)
    accuracy.set_title("Accuracy", fontsize=TEXT + 1)

    for axes in (loss, accuracy):
        _epoch_axis(axes, epoch)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=GREY, linestyle=":", label=f"best epoch: {best_epoch}")
    handles, labels = accuracy.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=4 if len(labels) < 4 else 2,
        fontsize=TEXT,
        frameon=False,
    )
    return figure


def _lines(
    axes: Axes, epoch: np.ndarray, train: np.ndarray, validation: np.ndarray, name: str
) -> None:
    marks = len(epoch) <= 25
    axes.plot(epoch, train, "o-" if marks else "-", color=BLUE, markersize=4, label="train")
    if not np.isnan(validation).all():
        axes.plot(
            epoch,
            validation,
            "s-" if marks else "-",
            color=VERMILLION,
            markersize=4,
            label=name,
        )


def _draw_accuracy(
    axes: Axes, metrics: dict[str, np.ndarray], test_accuracy: float, names: tuple[str, str]
) -> None:
    train, validation = 1 - metrics["train_accuracy"], 1 - metrics["validation_accuracy"]
    errors = np.concatenate([train, validation, [1 - test_accuracy]])
    seen = errors[errors > ROUNDING]
    # no error at all has no place on a logarithmic axis: half the least other error stands in
    perfect = seen.min() / 2 if seen.size else 0.001

    train, validation = (np.where(x <= ROUNDING, perfect, x) for x in (train, validation))
    _lines(axes, metrics["epoch"], train, validation, names[0])
    axes.axhline(
        max(1 - test_accuracy, perfect),
        color=GREEN,
        linestyle=(0, (6, 2)),
        linewidth=1.8,
        label=f"{names[1]}: {100 * test_accuracy:.2f} %",
    )
    least = perfect if (errors <= ROUNDING).any() else seen.min()
    _accuracy_axis(axes, least / 1.15, min(1.0, max(least, np.nanmax(errors)) * 1.15), perfect)


def _accuracy_axis(axes: Axes, low: float, high: float, perfect: float) -> None:
    """Marks errors from ``low`` to ``high``, upside down, as accuracies in percent."""
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


def _epoch_axis(axes: Axes, epoch: np.ndarray) -> None:
    axes.set_xlabel("epoch", fontsize=TEXT)
    margin = 0.5 if len(epoch) == 1 else 0.03 * np.ptp(epoch)
    axes.set_xlim(epoch.min() - margin, epoch.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.tick_params(labelsize=SMALL + 1)
    axes.grid(color=LINES)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
