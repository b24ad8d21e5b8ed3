"""Stratified and grouped splits, and class weights."""

import numpy as np
from jaxtyping import Float, Int, Integer

from fidle_jax.errors import InputError

BETA = 0.999  # of the effective number of samples, which limits it to 1,000


def stratified_split(
    labels: Integer[np.ndarray, "example"],
    fraction: float,
    seed: int,
    groups: Integer[np.ndarray, "example"] | None = None,
) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "validation"]]:
    """Hold out ``fraction`` of every class. At least one example of each class remains for training.

    With ``groups``, hold out whole groups, at least one per class. Use this for nearly identical examples,
    such as the frames of a track. If a group were on both sides, validation would measure memorization.
    Equal group indices in two classes are two groups. The split depends only on the arguments, not on the
    version of NumPy.

    Returns:
        The indices of the training and validation examples in ascending order.

    Raises:
        InputError: The fraction is not in [0, 1) or holds out no example, or the seed is not a natural
            number.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed is {seed!r}; it must be an integer of at least 0")
    if not 0 <= fraction < 1:
        raise InputError(f"validation fraction {fraction} is not in [0, 1); use e.g. 0.1, or 0")
    least = 0 if groups is None else 1
    groups = np.arange(len(labels)) if groups is None else groups
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels) if fraction else ():
        of_class = labels == label
        members = np.unique(groups[of_class])
        count = min(max(round(fraction * len(members)), least), len(members) - 1)
        # NumPy guarantees stable raw bits across versions, but not stable permutations.
        bits = np.random.PCG64([int(seed), int(label)]).random_raw(len(members))
        chosen = members[np.argsort(bits, kind="stable")][:count]
        held_out |= of_class & np.isin(groups, chosen)
    if fraction and not held_out.any():
        advice = "no class has two groups; use 0" if least else "use a larger fraction, or 0"
        raise InputError(
            f"validation fraction {fraction} of {len(labels)} examples holds out no example; {advice}"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def class_weights(
    kind: str, labels: Integer[np.ndarray, "example"], classes: int
) -> Float[np.ndarray, "class"]:
    """Return loss weights that emphasize rare classes. Their mean over the examples is 1.

    A class without examples is weighted as one with a single example, because flips may create some.

    A class with n examples has the weight 1 / n, or for the kind "effective" the inverse of the effective
    number (1 - beta^n) / (1 - beta) with beta = 0.999.

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (2019).
    """
    counts = np.bincount(labels, minlength=classes)
    numbers = np.maximum(counts, 1)
    if kind == "effective":
        numbers = (1 - BETA**numbers) / (1 - BETA)
    weights = 1 / numbers
    return weights * len(labels) / (weights * counts).sum()
