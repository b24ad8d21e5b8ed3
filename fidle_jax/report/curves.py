"""Figure of the training curves."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from fidle_jax.report.style import (
    BLUE,
    GREEN,
    GREY,
    SMALL,
    TEXT,
    VERMILLION,
    new_figure,
)


def training_curves(
    metrics: dict[str, Float[np.ndarray, "epochs"]],
    best_epoch: int | None,
    test_accuracy: float,
) -> Figure:
    """Loss and accuracy by epoch, in training and validation, the best epoch marked.

    ``metrics`` has the columns epoch, train_loss, train_accuracy, validation_loss and
    validation_accuracy, at least one row, NaN where there was no validation; accuracies in [0, 1].
    The axis of accuracy is logarithmic in the error, so that 99.0 and 99.5 % can be told apart.
    """
    figure = new_figure(height=4.6)
    loss, accuracy = figure.subplots(1, 2)
    epoch = metrics["epoch"]

    _lines(loss, epoch, metrics["train_loss"], metrics["validation_loss"])
    loss.set_ylim(bottom=0)
    loss.set_title("Loss", fontsize=TEXT + 1)

    train, validation = 1 - metrics["train_accuracy"], 1 - metrics["validation_accuracy"]
    errors = np.concatenate([train, validation, [1 - test_accuracy]])
    _lines(accuracy, epoch, *(_above_zero(x, errors) for x in (train, validation)))
    accuracy.axhline(
        _above_zero(np.array([1 - test_accuracy]), errors)[0],
        color=GREEN,
        linestyle=(0, (6, 2)),
        linewidth=1.8,
        label=f"test, read once: {100 * test_accuracy:.2f} %",
    )
    _accuracy_axis(accuracy, _above_zero(errors, errors))
    accuracy.set_title("Accuracy", fontsize=TEXT + 1)

    for axes in (loss, accuracy):
        _epoch_axis(axes, epoch)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=GREY, linestyle=":", label=f"best epoch: {best_epoch}")
    handles, names = accuracy.get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=4 if len(names) < 4 else 2,
        fontsize=TEXT,
        frameon=False,
    )
    return figure


def _lines(axes: Axes, epoch: np.ndarray, train: np.ndarray, validation: np.ndarray) -> None:
    marks = len(epoch) <= 25
    axes.plot(epoch, train, "o-" if marks else "-", color=BLUE, markersize=4, label="train")
    if not np.isnan(validation).all():
        axes.plot(
            epoch,
            validation,
            "s-" if marks else "-",
            color=VERMILLION,
            markersize=4,
            label="validation",
        )


def _above_zero(error: np.ndarray, all_errors: np.ndarray) -> np.ndarray:
    """No error at all has no place on a logarithmic axis: half the least other error stands in."""
    least = np.nanmin(all_errors, where=all_errors > 0, initial=1)
    return np.where(error <= 0, least / 2, error)


def _accuracy_axis(axes: Axes, errors: np.ndarray) -> None:
    low, high = np.nanmin(errors) / 1.15, min(1.0, np.nanmax(errors) * 1.15)
    axes.set_yscale("log")
    axes.set_ylim(high, low)
    if high / low > 6:
        ticks = [m * 10.0**e for e in range(-6, 1) for m in (1, 2, 5)]
    else:
        ticks = MaxNLocator(6).tick_values(low, high)
    axes.yaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 - 100 * error:.4g} %"))


def _epoch_axis(axes: Axes, epoch: np.ndarray) -> None:
    axes.set_xlabel("epoch", fontsize=TEXT)
    margin = 0.5 if len(epoch) == 1 else 0.03 * np.ptp(epoch)
    axes.set_xlim(epoch.min() - margin, epoch.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.tick_params(labelsize=SMALL + 1)
    axes.grid(color="#E3E6EA")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
