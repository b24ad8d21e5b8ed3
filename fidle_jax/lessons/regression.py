"""Models that tell a number, compared on one split of a table (Fidle, notebooks BHPD)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fidle_jax.data.tables import DataTable, Parts, three_parts
from fidle_jax.lessons.standardise import restore, scale_of, standardise
from fidle_jax.lessons.trial import Trial, trial
from fidle_jax.train.step import Task

MEAN, LINEAR, NETWORK, RAW = "the mean", "linear model", "network", "network, raw features"


class Comparison(NamedTuple):
    """What each model made of one split, in the target's unit.

    Attributes:
        parts: the split.
        true: targets of the test part.
        predicted: the same by model.
        trials: of the models that learn; their histories are in the target's unit, and its square.
        baseline: mean absolute error on validation of the mean.
    """

    parts: Parts
    true: Float[np.ndarray, " test"]
    predicted: dict[str, Float[np.ndarray, " test"]]
    trials: dict[str, Trial]
    baseline: float


class Scores(NamedTuple):
    """Errors in the target's unit, and R², the share of its variance that is explained.

    ``standard_error`` is that of ``mae``: the deviation of absolute errors over the root of their number.
    """

    mse: float
    rmse: float
    mae: float
    standard_error: float
    r2: float


def compare(
    table: DataTable, linear: Task, network: Task, *, epochs: int, batch_size: int, seed: int
) -> Comparison:
    """The mean, a linear model, a network, and the same network on raw features, on the split of ``seed``.

    Features and targets are standardised by the training part; the network on raw features has
    standardised targets too, so that the features alone differ.
    """
    parts = three_parts(table, seed)
    scaled = standardise(table.features, scale_of(table.features[parts.train]))
    scale = scale_of(table.targets[parts.train])
    targets = standardise(table.targets, scale)
    predicted = {MEAN: np.full(len(parts.test), scale.mean)}
    trials = {}
    models = {LINEAR: (linear, scaled), NETWORK: (network, scaled), RAW: (network, table.features)}
    for name, (task, features) in models.items():
        found = trial(
            task, features, targets, parts, epochs=epochs, batch_size=batch_size, seed=seed
        )
        predicted[name] = restore(found.outputs[:, 0], scale)
        trials[name] = found._replace(history=_in_unit(found.history, float(scale.deviation)))
    baseline = float(np.abs(table.targets[parts.validation] - scale.mean).mean())
    return Comparison(parts, table.targets[parts.test], predicted, trials, baseline)


def scores(true: Float[np.ndarray, " example"], predicted: Float[np.ndarray, " example"]) -> Scores:
    """How far the predictions, of two examples or more, are from the truth."""
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    mse = float(mean_squared_error(true, predicted))
    absolute = np.abs(predicted - true)
    return Scores(
        mse=mse,
        rmse=mse**0.5,
        mae=float(mean_absolute_error(true, predicted)),
        standard_error=float(absolute.std(ddof=1) / len(true) ** 0.5),
        r2=float(r2_score(true, predicted)),
    )


def farthest_off(
    true: Float[np.ndarray, " example"], predicted: Float[np.ndarray, " example"], most: int
) -> Int[np.ndarray, " place"]:
    """Places of up to ``most`` examples with the largest errors, the largest first."""
    return np.argsort(-np.abs(predicted - true), kind="stable")[:most]


def _in_unit(history: dict[str, np.ndarray], deviation: float) -> dict[str, np.ndarray]:
    """Squared errors by the square of the target's deviation, absolute ones by itself."""
    return {
        name: values * deviation ** (2 if name.endswith("loss") else 1)
        for name, values in history.items()
    }
