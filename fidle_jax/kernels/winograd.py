"""Convolution by windows of 3 (3x3, 3x3x3, ...) at stride 1 with fewer multiplications.

Minimal filtering (`fidle_jax.kernels.filtering`) along every axis: by F(2, 3), 16 products give four
values of an image, where the definition takes 36; by F(4, 3), 36 give sixteen, where it takes 144.
Tiles and the kernel are transformed by additions and factors; what is left is one matmul for each
place in a tile. The gradients are transformed alike, being the transposes of the same steps.

An even number of values a side is also what pools of 2 take: `conv_pool` takes the maximum of them
where they are, and never puts the image together before.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.bias import add_bias
from fidle_jax.kernels.chunks import in_chunks
from fidle_jax.kernels.filtering import PAIRS, Filtering, combination
from fidle_jax.kernels.first_max import first_max_of
from fidle_jax.kernels.stored import stored
from fidle_jax.kernels.windows import Padding, Sizes, Windows, conv_windows, pad

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Arrays by their place along every spatial axis of a tile, a kernel or a tile's values.
Places = dict[tuple[int, ...], jax.Array]


def supports(size: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...]) -> bool:
    """Whether windows of this kind are computed: 3 values a side, strides and dilation of 1."""
    return set(size) <= {3} and set(strides) <= {1} and set(dilation) <= {1}


def supports_fours(
    size: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...]
) -> bool:
    """What `supports` says, in one axis or two: the 216 products in three take a minute to compile."""
    return len(size) <= 2 and supports(size, strides, dilation)


def supports_pool(windows: Windows, pool: Windows) -> bool:
    """Whether `conv_pool` computes them: what `supports` says, and a pool of 2 at strides of 2."""
    halves = set(pool.size) <= {2} and set(pool.strides) <= {2}
    return halves and supports(windows.size, windows.strides, windows.dilation)


def supports_pool_fours(windows: Windows, pool: Windows) -> bool:
    """What `supports_pool` says, in one axis or two."""
    return len(windows.size) <= 2 and supports_pool(windows, pool)


def conv(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel_per_group feature"],
    *,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
    filtering: Filtering = PAIRS,
) -> Float[Array, "batch *count feature"]:
    """The convolution by tiles of a few values a side.

    Raises:
        ValueError: windows other than 3 a side, strides or dilation other than 1.
    """
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    if not supports(windows.size, windows.strides, windows.dilation):
        raise ValueError("winograd takes windows of 3 on every side, strides and dilation of 1")
    tiles = tuple(-(-n // filtering.step) for n in windows.count)
    kernel = _transformed_kernel(w, filtering)

    def convolve(x):
        values = _values(_fitted(x, windows, tiles, filtering), kernel, groups, filtering)
        y = _joined({place: stored(value) for place, value in values.items()})
        return y[tuple(map(slice, (x.shape[0], *windows.count)))]

    return in_chunks(convolve, x, *_bytes(tiles, w, filtering)).astype(x.dtype)


def conv_pool(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel feature"],
    b: Float[Array, " feature"],
    windows: Windows,
    pool: Windows,
    relu: bool,
    filtering: Filtering = PAIRS,
) -> Float[Array, "batch *count feature"]:
    """``max_pool(relu(conv(x, w) + b))``, or without the ReLU, for a pool of 2 at strides of 2.

    By tiles of six, values that are equal by definition are not always equal: a rounding then decides
    which of them is the pool's first.
    """
    pools = filtering.step // 2
    tiles = tuple(-(-n // pools) for n in pool.count)
    kernel = _transformed_kernel(w, filtering)

    def convolve_and_pool(x):
        values = _values(_fitted(x, windows, tiles, filtering), kernel, 1, filtering)
        pooled = {
            place: first_max_of(*_corners(values, place))
            for place in itertools.product(range(pools), repeat=len(tiles))
        }
        return _joined(pooled)[tuple(map(slice, (x.shape[0], *pool.count)))]

    pooled = in_chunks(convolve_and_pool, x, *_bytes(tiles, w, filtering))
    return add_bias(pooled, b, relu).astype(x.dtype)


def _corners(values: Places, place) -> list[jax.Array]:
    """What the pool at ``place`` in a tile takes."""
    return [values[corner] for corner in itertools.product(*((2 * i, 2 * i + 1) for i in place))]


def _bytes(tiles, w, filtering):
    """What the transformed tiles, their products and the gradients of an example take; the kernel."""
    places = filtering.places ** len(tiles)
    of_one = 2 * 4 * places * math.prod(tiles) * (w.shape[-2] + w.shape[-1])
    return of_one, 4 * places * w.shape[-2] * w.shape[-1]


def _fitted(x, windows, tiles, filtering):
    """``x`` with its padding, cut or filled to a step for each tile, and one more for the last's end."""
    sides = [filtering.step * (t + 1) for t in tiles]
    fill = [
        (low, max(0, side - n - low))
        for (low, _), n, side in zip(windows.padding, x.shape[1:-1], sides, strict=True)
    ]
    x = pad(x.astype(jnp.promote_types(x.dtype, jnp.float32)), fill)
    return x[(slice(None), *map(slice, sides))]


