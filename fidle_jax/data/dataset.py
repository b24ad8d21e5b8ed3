"""The interface of every data set: uint8 images with labels, stratified splits, and class weights."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Int32, Integer, UInt8

from fidle_jax.errors import InputError

BETA = 0.999  # of the effective number of samples, which limits it to 1,000


@dataclass(frozen=True)
class Split:
    """A split whose images are in memory."""

    images: UInt8[np.ndarray, "example height width channel"]
    labels: Int32[np.ndarray, "example"]
    # Group of each example within its class, e.g. the track of a frame. None: examples are independent.
    groups: Int32[np.ndarray, "example"] | None = None

    def take(self, rows: Int[np.ndarray, "row"]) -> "Split":
        """Return the examples ``rows``, in that order."""
        groups = None if self.groups is None else self.groups[rows]
        return Split(self.images[rows], self.labels[rows], groups)

    def read_images(
        self, rows: Int[np.ndarray, "row"]
    ) -> UInt8[np.ndarray, "row height width channel"]:
        """Return the images of the examples ``rows``."""
        return self.images[rows]


@dataclass(frozen=True)
class StoredSplit:
    """A split whose images stay on disk.

    ``read_images`` reads and decodes the images at each call. It is thread-safe and raises InputError if
    the data is damaged.
    """

    labels: Int32[np.ndarray, "example"]
    groups: Int32[np.ndarray, "example"] | None
    read_images: Callable[[Int[np.ndarray, "row"]], UInt8[np.ndarray, "row height width channel"]]

    def take(self, rows: Int[np.ndarray, "row"]) -> "StoredSplit":
        """Return the examples ``rows``, in that order."""
        groups = None if self.groups is None else self.groups[rows]
        # Bind only what is needed, so that the original split and int64 indices can be freed.
        read_images, rows = self.read_images, rows.astype(np.int32)
        return StoredSplit(self.labels[rows], groups, lambda some: read_images(rows[some]))


AnySplit: TypeAlias = Split | StoredSplit


@dataclass(frozen=True)
class Dataset:
    """A data set that is ready to be read.

    Attributes:
        name: Name as given by the user, e.g. ``"mnist"`` or ``"tfds:fashion_mnist"``.
        variant: ``"full"`` or ``"sample"``.
        read: Read the split ``"train"``, ``"validation"`` or ``"test"``. Raise InputError if the data is
            missing or damaged.
        open: Like ``read``, but leave the images on disk if they are there.
        mirrored: Class of the mirror image of each class, or -1 for none. None if unknown.
        class_groups: Groups of similar classes, in display order. None if the set has no groups.
        validation_examples: Number of examples of the split ``"validation"``, or 0 if there is none.
        class_counts: Number of images of each class before a test set is held out, if known.
        facts: What the report says about a user's own images, or None for other data sets.
        settings: Settings of a config that load it again, or empty.
    """

    name: str
    variant: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_examples: int
    test_examples: int
    read: Callable[[str], Split]
    open: Callable[[str], StoredSplit]
    mirrored: tuple[int, ...] | None = None
    class_groups: Mapping[str, tuple[int, ...]] | None = None
    validation_examples: int = 0
    class_counts: tuple[int, ...] = ()
    facts: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """Return one line, because the attributes may be long."""
        size = "x".join(map(str, self.image_shape))
        return (
            f"<{self.name} ({self.variant}): {self.train_examples:,} training and "
            f"{self.test_examples:,} test images of {size} in {len(self.class_names)} classes>"
        )


def stratified_split(
    labels: Integer[np.ndarray, "example"],
    fraction: float,
    seed: int,
    groups: Integer[np.ndarray, "example"] | None = None,
) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "validation"]]:
    """Hold out ``fraction`` of every class. At least one example of each class remains for training.

    With ``groups``, hold out whole groups, at least one per class, with about ``fraction`` of the examples.
    Use this for nearly identical examples, such as the frames of a track. If a group were on both sides,
    validation would measure memorization.
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
        members, sizes = np.unique(groups[of_class], return_counts=True)
        # NumPy guarantees stable raw bits across versions, but not stable permutations.
        bits = np.random.PCG64([int(seed), int(label)]).random_raw(len(members))
        order = np.argsort(bits, kind="stable")
        count = round(fraction * len(members))
        if np.ptp(sizes):
            totals = np.cumsum(sizes[order])
            count = 1 + int(np.argmin(np.abs(totals - fraction * totals[-1])))
        count = min(max(count, least), len(members) - 1)
        held_out |= of_class & np.isin(groups, members[order[:count]])
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
