"""Which photographs are the same, or nearly: by their bytes, and by the correlation of small grey copies."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

SIDE = 16  # pixels; of the grey copies
FRAMES = 30  # at most, of a track


@dataclass(frozen=True)
class Nearest:
    """For each photograph the most similar one of the training set, and their correlation, -1 to 1.

    Attributes:
      index, correlation: of the most similar other training photograph, for each of the training set.
      elsewhere: index of the most similar one that belongs to another track.
      test_index, test_correlation: of the most similar one, for each of the test set.
    """

    index: Int[np.ndarray, "train"]
    correlation: Float[np.ndarray, "train"]
    elsewhere: Int[np.ndarray, "train"]
    test_index: Int[np.ndarray, "test"]
    test_correlation: Float[np.ndarray, "test"]


def grey_copies(images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n features"]:
    """Means over blocks and colours, SIDE a side, of mean 0 and length 1: products are correlations.

    Height and width are multiples of SIDE. An image of one grey alone becomes 0.
    """
    n, h, w, _ = images.shape
    blocks = images.reshape(n, SIDE, h // SIDE, SIDE, w // SIDE, 3)
    copies = blocks.mean(axis=(2, 4, 5), dtype=np.float32).reshape(n, -1)
    copies -= copies.mean(axis=1, keepdims=True)
    return copies / np.maximum(np.linalg.norm(copies, axis=1, keepdims=True), 1e-6)


def find_nearest(
    train: Float[np.ndarray, "train features"],
    groups: Int[np.ndarray, "train"],
    test: Float[np.ndarray, "test features"],
) -> Nearest:
    """The most similar photographs by `grey_copies`; ``groups`` are the tracks, of at most FRAMES each."""
    from sklearn.neighbors import NearestNeighbors

    # A track has FRAMES - 1 others: the last of so many neighbours is surely of another track.
    search = NearestNeighbors(n_neighbors=min(FRAMES, len(train) - 1), algorithm="brute").fit(train)
    distances, neighbours = search.kneighbors()
    foreign = (groups[neighbours] != groups[:, None]).argmax(axis=1)
    test_distances, test_neighbours = search.kneighbors(test, n_neighbors=1)
    return Nearest(
        index=neighbours[:, 0],
        correlation=1 - distances[:, 0] ** 2 / 2,
        elsewhere=neighbours[np.arange(len(train)), foreign],
        test_index=test_neighbours[:, 0],
        test_correlation=1 - test_distances[:, 0] ** 2 / 2,
    )


def of_successive_frames(
    copies: Float[np.ndarray, "n features"], groups: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "pairs"]:
    """Correlations of neighbours in a track; photographs come in the order of their tracks."""
    together = groups[1:] == groups[:-1]
    return (copies[1:] * copies[:-1]).sum(axis=1)[together]


def repeats(digests: Shaped[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Whether the same pixels came before."""
    repeated = np.ones(len(digests), bool)
    repeated[np.unique(digests, return_index=True)[1]] = False
    return repeated


def where_first(
    digests: Shaped[np.ndarray, "n"], among: Shaped[np.ndarray, "m"]
) -> Int[np.ndarray, "n"]:
    """The first place of each in ``among``; -1 where it is not there."""
    known, first = np.unique(among, return_index=True)
    place = np.minimum(np.searchsorted(known, digests), len(known) - 1)
    return np.where(known[place] == digests, first[place], -1)


def first_of_each(
    groups: Int[np.ndarray, "n"], order: Int[np.ndarray, "m"]
) -> Int[np.ndarray, "groups"]:
    """Of the photographs in ``order``, the first of each group, in that order."""
    return order[np.sort(np.unique(groups[order], return_index=True)[1])]


def class_means(
    copies: Float[np.ndarray, "n features"], labels: Int[np.ndarray, "n"], classes: int
) -> Float[np.ndarray, "classes features"]:
    """The mean of each class, one at least, of length 1."""
    means = np.stack([copies[labels == label].mean(axis=0) for label in range(classes)])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def clearest(
    copies: Float[np.ndarray, "n features"],
    labels: Int[np.ndarray, "n"],
    merits: Float[np.ndarray, "n"],
    classes: int,
) -> Int[np.ndarray, "classes"]:
    """The photograph of each class that is most like the class's mean, of the better half by ``merits``."""
    similar = (copies * class_means(copies, labels, classes)[labels]).sum(axis=1)
    found = []
    for label in range(classes):
        of_class = np.flatnonzero(labels == label)
        better = of_class[merits[of_class] >= np.median(merits[of_class])]
        found.append(better[similar[better].argmax()])
    return np.array(found)