def _values(x, kernel: Places, groups, filtering) -> Places:
    """The convolution's values by their place in a tile, each (batch, *tiles, feature)."""
    parts = {place: stored(part) for place, part in _split(x, filtering.step).items()}
    tiles = _transform(filtering.tile, _tiles(parts, filtering))
    products = {place: _matmul(tile, kernel[place], groups) for place, tile in tiles.items()}
    return _transform(filtering.values, products)


def _transformed_kernel(w, filtering) -> Places:
    w = w.astype(jnp.promote_types(w.dtype, jnp.float32))
    places = itertools.product(range(3), repeat=w.ndim - 2)
    return _transform(filtering.kernel, {place: w[place] for place in places})


def _split(x, step) -> Places:
    """Every ``step``-th value along each spatial axis, by which one of a step they are."""
    parts = {(): x}
    for axis in range(1, x.ndim - 1):
        parts = {
            (*place, i): each
            for place, part in parts.items()
            for i, each in enumerate(every_nth(part, axis, step))
        }
    return parts


def every_nth(x: Array, axis: int, n: int) -> list[Array]:
    """Every ``n``-th value along an axis, a whole number of times as long: those from 0, from 1, ..."""
    steps = x.reshape(*x.shape[:axis], x.shape[axis] // n, n, *x.shape[axis + 1 :])
    # Not by indexing: the transpose of a split is a concatenation, that of slices a sum of padded ones.
    return [each.squeeze(axis + 1) for each in lax.split(steps, (1,) * n, axis + 1)]


def _joined(parts: Places):
    """What `_split` gives these parts of."""
    for axis in range(len(next(iter(parts))), 0, -1):
        rows = {}
        for place in sorted(parts):
            rows.setdefault(place[:-1], []).append(parts[place])
        parts = {place: _alternating(row, axis) for place, row in rows.items()}
    return parts[()]


def _alternating(arrays, axis):
    shape = list(arrays[0].shape)
    shape[axis] *= len(arrays)
    return jnp.stack(arrays, axis + 1).reshape(shape)


def _tiles(parts: Places, filtering) -> Places:
    """The values of all tiles by their place in it.

    Args:
        parts: every so many values along each axis, as `_split` gives them.
        filtering: how many there are from one tile's start to the next's, and in a tile: two more.
    """
    rank, step = len(next(iter(parts))), filtering.step
    return {
        place: parts[tuple(i % step for i in place)][
            (slice(None), *(slice(1, None) if i >= step else slice(-1) for i in place))
        ]
        for place in itertools.product(range(filtering.places), repeat=rank)
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


def _matmul(tile, kernel, groups):
    if groups == 1:
        # As two axes: the gradient in the kernel of a product of more is a transposed copy first.
        rows = tile.reshape(math.prod(tile.shape[:-1]), tile.shape[-1])
        return (rows @ kernel).reshape(*tile.shape[:-1], kernel.shape[-1])
    tile = tile.reshape(*tile.shape[:-1], groups, -1)
    kernel = kernel.reshape(kernel.shape[0], groups, -1)
    y = jnp.einsum("...gc,cgf->...gf", tile, kernel)
    return y.reshape(*y.shape[:-2], -1)
