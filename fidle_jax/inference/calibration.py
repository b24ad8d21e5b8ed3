"""Whether a network is as often right as it is sure, and one number that makes it more honest.

Of all examples that it gives a probability of 0.8, eight in ten should be right.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15
LOG_TEMPERATURES = (-4.0, 4.0)  # natural logarithms of the range that is searched


class Reliability(NamedTuple):
    """Examples in bins of equal width, by the probability of the class that they are taken for.

    Attributes:
        counts: examples in each bin.
        confidence: the mean of their probabilities; NaN in an empty bin.
        accuracy: share of them that is right; NaN in an empty bin.
    """

    counts: Int[np.ndarray, " bin"]
    confidence: Float[np.ndarray, " bin"]
    accuracy: Float[np.ndarray, " bin"]

    def error(self) -> float:
        """The expected calibration error, 0 to 1: mean distance of accuracy and confidence.

        After Naeini, Cooper and Hauskrecht (2015) and, for several classes, Guo et al. (2017).
        """
        filled = self.counts > 0
        gaps = np.abs(self.accuracy - self.confidence)[filled]
        return float((gaps * self.counts[filled]).sum() / self.counts.sum())


class Calibration(NamedTuple):
    """How honest a network is at a temperature.

    Attributes:
        temperature: that its logits are divided by.
        reliability: accuracy by confidence.
        error: the expected calibration error, 0 to 1.
        loss: mean negative log-likelihood, in nats.
        standard_error: of that mean.
    """

    temperature: float
    reliability: Reliability
    error: float
    loss: float
    standard_error: float


def calibration(
    logits: Float[np.ndarray, "example class"],
    labels: Int[np.ndarray, " example"],
    temperature: float = 1.0,
) -> Calibration:
    """All that is said of calibration, for logits divided by ``temperature``."""
    bins = reliability(logits, labels, temperature)
    losses = negative_log_likelihoods(logits, labels, temperature)
    standard_error = float(losses.std(ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else 0.0
    return Calibration(temperature, bins, bins.error(), float(losses.mean()), standard_error)


def right_answers(
    logits: Float[np.ndarray, "example class"], labels: Int[np.ndarray, " example"]
) -> Bool[np.ndarray, " example"]:
    """Whether the largest logit is that of the right class."""
    return logits.argmax(axis=1) == labels


def reliability(
    logits: Float[np.ndarray, "example class"],
    labels: Int[np.ndarray, " example"],
    temperature: float = 1.0,
    bins: int = BINS,
) -> Reliability:
    """How sure the network is and how often right, for logits divided by ``temperature``.

    A probability on the edge of two bins counts in the lower one.
    """
    probabilities = softmax(logits.astype(np.float64) / temperature, axis=1)
    confidence = probabilities.max(axis=1)
    edges = np.arange(1, bins) / bins
    places = np.digitize(confidence, edges, right=True)
    counts = np.bincount(places, minlength=bins)
    right = right_answers(logits, labels)
    sums = (np.bincount(places, each, minlength=bins) for each in (confidence, right))
    # An empty bin has no mean.
    divisors = np.where(counts, counts, np.nan)
    return Reliability(counts, *(each / divisors for each in sums))


def negative_log_likelihoods(
    logits: Float[np.ndarray, "example class"],
    labels: Int[np.ndarray, " example"],
    temperature: float = 1.0,
) -> Float[np.ndarray, " example"]:
    """Of each example's right class, in nats, for logits divided by ``temperature``: the cross-entropy."""
    logarithms = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return -logarithms[np.arange(len(labels)), labels]


def fit_temperature(
    logits: Float[np.ndarray, "example class"], labels: Int[np.ndarray, " example"]
) -> float | None:
    """The temperature of the least mean negative log-likelihood (Guo et al., 2017).

    The examples must be others than those that the network learned from, and than those that it is tested
    with. No class changes its place: accuracy stays as it is.

    Returns:
        The temperature; above 1 where the network is too sure. None where none is the best: where all
        examples are right it would be ever lower, where they are no better than chance ever higher.
    """
    own = logits[np.arange(len(labels)), labels].astype(np.float64)
    if right_answers(logits, labels).all() or (own - logits.mean(axis=1)).mean() <= 0:
        return None

    # In the logarithm there is one minimum, as the mean is convex in the inverse of the temperature.
    def mean_loss(logarithm: float) -> float:
        return negative_log_likelihoods(logits, labels, np.exp(logarithm)).mean()

    found = minimize_scalar(mean_loss, bounds=LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x))
