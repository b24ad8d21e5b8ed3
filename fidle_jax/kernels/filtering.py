"""Minimal filtering along one axis: F(m, 3) computes m outputs of a kernel of 3 by m + 2 products.

This is the construction of Toom and Cook. A tile of m + 2 values and the kernel are the coefficients
of two polynomials. They are evaluated at m + 1 points and at infinity, multiplied there, and the
outputs are interpolated. All steps except the products are linear.

References:
    Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.polynomial import polynomial


class Filtering(NamedTuple):
    """The transforms of F(m, 3): outputs = ``output @ ((tile @ x) * (kernel @ w))``.

    Attributes:
        tile: Transform of a tile, (m + 2, m + 2).
        kernel: Transform of the kernel, (m + 2, 3).
        output: Transform of the products, (m, m + 2).
    """

    tile: np.ndarray
    kernel: np.ndarray
    output: np.ndarray

    @property
    def size(self) -> int:
        """Size of a tile and number of products: m + 2."""
        return len(self.tile)

    @property
    def step(self) -> int:
        """Number of outputs per tile and distance between tiles: m."""
        return len(self.output)


def filtering(points: Sequence[float]) -> Filtering:
    """Return F(m, 3) for m + 1 different points; the point at infinity is added."""
    others = [[other for other in points if other != point] for point in points]
    step = len(points) - 1
    tile = [[*polynomial.polyfromroots(rest), 0] for rest in others]
    kernel = [
        np.power(point, range(3)) / np.prod(np.subtract(point, rest))
        for point, rest in zip(points, others, strict=True)
    ]
    output = np.vander(points, step, increasing=True).T
    return Filtering(
        np.array([*tile, polynomial.polyfromroots(points)]),
        np.array([*kernel, [0, 0, 1]]),
        np.column_stack([output, np.eye(step)[-1]]),
    )


# F(2, 3) uses 4 products. It is exact on small integers.
PAIRS = filtering([0.0, 1.0, -1.0])
# F(4, 3) uses 6 products. These points have the smallest error of those tried (0 with +-1 and +-2;
# +-1 and +-1/2; -1, 1, 1/2 and -2; +-5/8 and +-3/2). For 3x3 kernels and 96 channels the error is 5
# times that of the definition; with +-1 and +-2 it is 16 times.
FOURS = filtering([0.0, 0.75, -0.75, 1.5, -1.5])


def combine(factors: np.ndarray, arrays: Sequence[Any]) -> Any:
    """Return the sum of the arrays, each multiplied by its factor."""
    terms = [
        array if factor == 1 else -array if factor == -1 else array * factor.astype(array.dtype)
        for factor, array in zip(factors, arrays, strict=True)
        if factor
    ]
    return functools.reduce(jnp.add, terms)
