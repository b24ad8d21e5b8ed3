"""Points of two classes on the plane: what one line parts, and what no line does."""

import numpy as np
from jaxtyping import Float, Int
from sklearn.datasets import make_blobs, make_circles, make_moons

Cloud = tuple[Float[np.ndarray, "point 2"], Int[np.ndarray, " point"]]

CORNERS = np.array([[-1, -1], [1, 1], [-1, 1], [1, -1]], np.float32)
CORNER_LABELS = np.array([0, 0, 1, 1], np.int32)


def blobs(count: int, seed: int) -> Cloud:
    """Two round heaps of points, far enough apart for a line between them."""
    points, labels = make_blobs(
        count, centers=[[-1.1, -0.7], [1.1, 0.7]], cluster_std=0.4, random_state=seed
    )
    return points.astype(np.float32), labels.astype(np.int32)


def xor(count: int, seed: int) -> Cloud:
    """A heap on each corner of a square; opposite corners are of one class (exclusive or)."""
    corner = np.arange(count) % len(CORNERS)
    noise = np.random.default_rng(seed).normal(scale=0.3, size=(count, 2))
    return (CORNERS[corner] + noise).astype(np.float32), CORNER_LABELS[corner]


def moons(count: int, seed: int) -> Cloud:
    """Two half circles that reach into each other."""
    points, labels = make_moons(count, noise=0.12, random_state=seed)
    return (1.2 * (points - [0.5, 0.25])).astype(np.float32), labels.astype(np.int32)


def rings(count: int, seed: int) -> Cloud:
    """A ring, of class 0, around another."""
    points, labels = make_circles(count, noise=0.08, factor=0.4, random_state=seed)
    return (1.6 * points).astype(np.float32), labels.astype(np.int32)


CLOUDS = {"blobs": blobs, "xor": xor, "moons": moons, "rings": rings}


def best_line(
    points: Float[np.ndarray, "point 2"], labels: Int[np.ndarray, " point"], directions: int = 360
) -> float:
    """The largest share of points that a line has on the right side, over all lines of some directions.

    Args:
        points: of two classes.
        labels: 0 or 1 of each.
        directions: evenly spread over the half circle; of each direction every line is tried.
    """
    angles = np.pi * np.arange(directions) / directions
    heights = points.astype(np.float64) @ np.stack([np.cos(angles), np.sin(angles)])
    order = np.argsort(heights, axis=0)
    heights = np.take_along_axis(heights, order, axis=0)
    ones = labels[order]
    # Below the cut class 0 is right, above it class 1; the line's other side is tried by 1 - right.
    right = (np.cumsum(1 - ones, axis=0) + ones.sum(axis=0) - np.cumsum(ones, axis=0)) / len(labels)
    # No line goes between two points of the same height.
    between = np.diff(heights, axis=0, append=np.inf) > 1e-9
    return float(np.where(between, np.maximum(right, 1 - right), 0).max())
