"""What every data set looks like once it is loaded, wherever it came from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32, UInt8


@dataclass(frozen=True)
class Split:
    """Images, 0 to 255, and the class index of each.

    Attributes:
      images: channels last.
      labels: class indices.
      groups: which images of a class belong together, as frames of one scene; None where each is on
        its own.
    """

    images: UInt8[np.ndarray, "example height width channel"]
    labels: Int32[np.ndarray, "example"]
    groups: Int32[np.ndarray, "example"] | None = None

    def take(self, rows: Int[np.ndarray, "row"]) -> "Split":
        """Those examples alone, in that order."""
        groups = None if self.groups is None else self.groups[rows]
        return Split(self.images[rows], self.labels[rows], groups)

    def read_images(
        self, rows: Int[np.ndarray, "row"]
    ) -> UInt8[np.ndarray, "row height width channel"]:
        """The images of those examples."""
        return self.images[rows]


@dataclass(frozen=True)
class StoredSplit:
    """A split whose images stay on disk.

    Attributes:
      labels: as of `Split`.
      groups: as of `Split`.
      read_images: as of `Split`, read and decoded at each call, by any thread; raises InputError where
        the data is damaged.
    """

    labels: Int32[np.ndarray, "example"]
    groups: Int32[np.ndarray, "example"] | None
    read_images: Callable[[Int[np.ndarray, "row"]], UInt8[np.ndarray, "row height width channel"]]

    def take(self, rows: Int[np.ndarray, "row"]) -> "StoredSplit":
        """Those examples alone, in that order."""
        groups = None if self.groups is None else self.groups[rows]
        # Neither the split that they are of nor more than four bytes an example stays in memory.
        read_images, rows = self.read_images, rows.astype(np.int32)
        return StoredSplit(self.labels[rows], groups, lambda some: read_images(rows[some]))


WHOLE = (0, 1)


def part_rows(examples: int, part: tuple[int, int]) -> range:
    """The examples of one of equal parts, (index, count), in their order; the last may be shorter."""
    index, count = part
    size = -(-examples // count)
    return range(min(index * size, examples), min((index + 1) * size, examples))


@runtime_checkable
class Read(Protocol):
    """Reads a split, or one of equal parts of it, (index, count), and nothing of the others."""

    def __call__(self, split: str, part: tuple[int, int] = WHOLE) -> Split:
        """Raises InputError where the data cannot be had or is damaged."""
        ...


@runtime_checkable
class Open(Protocol):
    """Gives a split whose images are read when they are asked for, with the numbers of one of its parts."""

    def __call__(self, split: str, part: tuple[int, int] = WHOLE) -> StoredSplit:
        """Labels and groups are the part's; images are those of all examples of the split.

        Raises InputError where the data cannot be had or is damaged.
        """
        ...


def _nothing_to_check(split: str, content: Split | StoredSplit) -> None:
    pass


@runtime_checkable
class Check(Protocol):
    """Looks at a whole split that was read in parts."""

    def __call__(self, split: str, content: Split | StoredSplit) -> None:
        """Raises InputError where it is not what was prepared."""
        ...


Whole = TypeVar("Whole", Split, StoredSplit)


def checked(get: Callable[[str, tuple[int, int]], Whole], check: Check):
    """``get``, a split or a part of it, that looks at a whole one before it gives it."""

    def get_checked(split: str, part: tuple[int, int] = WHOLE) -> Whole:
        content = get(split, part)
        if part == WHOLE:
            check(split, content)
        return content

    return get_checked


@dataclass(frozen=True)
class Dataset:
    """A data set that is ready to be read.

    Attributes:
      name: as it was asked for, e.g. ``"mnist"`` or ``"tfds:fashion_mnist"``.
      variant: ``"full"`` or ``"sample"``.
      class_names: the name of each label.
      image_shape: (height, width, channels).
      train_examples: number of images in the training split.
      test_examples: number of images in the test split.
      read: gives the split ``"train"`` or ``"test"``, or a part of it, read from disk at each call.
      open: gives the same split for its images to be read one by one; None where it is only to be had
        as a whole.
      check: of a split that was read or opened in parts, where there is a way to know; a whole one is
        checked as it is read.
      mirrored: the class that each becomes once left and right are swapped, -1 for none; None where
        that is not known.
      class_groups: the classes of each group of like ones, each class in one of them, in the order that
        they are shown in; None where the set has no such groups.
    """

    name: str
    variant: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_examples: int
    test_examples: int
    read: Read
    open: Open | None = None
    check: Check = _nothing_to_check
    mirrored: tuple[int, ...] | None = None
    class_groups: Mapping[str, tuple[int, ...]] | None = None
