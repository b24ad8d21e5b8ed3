"""Columns of numbers brought to mean 0 and standard deviation 1 (Fidle, notebooks BHPD)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Scale(NamedTuple):
    """Mean and standard deviation of each column, in its unit; 1 for a column that never varies."""

    mean: Float[np.ndarray, "*column"]
    deviation: Float[np.ndarray, "*column"]


def scale_of(train: Float[np.ndarray, "example *column"]) -> Scale:
    """That of the training part, in double precision.

    Of the training part alone: the mean of all rows would tell training of those it is tested on.
    """
    train = np.asarray(train, np.float64)
    # Rounding may leave a column of equal numbers a deviation that is not quite 0.
    varies = train.max(axis=0) > train.min(axis=0)
    return Scale(train.mean(axis=0), np.where(varies, train.std(axis=0), 1.0))


def standardise(
    values: Float[np.ndarray, "example *column"], scale: Scale
) -> Float[np.ndarray, "example *column"]:
    """Each value less the mean, in standard deviations; float32, as a network takes it."""
    return ((np.asarray(values, np.float64) - scale.mean) / scale.deviation).astype(np.float32)


def restore(
    standardised: Float[np.ndarray, "example *column"], scale: Scale
) -> Float[np.ndarray, "example *column"]:
    """The values in their own unit again, in double precision."""
    return np.asarray(standardised, np.float64) * scale.deviation + scale.mean
