"""Convolution by windows of 3 (3x3, 3x3x3, ...) at stride 1 with fewer multiplications.

Winograd's minimal filtering F(2, 3) along every axis: 4 products give 2 values, where the definition
takes 6; on an image, 16 where it takes 36 (Lavin and Gray, "Fast algorithms for convolutional neural
networks", 2015). Tiles of 4, two apart, and the kernel are transformed by additions; what is left is
one matmul for each of the 4^n places in a tile. The gradients are transformed alike, being the
transposes of the same steps. Rounding errors are a few times those of the definition.

Two values a side are also what a pool of 2 takes: `conv_pool` takes the maximum of them where they
are, and never puts the image together.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fidle_jax.kernels.bias import add_bias
from fidle_jax.kernels.chunks import in_chunks
from fidle_jax.kernels.first_max import first_max_of
from fidle_jax.kernels.stored import stored
from fidle_jax.kernels.windows import Padding, Sizes, Windows, conv_windows, pad

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# The transforms along one axis, in the paper's notation, with the signs of the last row turned.
TILE = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
VALUES = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])

# Arrays by their place along every spatial axis of a tile, a kernel or a pair of values.
Places = dict[tuple[int, ...], jax.Array]


def supports(size: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...]) -> bool:
    """Whether windows of this kind are computed: 3 values a side, strides and dilation of 1."""
    return set(size) <= {3} and set(strides) <= {1} and set(dilation) <= {1}


def supports_pool(windows: Windows, pool: Windows) -> bool:
    """Whether `conv_pool` computes them: what `supports` says, and a pool of 2 at strides of 2."""
    halves = set(pool.size) <= {2} and set(pool.strides) <= {2}
    return halves and supports(windows.size, windows.strides, windows.dilation)


def conv(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel_per_group feature"],
    *,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
) -> Float[Array, "batch *count feature"]:
    """The convolution by tiles of two values a side.

    Raises:
        ValueError: windows other than 3 a side, strides or dilation other than 1.
    """
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    if not supports(windows.size, windows.strides, windows.dilation):
        raise ValueError("winograd takes windows of 3 on every side, strides and dilation of 1")
    tiles = tuple(-(-n // 2) for n in windows.count)
    wide = w.astype(jnp.promote_types(w.dtype, jnp.float32))

    def convolve(x):
        values = _values(_fitted(x, windows, tiles), wide, groups)
        y = _joined({place: stored(value) for place, value in values.items()})
        return y[tuple(map(slice, (x.shape[0], *windows.count)))]

    return in_chunks(convolve, x, _bytes_of_one(tiles, w)).astype(x.dtype)


def conv_pool(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel feature"],
    b: Float[Array, " feature"],
    windows: Windows,
    pool: Windows,
    relu: bool,
) -> Float[Array, "batch *count feature"]:
    """``max_pool(relu(conv(x, w) + b))``, or without the ReLU, for a pool of 2 at strides of 2."""
    wide = w.astype(jnp.promote_types(w.dtype, jnp.float32))

    def convolve_and_pool(x):
        values = _values(_fitted(x, windows, pool.count), wide, groups=1)
        return first_max_of(*(values[place] for place in sorted(values)))

    pooled = in_chunks(convolve_and_pool, x, _bytes_of_one(pool.count, w))
    return add_bias(pooled, b, relu).astype(x.dtype)


def _bytes_of_one(tiles, w):
    """What the transformed tiles of one example, their products and the gradients in both take."""
    places = 4 ** len(tiles)
    return 2 * 4 * places * math.prod(tiles) * (w.shape[-2] + w.shape[-1])


def _fitted(x, windows, tiles):
    """``x`` with its padding, cut or filled to what the tiles take in: 2 values more than twice them."""
    fill = [
        (low, max(0, 2 * t + 2 - n - low))
        for (low, _), n, t in zip(windows.padding, x.shape[1:-1], tiles, strict=True)
    ]
    x = pad(x.astype(jnp.promote_types(x.dtype, jnp.float32)), fill)
    return x[(slice(None), *(slice(2 * t + 2) for t in tiles))]


def _values(x, w, groups) -> Places:
    """The convolution's values by their place in a pair along each axis, (batch, *tiles, feature)."""
    parts = {place: stored(part) for place, part in _split(x).items()}
    return _untransformed(_transform(TILE, _tiles(parts)), _transformed_kernel(w), groups)


