"""Convolution by windows of 3 (3x3, 3x3x3, ...) at stride 1 with fewer multiplications.

Minimal filtering (`fidle_jax.kernels.filtering`) is applied along every axis. F(2, 3) computes four
values of an image by 16 products instead of 36, and F(4, 3) sixteen values by 36 instead of 144. The
tiles and the kernel are transformed by additions and scalings. One matmul remains for each position
in a tile. The gradients are the transposes of the same steps.

F(2, 3) is local: an output depends only on the values in its window, like the definition. F(4, 3)
mixes six values per axis, so a large value causes rounding errors in outputs next to its window. For
this reason it is explicit-only, and "auto" never selects it.

Pools of 2 need an even number of values per axis. `conv_pool` takes the maximum over these values and
never assembles the image before pooling.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Array, Float, Int, sum_dtype
from fidle_jax.kernels.chunks import in_chunks
from fidle_jax.kernels.filtering import FOURS, PAIRS, Filtering, combination
from fidle_jax.kernels.fused import Pooled, pick_in_chunks
from fidle_jax.kernels.materialize import materialize
from fidle_jax.kernels.pooling import at_winner_of, max_of
from fidle_jax.kernels.stacking import stack, unstack
from fidle_jax.kernels.windows import Padding, Sizes, Windows, conv_windows, pad

# Arrays by their place along every spatial axis of a tile, a kernel or a tile's values.
Places = dict[tuple[int, ...], jax.Array]


def supports(size: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...]) -> bool:
    """Check for windows of 3 along every axis, strides and dilation of 1."""
    return set(size) <= {3} and set(strides) <= {1} and set(dilation) <= {1}


def supports_fours(
    size: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...]
) -> bool:
    """Check `supports` and at most two axes: the 216 products of three take a minute to compile."""
    return len(size) <= 2 and supports(size, strides, dilation)


def supports_pool(windows: Windows, pool: Windows) -> bool:
    """Check `supports`, and a pool of 2 at strides of 2."""
    halves = set(pool.size) <= {2} and set(pool.strides) <= {2}
    return halves and supports(windows.size, windows.strides, windows.dilation)


def supports_pool_fours(windows: Windows, pool: Windows) -> bool:
    """Check `supports_pool` and at most two axes."""
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
    """Compute a convolution by tiles.

    Raises:
        ValueError: The windows are not 3 along every axis, or strides or dilation are not 1.
    """
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    if not supports(windows.size, windows.strides, windows.dilation):
        raise ValueError("winograd takes windows of 3 on every side, strides and dilation of 1")
    tiles = tuple(-(-n // filtering.step) for n in windows.count)
    kernel = _transformed_kernel(w, filtering)

    def convolve(x):
        values = _values(_fitted(x, windows, tiles, filtering), kernel, groups, filtering)
        y = _joined({place: materialize(value) for place, value in values.items()})
        return y[tuple(map(slice, (x.shape[0], *windows.count)))]

    return in_chunks(convolve, (x,), *_bytes(tiles, w.shape, filtering)).astype(x.dtype)


def conv_pool(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel feature"],
    windows: Windows,
    pool: Windows,
    winner: Int[Array, "batch *count feature"] | None = None,
    filtering: Filtering = PAIRS,
) -> Pooled:
    """Compute ``max_pool(conv(x, w))`` for a pool of 2 at strides of 2 (see `fidle_jax.kernels.fused`).

    With F(4, 3), values that are equal by definition may differ by rounding. Then the rounding decides
    which of them is the first in its pool.
    """
    pools = filtering.step // 2
    tiles = tuple(-(-n // pools) for n in pool.count)
    kernel = _transformed_kernel(w, filtering)

    def convolve_and_pool(x, *winner):
        values = _values(_fitted(x, windows, tiles, filtering), kernel, 1, filtering)
        places = list(itertools.product(range(pools), repeat=len(tiles)))
        fitting = tuple(map(slice, (x.shape[0], *pool.count)))
        if winner:
            winners = _split(_filled(winner[0], [pools * t for t in tiles]), pools)
            at = {p: at_winner_of(_corners(values, p), winners[p]) for p in places}
            return _joined(at)[fitting]
        pairs = {place: max_of(_corners(values, place)) for place in places}
        return tuple(_joined({p: pair[i] for p, pair in pairs.items()})[fitting] for i in range(2))

    return pick_in_chunks(convolve_and_pool, x, winner, *_bytes(tiles, w.shape, filtering))


def temporary_bytes(
    w_shape: Sequence[int], windows: Windows, pool: Windows | None = None, step: int = 2
) -> float:
    """Return the bytes of one example's transformed tiles, products and their cotangents."""
    count = windows.count if pool is None else [2 * n for n in pool.count]
    return _bytes([-(-n // step) for n in count], w_shape, PAIRS if step == 2 else FOURS)[0]


def _filled(winner, sides):
    fill = [(0, side - n) for n, side in zip(winner.shape[1:-1], sides, strict=True)]
    return pad(winner, fill)


def _corners(values: Places, place) -> list[jax.Array]:
    """Return the values of the pool at ``place`` in a tile."""
    return [values[corner] for corner in itertools.product(*((2 * i, 2 * i + 1) for i in place))]


def _bytes(tiles, w_shape, filtering):
    """Return the bytes of one example's tiles, products and cotangents, and those of the kernel."""
    places = filtering.places ** len(tiles)
    of_one = 2 * 4 * places * math.prod(tiles) * (w_shape[-2] + w_shape[-1])
    return of_one, 4 * places * w_shape[-2] * w_shape[-1]


def _fitted(x, windows, tiles, filtering):
    """Pad or cut ``x`` to one step per tile, and one more step for the end of the last tile."""
    sides = [filtering.step * (t + 1) for t in tiles]
    fill = [
        (low, max(0, side - n - low))
        for (low, _), n, side in zip(windows.padding, x.shape[1:-1], sides, strict=True)
    ]
    x = pad(x.astype(sum_dtype(x.dtype)), fill)
    return x[(slice(None), *map(slice, sides))]


def _values(x, kernel: Places, groups, filtering) -> Places:
    """Return the convolution's values by their place in a tile, each (batch, *tiles, feature)."""
    parts = {place: materialize(part) for place, part in _split(x, filtering.step).items()}
    tiles = _transform(filtering.tile, _tiles(parts, filtering))
    return _transform(filtering.values, _products(tiles, kernel, groups))


def _transformed_kernel(w, filtering) -> Places:
    w = w.astype(sum_dtype(w.dtype))
    places = itertools.product(range(3), repeat=w.ndim - 2)
    return _transform(filtering.kernel, {place: w[place] for place in places})


def _split(x, step) -> Places:
    """Split into every ``step``-th value along each spatial axis, keyed by the offset."""
    parts = {(): x}
    for axis in range(1, x.ndim - 1):
        parts = {
            (*place, i): each
            for place, part in parts.items()
            for i, each in enumerate(every_nth(part, axis, step))
        }
    return parts


def every_nth(x: Array, axis: int, n: int) -> list[Array]:
    """Return every ``n``-th value along an axis, from offset 0 to n - 1. n divides the length."""
    steps = x.reshape(*x.shape[:axis], x.shape[axis] // n, n, *x.shape[axis + 1 :])
    # The transpose of a split is a concatenation. That of indexing is a sum of padded slices.
    return [each.squeeze(axis + 1) for each in lax.split(steps, (1,) * n, axis + 1)]


def _joined(parts: Places):
    """Undo `_split`."""
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
    """Return the values of all tiles, keyed by their place in a tile.

    Args:
        parts: Values from `_split`.
        filtering: Filtering, which defines the step from tile to tile and the size of a tile.
    """
    rank, step = len(next(iter(parts))), filtering.step
    return {
        place: parts[tuple(i % step for i in place)][
            (slice(None), *(slice(1, None) if i >= step else slice(-1) for i in place))
        ]
        for place in itertools.product(range(filtering.places), repeat=rank)
    }


def _transform(matrix, arrays: Places) -> Places:
    """Apply ``matrix`` along every axis of the places of ``arrays``."""
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


def _products(tiles: Places, kernel: Places, groups) -> Places:
    """Multiply the tiles by the kernel at each place.

    One batched product takes half the time of one product per place: XLA 0.12 computes small products
    on one core, but the products of a batch on all of them.
    """
    if groups > 1:
        return {place: _grouped(tile, kernel[place], groups) for place, tile in tiles.items()}
    places = sorted(tiles)
    *shape, channels = tiles[places[0]].shape
    rows, features = math.prod(shape), kernel[places[0]].shape[-1]
    left = stack([tiles[place].reshape(rows, channels) for place in places])
    right = stack([kernel[place] for place in places])
    parts = unstack(lax.dot_general(left, right, (((2,), (1,)), ((0,), (0,)))))
    return {place: y.reshape(*shape, features) for place, y in zip(places, parts, strict=True)}


def _grouped(tile, kernel, groups):
    tile = tile.reshape(*tile.shape[:-1], groups, tile.shape[-1] // groups)
    kernel = kernel.reshape(kernel.shape[0], groups, kernel.shape[-1] // groups)
    y = jnp.einsum("...gc,cgf->...gf", tile, kernel)
    return y.reshape(*y.shape[:-2], kernel.shape[-1] * groups)
