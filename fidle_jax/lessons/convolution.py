"""Convolution window by window, in any number of dimensions, and classic kernels (Fidle, sequence 2)."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fidle_jax.kernels import avg_pool, conv, max_pool

# The kernel and the first three sums, 10, 11 and 12, are the slides'; the image was made to give them.
IMAGE = np.array(
    [[1, 2, 3, 2, 1], [1, 2, 3, 4, 5], [1, 2, 3, 2, 1], [5, 4, 3, 2, 1], [1, 2, 3, 2, 1]],
    np.float32,
)
KERNEL = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], np.float32)

SIGNAL = np.array([1, 1, 1, 5, 5, 5, 2, 2], np.float32)
SIGNAL_KERNEL = np.array([-1, 0, 1], np.float32)

CUBE = np.array(
    [
        [[1, 2, 1], [0, 3, 1], [2, 1, 0]],
        [[2, 0, 1], [1, 4, 2], [0, 2, 1]],
        [[0, 1, 2], [3, 1, 0], [1, 2, 5]],
    ],
    np.float32,
)
CUBE_KERNEL = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]]], np.float32)

POOLED = np.array([[1, 3, 2, 1], [4, 2, 0, 5], [6, 1, 1, 2], [0, 2, 3, 2]], np.float32)

# Sobel and Feldman's kernels of 1968; the others are those of any textbook of image processing.
KERNELS = {
    name: np.array(rows, np.float32)
    for name, rows in {
        "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
        "blur": [[1 / 9] * 3] * 3,
        "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
        "Sobel x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
        "Sobel y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
        "Laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    }.items()
}


class Step(NamedTuple):
    """One place of the window.

    Attributes:
        place: of the window's first value in the image, and of its sum in the result.
        values: of the image under the window.
        products: each of them times the kernel's value there.
        total: the sum of the products.
    """

    place: tuple[int, ...]
    values: Float[np.ndarray, "*window"]
    products: Float[np.ndarray, "*window"]
    total: float


def convolve(
    image: Float[np.ndarray, "*spatial"], kernel: Float[np.ndarray, "*window"], method: str = "auto"
) -> Float[np.ndarray, "*count"]:
    """`fidle_jax.kernels.conv` of one plane by one kernel, stride 1, without padding.

    Raises:
        ValueError: an image smaller than the kernel, or of another number of axes.
    """
    x, w = jnp.asarray(image)[None, ..., None], jnp.asarray(kernel)[..., None, None]
    return np.asarray(conv(x, w, method=method))[0, ..., 0]


def pool(image: Float[np.ndarray, "*spatial"]) -> Float[np.ndarray, "*count"]:
    """`fidle_jax.kernels.max_pool` of one plane, windows of 2 along each axis, stride 2."""
    return np.asarray(max_pool(jnp.asarray(image)[None, ..., None]))[0, ..., 0]


def halve(image: Float[np.ndarray, "*spatial"]) -> Float[np.ndarray, "*count"]:
    """The image at half its size, the mean of each 2x2."""
    return np.asarray(avg_pool(jnp.asarray(image)[None, ..., None]))[0, ..., 0]


def window_steps(
    image: Float[np.ndarray, "*spatial"], kernel: Float[np.ndarray, "*window"]
) -> list[Step]:
    """What a convolution of stride 1 without padding does at each place, the last axis fastest.

    Raises:
        ValueError: as `convolve`.
    """
    totals = convolve(image, kernel, method="reference")
    steps = []
    for place in np.ndindex(totals.shape):
        values = image[
            tuple(slice(start, start + k) for start, k in zip(place, kernel.shape, strict=True))
        ]
        steps.append(Step(place, values, values * kernel, float(totals[place])))
    return steps


def is_signed(kernel: Float[np.ndarray, "*window"]) -> bool:
    """Whether the kernel's values sum up to zero: what it gives lies on both sides of zero."""
    return bool(abs(kernel.sum()) < 1e-6)