def _transformed_kernel(w) -> Places:
    places = itertools.product(range(3), repeat=w.ndim - 2)
    return _transform(KERNEL, {place: w[place] for place in places})


def _untransformed(tiles: Places, kernel: Places, groups) -> Places:
    """The values that come of transformed tiles and a transformed kernel."""
    products = {place: _matmul(tiles[place], kernel[place], groups) for place in tiles}
    return _transform(VALUES, products)


def _split(x) -> Places:
    """Every second value along each spatial axis, by whether they are the first ones or the others."""
    parts = {(): x}
    for axis in range(1, x.ndim - 1):
        parts = {
            (*place, i): half
            for place, part in parts.items()
            for i, half in enumerate(halves(part, axis))
        }
    return parts


def halves(x: Array, axis: int) -> list[Array]:
    """Every second value along an axis of an even number of them: the first ones, and the others."""
    pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
    # Not by indexing: the transpose of a split is a concatenation, that of slices a sum of padded ones.
    return [half.squeeze(axis + 1) for half in lax.split(pairs, (1, 1), axis + 1)]


def _joined(parts: Places):
    """What `_split` gives these parts of."""
    for axis in range(len(next(iter(parts))), 0, -1):
        rest = {place[:-1] for place in parts}
        parts = {
            place: _alternating(parts[(*place, 0)], parts[(*place, 1)], axis) for place in rest
        }
    return parts[()]


def _alternating(one, other, axis):
    pairs = jnp.stack([one, other], axis + 1)
    return pairs.reshape(*one.shape[:axis], 2 * one.shape[axis], *one.shape[axis + 1 :])


def _tiles(parts: Places) -> Places:
    """The values of all tiles by their place in it: of 4 along each axis, two apart.

    Args:
        parts: every second value along each axis, as `_split` gives them.
    """
    rank = len(next(iter(parts)))
    return {
        place: parts[tuple(i % 2 for i in place)][
            (slice(None), *(slice(1, None) if i // 2 else slice(-1) for i in place))
        ]
        for place in itertools.product(range(4), repeat=rank)
    }


def _transform(matrix, arrays: Places) -> Places:
    """``arrays`` with ``matrix`` applied along every axis of their places."""
    rank = len(next(iter(arrays)))
    for axis in range(rank):
        rest = {place[:axis] + place[axis + 1 :] for place in arrays}
        arrays = {
            (*other[:axis], row, *other[axis:]): combination(
                matrix[row],
                [arrays[(*other[:axis], i, *other[axis:])] for i in range(matrix.shape[1])],
            )
            for row in range(matrix.shape[0])
            for other in rest
        }
    return arrays


def combination(factors: np.ndarray, arrays: Sequence[Array]) -> Array:
    """The sum of the arrays, each times its factor."""
    terms = [
        array if factor == 1 else -array if factor == -1 else array * factor.astype(array.dtype)
        for factor, array in zip(factors, arrays, strict=True)
        if factor
    ]
    return functools.reduce(jnp.add, terms)


def _matmul(tile, kernel, groups):
    if groups == 1:
        # As two axes: the gradient in the kernel of a product of more is a transposed copy first.
        rows = tile.reshape(math.prod(tile.shape[:-1]), tile.shape[-1])
        return (rows @ kernel).reshape(*tile.shape[:-1], kernel.shape[-1])
    tile = tile.reshape(*tile.shape[:-1], groups, -1)
    kernel = kernel.reshape(kernel.shape[0], groups, -1)
    y = jnp.einsum("...gc,cgf->...gf", tile, kernel)
    return y.reshape(*y.shape[:-2], -1)
