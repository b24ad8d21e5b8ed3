"""The interface of every data set: uint8 images in memory or on disk, with labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Int, Int32, UInt8


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
        read: Read the split ``"train"`` or ``"test"``. Raise InputError if the data is missing or damaged.
        open: Like ``read``, but leave the images on disk. None if the set can only be read into memory.
        mirrored: Class of the mirror image of each class, or -1 for none. None if unknown.
        class_groups: Groups of similar classes, in display order. None if the set has no groups.
    """

    name: str
    variant: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_examples: int
    test_examples: int
    read: Callable[[str], Split]
    open: Callable[[str], StoredSplit] | None = None
    mirrored: tuple[int, ...] | None = None
    class_groups: Mapping[str, tuple[int, ...]] | None = None
