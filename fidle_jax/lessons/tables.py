"""What the lessons on tables share: standardised columns, training on a split, figures and tables."""

from typing import NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Float, Shaped
from matplotlib.figure import Figure

from fidle_jax.data.tables import Parts
from fidle_jax.lessons.figures import finish, panels, training_and_validation
from fidle_jax.lessons.flags import Classification, Regression
from fidle_jax.nn import DNN
from fidle_jax.report.lesson import Table
from fidle_jax.report.style import GREY, legend_below
from fidle_jax.train.evaluation import predict
from fidle_jax.train.fit import fit
from fidle_jax.train.objectives import Objective
from fidle_jax.train.step import Task

SPLITS, QUICK_SPLITS = 10, 3
# With the learning rate of the network, the linear model would not converge within the epochs.
LINEAR_FACTOR = 10

_predict = jax.jit(predict, static_argnames="model")


class Scale(NamedTuple):
    """Mean and standard deviation of each column. The deviation of a constant column is 1."""

    mean: Float[np.ndarray, "*column"]
    deviation: Float[np.ndarray, "*column"]


def scale_of(train: Float[np.ndarray, "example *column"]) -> Scale:
    """Return the scale of the training rows, in double precision.

    The other rows must not contribute: their mean is information about the test set.
    """
    train = np.asarray(train, np.float64)
    # Rounding can give a constant column a standard deviation slightly above 0.
    varies = train.max(axis=0) > train.min(axis=0)
    return Scale(train.mean(axis=0), np.where(varies, train.std(axis=0), 1.0))


def standardise(
    values: Float[np.ndarray, "example *column"], scale: Scale
) -> Float[np.ndarray, "example *column"]:
    """Subtract the mean and divide by the standard deviation. Return float32."""
    return ((np.asarray(values, np.float64) - scale.mean) / scale.deviation).astype(np.float32)


def restore(
    standardised: Float[np.ndarray, "example *column"], scale: Scale
) -> Float[np.ndarray, "example *column"]:
    """Invert `standardise`, in double precision."""
    return np.asarray(standardised, np.float64) * scale.deviation + scale.mean


class Trial(NamedTuple):
    """A network trained on one split.

    Attributes:
        outputs: Outputs for the test rows, with the weights of the best epoch.
        history: As in `fidle_jax.train.fit.Fit`.
        best_epoch: Epoch with the lowest validation loss, starting at 1.
    """

    outputs: Float[np.ndarray, "test output"]
    history: dict[str, Float[np.ndarray, " epoch"]]
    best_epoch: int


def run_trial(
    task: Task,
    features: Float[np.ndarray, "example feature"],
    targets: Shaped[np.ndarray, " example"],
    parts: Parts,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
) -> Trial:
    """Train a network and select its best epoch on validation data. Use the test rows once, at the end.

    Args:
        task: Network, optimizer and objective.
        features: Features of all rows.
        targets: Targets of all rows.
        parts: The split.
        epochs: Training epochs.
        batch_size: Rows per step.
        seed: Seed for the initial weights and the shuffling.
    """
    fitted = fit(
        task,
        (features[parts.train], targets[parts.train]),
        validation=(features[parts.validation], targets[parts.validation]),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
    )
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


def seeds_of(flags: Regression | Classification) -> range:
    """Return the seeds of the splits, beginning with that of the flags."""
    return range(flags.seed, flags.seed + (QUICK_SPLITS if flags.quick else SPLITS))


def curves_figure(trial: Trial, loss: str, score: str) -> Figure:
    """Draw the loss and the score of each epoch, with the given titles, and mark the best epoch."""
    figure, row = panels(2, 2, height=3.9, extra=0)
    for axes, title, key in zip(row, (loss, score), ("loss", "score"), strict=True):
        draw_history(axes, trial, key, title)
        label = f"lowest loss: epoch {trial.best_epoch}"
        axes.axvline(trial.best_epoch, color=GREY, linestyle=":", label=label)
    legend_below(figure, columns=3)
    return figure


def draw_history(axes, trial: Trial, key: str, title: str) -> None:
    """Draw the training and the validation curve of one quantity against the epochs."""
    training, validation = trial.history[key], trial.history[f"validation_{key}"]
    epochs, marker = np.arange(1, len(training) + 1), "o" if len(training) == 1 else ""
    training_and_validation(axes, epochs, training, validation, marker=marker)
    axes.xaxis.get_major_locator().set_params(nbins=6, integer=True, min_n_ticks=1)
    finish(axes, title, "epoch")


def spread_table(
    head: str, values: dict[str, Float[np.ndarray, " split"]], digits: int, unit: str = ""
) -> Table:
    """Return a table with the mean, standard deviation, minimum and maximum over the splits."""
    rows = [
        [name, *(f"{x:.{digits}f}{unit}" for x in (v.mean(), v.std(ddof=1), v.min(), v.max()))]
        for name, v in values.items()
    ]
    return Table([head, "mean", "standard deviation", "lowest", "highest"], rows)
