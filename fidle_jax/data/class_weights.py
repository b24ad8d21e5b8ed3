"""Weights of classes, by which a training loss counts examples of rare classes more."""

import numpy as np
from jaxtyping import Float, Integer

BETA = 0.999  # of the effective number of samples: no class counts as more than 1,000


def class_weights(
    kind: str, labels: Integer[np.ndarray, "example"], classes: int
) -> Float[np.ndarray, "class"]:
    """The weight of each class; their mean over the examples is 1.

    A class that no example has weighs as one that has a single example: a flip may make some.

    Args:
      kind: "inverse", by the inverse of a class's number of examples, n; or "effective", by the inverse
        of their effective number (1 - beta^n) / (1 - beta), beta being 0.999 (Cui et al.,
        "Class-Balanced Loss Based on Effective Number of Samples", 2019).
      labels: of the training examples, one at least.
      classes: how many there are.
    """
    counts = np.bincount(labels, minlength=classes)
    numbers = np.maximum(counts, 1)
    if kind == "effective":
        numbers = (1 - BETA**numbers) / (1 - BETA)
    weights = 1 / numbers
    return weights * len(labels) / (weights * counts).sum()
