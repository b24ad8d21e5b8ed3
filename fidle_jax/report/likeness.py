"""Find equal and similar photographs, by their pixels and by the correlation of small grey copies."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

SIDE = 16  # pixels of the grey copies
FRAMES = 30  # most photographs of a track


@dataclass(frozen=True)
class Nearest:
    """Most similar training photograph of each photograph, and their correlation.

    Attributes:
        index: Index of the nearest other training photograph, for each training photograph.
        correlation: Correlation with that photograph.
        elsewhere: Index of the nearest training photograph of another track.
        test_index: Index of the nearest training photograph, for each test photograph.
        test_correlation: Correlation with that photograph.
    """

    index: Int[np.ndarray, " train"]
    correlation: Float[np.ndarray, " train"]
    elsewhere: Int[np.ndarray, " train"]
    test_index: Int[np.ndarray, " test"]
    test_correlation: Float[np.ndarray, " test"]


def grey_copies(
    images: UInt8[np.ndarray, "batch height width 3"],
) -> Float[np.ndarray, "batch feature"]:
    """Return block means with SIDE blocks per side, scaled to mean 0 and norm 1.

    Products of copies are correlations. The height and width are multiples of SIDE. The copy of an image
    with a single grey level is 0.
    """
    n, height, width, _ = images.shape
    blocks = images.reshape(n, SIDE, height // SIDE, SIDE, width // SIDE, 3)
    copies = blocks.mean(axis=(2, 4, 5), dtype=np.float32).reshape(n, -1)
    copies -= copies.mean(axis=1, keepdims=True)
    return copies / np.maximum(np.linalg.norm(copies, axis=1, keepdims=True), 1e-6)


def find_nearest(
    train: Float[np.ndarray, "train feature"],
    groups: Int[np.ndarray, " train"],
    test: Float[np.ndarray, "test feature"],
) -> Nearest:
    """Find the nearest photographs, given grey copies and the tracks of the training photographs."""
    from sklearn.neighbors import NearestNeighbors

    # A track has at most FRAMES - 1 other photographs, so one of FRAMES neighbours is elsewhere.
    search = NearestNeighbors(n_neighbors=min(FRAMES, len(train) - 1), algorithm="brute").fit(train)
    distances, neighbours = search.kneighbors()
    elsewhere = (groups[neighbours] != groups[:, None]).argmax(axis=1)
    test_distances, test_neighbours = search.kneighbors(test, n_neighbors=1)
    return Nearest(
        index=neighbours[:, 0],
        correlation=1 - distances[:, 0] ** 2 / 2,
        elsewhere=neighbours[np.arange(len(train)), elsewhere],
        test_index=test_neighbours[:, 0],
        test_correlation=1 - test_distances[:, 0] ** 2 / 2,
    )
