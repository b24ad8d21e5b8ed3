"""Convolution with kernels of 3 (3, 3x3, 3x3x3, ...) at stride 1 with fewer multiplications.

Minimal filtering F(m, 3) computes m outputs of a kernel of 3 by m + 2 products. In the construction of Toom
and Cook, a tile of m + 2 values and the kernel are the coefficients of two polynomials. They are evaluated
at m + 1 points and at infinity, multiplied there, and the outputs are interpolated. All steps except the
products are linear, and the gradients are their transposes. With filtering along every axis, one matmul
remains for each position in a tile. For 3x3 kernels, F(2, 3) computes 4 outputs with 16 multiplications
instead of 36, and F(4, 3) 16 outputs with 36 instead of 144.

F(2, 3) is local: as in the definition, an output depends only on the values in its window. F(4, 3) mixes
six values per axis, so a large value causes rounding errors in outputs next to its window.

Tiles have an even number of outputs per axis, so pooling windows of size 2 do not cross tiles.

References:
    Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import linear_call
from numpy.polynomial import polynomial

from fidle_jax.kernels import fused
from fidle_jax.kernels.arrays import Argmax, Array, Images, Kernel, Output, sum_dtype
from fidle_jax.kernels.chunks import in_chunks
from fidle_jax.kernels.geometry import ConvGeometry, pad
from fidle_jax.kernels.materialize import materialize
from fidle_jax.kernels.pooling import max_and_argmax_of, take_of

# Arrays by their position along every spatial axis of a tile, a kernel or a tile's outputs.
Positions = dict[tuple[int, ...], jax.Array]
Shape = tuple[int, ...]


class Filtering(NamedTuple):
    """The transforms of F(m, 3): outputs = ``output @ ((tile @ x) * (kernel @ w))``."""

    tile: np.ndarray  # (m + 2, m + 2)
    kernel: np.ndarray  # (m + 2, 3)
    output: np.ndarray  # (m, m + 2)

    @property
    def size(self) -> int:
        """Size of a tile and number of products: m + 2."""
        return len(self.tile)

    @property
    def step(self) -> int:
        """Number of outputs per tile and distance between tiles: m."""
        return len(self.output)


def make_filtering(points: Sequence[float]) -> Filtering:
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
PAIRS = make_filtering([0.0, 1.0, -1.0])
# F(4, 3) uses 6 products. These points have the smallest error of those tried (0 with +-1 and +-2;
# +-1 and +-1/2; -1, 1, 1/2 and -2; +-5/8 and +-3/2). For 3x3 kernels and 96 channels the error is 5
# times that of the definition; with +-1 and +-2 it is 16 times.
FOURS = make_filtering([0.0, 0.75, -0.75, 1.5, -1.5])


def combine(factors: np.ndarray, arrays: Sequence[Any]) -> Any:
    """Return the sum of the arrays, each multiplied by its factor."""
    terms = [
        array if factor == 1 else -array if factor == -1 else array * factor.astype(array.dtype)
        for factor, array in zip(factors, arrays, strict=True)
        if factor
    ]
    return functools.reduce(jnp.add, terms)


def supports(size: Shape, strides: Shape, dilation: Shape, most_axes: float = math.inf) -> bool:
    """Return True if the kernel size is 3 and strides and dilation are 1 along every axis."""
    is_small = set(size) <= {3} and set(strides) <= {1} and set(dilation) <= {1}
    return is_small and len(size) <= most_axes


def supports_pool(geometry: ConvGeometry, pool: ConvGeometry, most_axes: float = math.inf) -> bool:
    """Return True if `supports` accepts the convolution and the pooling has window 2 and stride 2."""
    halves = set(pool.size) <= {2} and set(pool.strides) <= {2}
    return halves and supports(geometry.size, geometry.strides, geometry.dilation, most_axes)


def supports_pool_1d(geometry: ConvGeometry, pool: ConvGeometry) -> bool:
    """Return True if `supports_pool` accepts the last axis."""
    last = geometry.size[-1], geometry.strides[-1], geometry.dilation[-1]
    return last == (3, 1, 1) and (pool.size[-1], pool.strides[-1]) == (2, 2)


def conv(
    x: Images, w: Kernel, geometry: ConvGeometry, groups: int, filtering: Filtering = PAIRS
) -> Output:
    """Compute a convolution that `supports` accepts."""
    tiles = tuple(-(-n // filtering.step) for n in geometry.count)
    kernel = _transform_kernel(w, filtering)

    def convolve(x):
        outputs = _outputs(_fit(x, geometry, tiles, filtering), kernel, groups, filtering)
        y = _join({position: materialize(output) for position, output in outputs.items()})
        return y[tuple(map(slice, (x.shape[0], *geometry.count)))]

    return in_chunks(convolve, (x,), *_bytes(tiles, w.shape, filtering)).astype(x.dtype)


def conv_pool(
    x: Images,
    w: Kernel,
    argmax: Argmax | None = None,
    *,
    geometry: ConvGeometry,
    pool: ConvGeometry,
    filtering: Filtering = PAIRS,
) -> fused.Pooled:
    """Compute ``max_pool(conv(x, w))`` for a pool of 2 at strides of 2 (see `fidle_jax.kernels.fused`).

    With F(4, 3), values that are equal by definition may differ by rounding, which decides the argmax.
    """
    pools = filtering.step // 2
    tiles = tuple(-(-n // pools) for n in pool.count)
    kernel = _transform_kernel(w, filtering)

    def convolve_and_pool(x, *argmax):
        outputs = _outputs(_fit(x, geometry, tiles, filtering), kernel, 1, filtering)
        positions = list(itertools.product(range(pools), repeat=len(tiles)))
        used = tuple(map(slice, (x.shape[0], *pool.count)))
        if argmax:
            fill = [(0, pools * t - n) for t, n in zip(tiles, pool.count, strict=True)]
            parts = _split(pad(argmax[0], fill), pools)
            return _join({p: take_of(_pool_of(outputs, p), parts[p]) for p in positions})[used]
        pairs = {p: max_and_argmax_of(_pool_of(outputs, p)) for p in positions}
        return tuple(_join({p: pair[i] for p, pair in pairs.items()})[used] for i in range(2))

    return fused.pool_in_chunks(convolve_and_pool, x, argmax, *_bytes(tiles, w.shape, filtering))


def conv_pool_1d(
    x: Images,
    w: Kernel,
    argmax: Argmax | None = None,
    *,
    geometry: ConvGeometry,
    pool: ConvGeometry,
) -> fused.Pooled:
    """Compute ``max_pool(conv(x, w))`` with F(2, 3) along the last axis (see `fidle_jax.kernels.fused`).

    Along the other axes, the method is that of `fused`: one matmul with zero-padded copies of the kernel.
    For images with few channels, it needs half as many multiplications as `fused`.
    """
    wide = sum_dtype(x.dtype)
    columns = [w.astype(wide)[..., i : i + 1, :, :] for i in range(3)]
    others, other_pool = _single_in_last_axis(geometry), _single_in_last_axis(pool)
    kernels = [fused.lay_out(combine(row, columns), others, other_pool) for row in PAIRS.kernel]
    tiles, features = pool.count[-1], w.shape[-1]

    def convolve_and_pool(x, *argmax):
        used = 2 * tiles + 2
        x = pad(x.astype(wide), geometry.padding)[..., :used, :]
        even, odd = (
            fused.space_to_depth(half, others, other_pool) for half in _every_nth(x, x.ndim - 2, 2)
        )
        positions = even[..., :-1, :], odd[..., :-1, :], even[..., 1:, :], odd[..., 1:, :]
        products = []
        for row, kernel in zip(PAIRS.tile, kernels, strict=True):
            product, count = fused.values_of_pools(
                combine(row, positions), kernel, others, other_pool
            )
            products.append(product)
        pairs = [combine(row, products) for row in PAIRS.output]
        # Slices of two axes: the gradient of slices with more axes takes several times as long.
        options = [
            outputs[:, start : start + features]
            for start in range(0, kernels[0].shape[1], features)
            for outputs in pairs
        ]
        return fused.pool_values(
            jnp.stack(options, axis=1), (x.shape[0], *count, features), *argmax
        )

    bytes_of_one = wide.itemsize * math.prod(pool.count) * 4 * sum(kernels[0].shape)
    return fused.pool_in_chunks(convolve_and_pool, materialize(x, rows=True), argmax, bytes_of_one)


def _single_in_last_axis(geometry):
    """Replace the window along the last axis by a single value at stride 1."""
    fields = {name: (*getattr(geometry, name)[:-1], 1) for name in ("size", "strides", "dilation")}
    return dataclasses.replace(geometry, **fields)


def temporary_bytes(
    w_shape: Sequence[int], geometry: ConvGeometry, pool: ConvGeometry | None = None
) -> int:
    """Return the bytes of one example's transformed tiles, products and their cotangents."""
    tiles = [-(-n // 2) for n in geometry.count] if pool is None else pool.count
    return _bytes(tiles, w_shape, PAIRS)[0]


def _bytes(tiles, w_shape, filtering):
    """Return the bytes of one example's tiles, products and cotangents, and those of the kernel."""
    positions = filtering.size ** len(tiles)
    of_one = 2 * 4 * positions * math.prod(tiles) * (w_shape[-2] + w_shape[-1])
    return of_one, 4 * positions * w_shape[-2] * w_shape[-1]


def _pool_of(outputs: Positions, position) -> list[jax.Array]:
    """Return the values of the pool at ``position`` in a tile."""
    sides = ((2 * i, 2 * i + 1) for i in position)
    return [outputs[corner] for corner in itertools.product(*sides)]


def _fit(x, geometry, tiles, filtering):
    """Pad or crop every spatial axis of ``x`` to ``step * (tiles + 1)`` values, because tiles overlap."""
    sides = [filtering.step * (t + 1) for t in tiles]
    fill = [
        (low, max(0, side - n - low))
        for (low, _), n, side in zip(geometry.padding, x.shape[1:-1], sides, strict=True)
    ]
    x = pad(x.astype(sum_dtype(x.dtype)), fill)
    return x[(slice(None), *map(slice, sides))]


def _outputs(x, kernel: Positions, groups, filtering) -> Positions:
    """Return the outputs of the convolution by position in a tile, each (batch, *tiles, feature)."""
    parts = {position: materialize(part) for position, part in _split(x, filtering.step).items()}
    tiles = _transform(filtering.tile, _tiles(parts, filtering))
    return _transform(filtering.output, _products(tiles, kernel, groups))


def _transform_kernel(w, filtering) -> Positions:
    w = w.astype(sum_dtype(w.dtype))
    positions = itertools.product(range(3), repeat=w.ndim - 2)
    return _transform(filtering.kernel, {position: w[position] for position in positions})


def _split(x, step) -> Positions:
    """Return the slices of ``x`` with stride ``step`` along every spatial axis, keyed by offset."""
    parts = {(): x}
    for axis in range(1, x.ndim - 1):
        parts = {
            (*position, i): each
            for position, part in parts.items()
            for i, each in enumerate(_every_nth(part, axis, step))
        }
    return parts


def _every_nth(x: Array, axis: int, n: int) -> list[Array]:
    """Return every ``n``-th value along an axis, from offset 0 to n - 1. n divides the length."""
    steps = x.reshape(*x.shape[:axis], x.shape[axis] // n, n, *x.shape[axis + 1 :])
    # Use lax.split: its transpose is one concatenation. The transpose of indexing is a sum of padded
    # slices, which is slower.
    return [each.squeeze(axis + 1) for each in lax.split(steps, (1,) * n, axis + 1)]


def _join(parts: Positions):
    """Undo `_split`."""
    for axis in range(len(next(iter(parts))), 0, -1):
        rows = {}
        for position in sorted(parts):
            rows.setdefault(position[:-1], []).append(parts[position])
        parts = {position: _interleave(row, axis) for position, row in rows.items()}
    return parts[()]


def _interleave(arrays, axis):
    shape = list(arrays[0].shape)
    shape[axis] *= len(arrays)
    return jnp.stack(arrays, axis + 1).reshape(shape)


def _tiles(parts: Positions, filtering) -> Positions:
    """Return the values of all tiles by position, from the parts of `_split`."""
    rank, step = len(next(iter(parts))), filtering.step
    return {
        position: parts[tuple(i % step for i in position)][
            (slice(None), *(slice(1, None) if i >= step else slice(-1) for i in position))
        ]
        for position in itertools.product(range(filtering.size), repeat=rank)
    }


def _transform(matrix, arrays: Positions) -> Positions:
    """Apply ``matrix`` along every axis of the positions of ``arrays``."""
    rank = len(next(iter(arrays)))
    for axis in range(rank):
        rest = {position[:axis] + position[axis + 1 :] for position in arrays}
        arrays = {
            (*other[:axis], row, *other[axis:]): combine(
                matrix[row],
                [arrays[(*other[:axis], i, *other[axis:])] for i in range(matrix.shape[1])],
            )
            for row in range(matrix.shape[0])
            for other in rest
        }
    return arrays


def _products(tiles: Positions, kernel: Positions, groups) -> Positions:
    """Multiply the tiles by the kernel at each position.

    One batched product takes half the time of one product per position: XLA 0.12 computes small
    products on one core, but the products of a batch on all of them.
    """
    if groups > 1:
        return {p: _grouped_product(tile, kernel[p], groups) for p, tile in tiles.items()}
    positions = sorted(tiles)
    *shape, channels = tiles[positions[0]].shape
    rows, features = math.prod(shape), kernel[positions[0]].shape[-1]
    left = _stack([tiles[position].reshape(rows, channels) for position in positions])
    right = _stack([kernel[position] for position in positions])
    parts = _unstack(lax.dot_general(left, right, (((2,), (1,)), ((0,), (0,)))))
    return {p: y.reshape(*shape, features) for p, y in zip(positions, parts, strict=True)}


def _grouped_product(tile, kernel, groups):
    tile = tile.reshape(*tile.shape[:-1], groups, tile.shape[-1] // groups)
    kernel = kernel.reshape(kernel.shape[0], groups, kernel.shape[-1] // groups)
    y = jnp.einsum("...gc,cgf->...gf", tile, kernel)
    return y.reshape(*y.shape[:-2], kernel.shape[-1] * groups)


# XLA computes the parts of a concatenation first and then copies them. `_stack` writes each part to
# one buffer, and XLA fuses its computation into that write. The transpose of either function is the
# other one. (The transpose of indexing would be a sum of padded arrays.)
def _stack(arrays: Sequence[Array]) -> Array:
    """Stack arrays of one shape along a new first axis."""
    return linear_call(_write_to_buffer, _read_from_buffer, (), list(arrays))


def _unstack(x: Array) -> list[Array]:
    """Return the parts of ``x`` along its first axis; the inverse of `_stack`."""
    return linear_call(_read_from_buffer, _write_to_buffer, (), x)


def _write_to_buffer(_, arrays):
    buffer = lax.full((len(arrays), *arrays[0].shape), 0, arrays[0].dtype)
    for index, array in enumerate(arrays):
        buffer = lax.dynamic_update_index_in_dim(buffer, array, index, 0)
    return buffer


def _read_from_buffer(_, x):
    return [lax.index_in_dim(x, index, keepdims=False) for index in range(x.shape[0])]
