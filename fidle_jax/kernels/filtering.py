"""Minimal filtering along one axis: F(m, 3) gives m values of a window of 3 by m + 2 products.

After Winograd, by Toom and Cook's construction: a tile of m + 2 values and the kernel of 3 are taken
for the coefficients of two polynomials, evaluated at m + 1 points and at infinity, multiplied there,
and the values read off, which are linear steps but for the products (Lavin and Gray, "Fast algorithms
for convolutional neural networks", 2015).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.polynomial import polynomial


class Filtering(NamedTuple):
    """The transforms of F(m, 3): values = ``values @ ((tile @ x) * (kernel @ w))``.

    Attributes:
        tile: (m + 2, m + 2).
        kernel: (m + 2, 3).
        values: (m, m + 2).
    """

    tile: np.ndarray
    kernel: np.ndarray
    values: np.ndarray

    @property
    def places(self) -> int:
        """Values of a tile, and products: m + 2."""
        return len(self.tile)

    @property
    def step(self) -> int:
        """Values of the result, and from one tile's start to the next's: m."""
        return len(self.values)


def filtering(points: Sequence[float]) -> Filtering:
    """F(m, 3) by m + 1 different points, besides the one at infinity."""
    others = [[other for other in points if other != point] for point in points]
    step = len(points) - 1
    tile = [[*polynomial.polyfromroots(rest), 0] for rest in others]
    kernel = [
        np.power(point, range(3)) / np.prod(np.subtract(point, rest))
        for point, rest in zip(points, others, strict=True)
    ]
    values = np.vander(points, step, increasing=True).T
    return Filtering(
        np.array([*tile, polynomial.polyfromroots(points)]),
        np.array([*kernel, [0, 0, 1]]),
        np.column_stack([values, np.eye(step)[-1]]),
    )


# Two values by 4 products, exact on small whole numbers.
PAIRS = filtering([0.0, 1.0, -1.0])
# Four by 6. Of the points tried (0 with +-1 and +-2; +-1 and +-1/2; -1, 1, 1/2 and -2; +-5/8 and
# +-3/2), these have the least error: sums over 3x3 windows of 96 channels are off by five times what
# the definition's sums are, with +-1 and +-2 by sixteen.
FOURS = filtering([0.0, 0.75, -0.75, 1.5, -1.5])


def combination(factors: np.ndarray, arrays: Sequence[Any]) -> Any:
    """The sum of the arrays, each times its factor."""
    terms = [
        array if factor == 1 else -array if factor == -1 else array * factor.astype(array.dtype)
        for factor, array in zip(factors, arrays, strict=True)
        if factor
    ]
    return functools.reduce(jnp.add, terms)
