"""Figure of the training curves."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from fidle_jax.report.style import BLUE, GREEN, GREY, VERMILLION, finish, legend_below, new_figure

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
    finish(loss, "Loss", "epoch")
    finish(accuracy, "Accuracy", "epoch")
    names = ("test", "test, best epoch") if selected_on_test else ("validation", "test, read once")

    _draw_lines(loss, metrics["epoch"], metrics["train_loss"], metrics["validation_loss"], names[0])
    losses = np.concatenate([metrics["train_loss"], metrics["validation_loss"]])
    loss.set_ylim(0, 1.05 * np.nanmax(losses) or 1)

    errors = {split: 1 - metrics[f"{split}_accuracy"] for split in ("train", "validation")}
    every = np.array([*errors["train"], *errors["validation"], 1 - test_accuracy])
    # A logarithmic axis has no 0, so 100 % is at half of the smallest other error.
    perfect = np.min(every, where=every > ROUNDING, initial=1) / 2
    train, validation = (np.maximum(x, perfect) for x in errors.values())
    _draw_lines(accuracy, metrics["epoch"], train, validation, names[0])
    label = f"{names[1]}: {100 * test_accuracy:.2f} %"
    style = {"color": GREEN, "linestyle": (0, (6, 2)), "linewidth": 1.8}
    accuracy.axhline(max(1 - test_accuracy, perfect), label=label, **style)
    # Show errors upside down, and label them with accuracies.
    every = np.maximum(every, perfect)
    low, high = np.nanmin(every) / 1.15, min(1.0, 1.15 * np.nanmax(every))
    locator = LogLocator(subs=(1, 2, 5)) if high / low > 6 else MaxNLocator(6)
    ticks = np.array([t for t in locator.tick_values(low, high) if 1.3 * perfect <= t <= high])
    ticks = np.append(ticks[ticks >= low], perfect if low < perfect else [])
    accuracy.set_yscale("log")
    accuracy.set_ylim(high, low)
    accuracy.set_yticks([], minor=True)
    texts = ["100 %" if t == perfect else f"{100 - 100 * t:.4g} %" for t in ticks]
    accuracy.set_yticks(ticks, texts)

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
    margin = 0.5 if len(epoch) == 1 else 0.03 * np.ptp(epoch)
    axes.set_xlim(epoch.min() - margin, epoch.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
