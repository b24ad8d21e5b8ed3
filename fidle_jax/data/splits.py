"""Splits that keep the share of every class."""

import numpy as np
from jaxtyping import Int, Integer

from fidle_jax.errors import InputError


def stratified_split(
    labels: Integer[np.ndarray, "example"], fraction: float, seed: int
) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "validation"]]:
    """Holds ``fraction`` of every class out, chosen by (labels, fraction, seed) alone.

    Each class gives its share, rounded, and keeps at least one example.

    Returns:
      The indices of the training and of the validation examples, each in ascending order;
      for a fraction of 0 the second is empty.

    Raises:
      InputError: for a fraction outside [0, 1), or so small that it would hold nothing out, and
        for a negative seed.
    """
    check_seed(seed)
    _check_fraction(fraction)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(round(fraction * len(members)), len(members) - 1)
        held_out[_shuffled(members, seed, int(label))[:count]] = True
    if fraction > 0 and not held_out.any():
        raise InputError(
            f"validation fraction {fraction} of {len(labels)} examples holds none out; "
            "give a larger fraction, or 0"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def grouped_split(
    labels: Integer[np.ndarray, "example"],
    groups: Integer[np.ndarray, "example"],
    fraction: float,
    seed: int,
) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "validation"]]:
    """Holds whole groups out, ``fraction`` of every class's, chosen by (labels, groups, fraction, seed).

    For examples that come in groups of near-identical ones, as the frames of a track: one on each
    side would make validation a test of memory. Groups with the same number in two classes are two
    groups. Each class gives its share of groups, rounded, one at least, and keeps one at least.

    Returns:
      The indices of the training and of the validation examples, each in ascending order;
      for a fraction of 0 the second is empty.

    Raises:
      InputError: for a fraction outside [0, 1), or where no class has two groups, and for a negative
        seed.
    """
    check_seed(seed)
    _check_fraction(fraction)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        of_class = labels == label
        members = np.unique(groups[of_class])
        count = min(max(round(fraction * len(members)), fraction > 0), len(members) - 1)
        chosen = _shuffled(members, seed, int(label))[:count]
        held_out |= of_class & np.isin(groups, chosen)
    if fraction > 0 and not held_out.any():
        raise InputError(
            f"validation fraction {fraction}: no class has two groups, one to hold out and one to keep; "
            "give 0"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _check_fraction(fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise InputError(f"validation fraction {fraction} is not in [0, 1); give e.g. 0.1, or 0")


def check_seed(seed: object) -> None:
    """Raises InputError where ``seed`` is not a whole number of at least 0."""
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed {seed!r} is not a whole number of at least 0; give e.g. 0")


def _shuffled(
    members: Int[np.ndarray, "member"], seed: int, label: int
) -> Int[np.ndarray, "member"]:
    # NumPy promises that raw bits never change between its versions, but not so permutations.
    bits = np.random.PCG64([int(seed), label]).random_raw(len(members))
    return members[np.argsort(bits, kind="stable")]
