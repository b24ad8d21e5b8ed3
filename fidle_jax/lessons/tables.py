"""Functions for the lessons on tables: standardisation, training on a split, figures and tables."""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Float, Int, Shaped
from matplotlib.figure import Figure
from sklearn.preprocessing import StandardScaler

from fidle_jax.data.tables import Parts
from fidle_jax.lessons.figures import draw_curves, panels
from fidle_jax.lessons.flags import OfTables
from fidle_jax.nn import DNN
from fidle_jax.report.lesson import Table
from fidle_jax.report.style import GREY, finish, legend_below
from fidle_jax.train.evaluation import Objective, predict
from fidle_jax.train.fit import fit
from fidle_jax.train.step import Task

SPLITS, QUICK_SPLITS = 10, 3
# With the learning rate of the network, the linear model would not converge within the epochs.
LINEAR_FACTOR = 10

_predict = jax.jit(predict, static_argnames="model")


def standardise(
    columns: Float[np.ndarray, "example column"], train: Int[np.ndarray, " train"]
) -> tuple[Float[np.ndarray, "example column"], StandardScaler]:
    """Standardise columns with the mean and the standard deviation of the rows ``train`` only.

    Return the float32 columns, and the scaler, which works in double precision.
    """
    scaler = StandardScaler().fit(columns[train].astype(np.float64))
    return scaler.transform(columns.astype(np.float64)).astype(np.float32), scaler


class Trial(NamedTuple):
    """A network trained on one split."""

    outputs: Float[
        np.ndarray, "test output"
    ]  # for the test rows, with the weights of the best epoch
    history: dict[str, Float[np.ndarray, " epoch"]]  # as in `fidle_jax.train.fit.Fit`
    best_epoch: int  # with the lowest validation loss, starting at 1


def run_trial(
    task: Task,
    features: Float[np.ndarray, "example feature"],
    targets: Shaped[np.ndarray, " example"],
    parts: Parts,
    **options: Any,
) -> Trial:
    """Train a network and select its best epoch on validation data. Use the test rows once, at the end.

    ``options`` are ``epochs``, ``batch_size`` and ``seed`` of `fit`.
    """
    train, validation = (
        (features[rows], targets[rows]) for rows in (parts.train, parts.validation)
    )
    fitted = fit(task, train, validation=validation, **options)
    outputs = np.asarray(_predict(task.model, fitted.best, features[parts.test]))
    best = int(np.nanargmin(fitted.history["validation_loss"])) + 1
    return Trial(outputs, fitted.history, best)


def network_and_linear(
    hidden: tuple[int, ...], outputs: int, learning_rate: float, objective: Objective
) -> tuple[Task, Task]:
    """Return a network with Adam, and the same without hidden layers, with a higher learning rate."""
    network, linear = (
        Task(DNN(classes=outputs, hidden=layers), optax.adam(rate), objective=objective)
        for layers, rate in ((hidden, learning_rate), ((), LINEAR_FACTOR * learning_rate))
    )
    return network, linear


def seeds_of(flags: OfTables) -> range:
    """Return the seeds of the splits, beginning with that of the flags."""
    return range(flags.seed, flags.seed + (QUICK_SPLITS if flags.quick else SPLITS))


def curves_figure(trial: Trial, loss: str, score: str) -> Figure:
    """Draw the loss and the score of each epoch, with the given titles, and mark the best epoch."""
    figure, row = panels(2, 2, height=3.9, extra=0)
    for axes, title, key in zip(row, (loss, score), ("loss", "score"), strict=True):
        curves = {"training": trial.history[key], "validation": trial.history[f"validation_{key}"]}
        epochs = np.arange(1, len(curves["training"]) + 1)
        draw_curves(axes, epochs, curves, marker="o" if len(epochs) == 1 else "")
        label = f"lowest loss: epoch {trial.best_epoch}"
        axes.axvline(trial.best_epoch, color=GREY, linestyle=":", label=label)
        axes.locator_params("x", nbins=6, integer=True, min_n_ticks=1)
        finish(axes, title, "epoch")
    legend_below(figure, columns=3)
    return figure


def spread_table(head: str, values: dict[str, Float[np.ndarray, " split"]], digits: int) -> Table:
    """Return a table of the first split, the mean, standard deviation and range over all splits."""
    rows = [
        [name, *(f"{x:.{digits}f}" for x in (v[0], v.mean(), v.std(ddof=1), v.min(), v.max()))]
        for name, v in values.items()
    ]
    head_of_values = ["first split", "mean", "standard deviation", "lowest", "highest"]
    return Table([head, *head_of_values], rows)
