"""Convolution with kernels of 3 (3, 3x3, 3x3x3, ...) at stride 1 with fewer multiplications.

Minimal filtering F(2, 3) computes 2 outputs of a kernel of 3 by 4 products instead of 6. In the
construction of Toom and Cook, a tile of 4 values and the kernel are the coefficients of two polynomials.
They are evaluated at 0, 1, -1 and infinity, multiplied there, and the outputs are interpolated. All steps
except the products are linear, and the gradients are their transposes. With filtering along every axis,
one matmul remains for each position in a tile. For 3x3 kernels, 4 outputs need 16 multiplications
instead of 36. An output depends only on the values in its window, as in the definition.

Tiles have 2 outputs per axis, so pooling windows of size 2 do not cross tiles.

References:
    Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import linear_call

from fidle_jax.kernels import forward, fused
from fidle_jax.kernels.arrays import Argmax, Array, Float, Images, Kernel, Output, sum_dtype
from fidle_jax.kernels.chunks import in_chunks
from fidle_jax.kernels.geometry import ConvGeometry, pad
from fidle_jax.kernels.materialize import materialize
from fidle_jax.kernels.pooling import max_and_argmax_of, take_of

# Arrays by their position along every spatial axis of a tile, a kernel or a tile's outputs.
Positions = dict[tuple[int, ...], jax.Array]
Shape = tuple[int, ...]


# outputs = OUTPUT @ ((TILE @ values of a tile) * (KERNEL @ kernel))
TILE = np.array([[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]])
KERNEL = np.array([[-1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, 1]])


def combine(factors: np.ndarray, arrays: Sequence[Any]) -> Any:
    """Return the sum of the arrays, each multiplied by its factor."""
    terms = [
        array if factor == 1 else -array if factor == -1 else array * factor.astype(array.dtype)
        for factor, array in zip(factors, arrays, strict=True)
        if factor
    ]
    return functools.reduce(jnp.add, terms)


def supports(size: Shape, strides: Shape, dilation: Shape) -> bool:
    """Return True if the kernel size is 3 and strides and dilation are 1 along every axis."""
    return set(size) <= {3} and set(strides) <= {1} and set(dilation) <= {1}


def supports_pool(geometry: ConvGeometry, pool: ConvGeometry) -> bool:
    """Return True if `supports` accepts the convolution and the pooling has window 2 and stride 2."""
    halves = set(pool.size) <= {2} and set(pool.strides) <= {2}
    return halves and supports(geometry.size, geometry.strides, geometry.dilation)


def supports_pool_1d(geometry: ConvGeometry, pool: ConvGeometry) -> bool:
    """Return True if `supports_pool` accepts the last axis."""
    last = geometry.size[-1], geometry.strides[-1], geometry.dilation[-1]
    return last == (3, 1, 1) and (pool.size[-1], pool.strides[-1]) == (2, 2)


def conv(x: Images, w: Kernel, geometry: ConvGeometry, groups: int) -> Output:
    """Compute a convolution that `supports` accepts."""
    tiles = tuple(-(-n // 2) for n in geometry.count)
    kernel = _transform_kernel(w)

    def convolve(x):
        outputs = _outputs(_fit(x, geometry, tiles), kernel, groups)
        y = _join({position: materialize(output) for position, output in outputs.items()})
        return y[tuple(map(slice, (x.shape[0], *geometry.count)))]

    return in_chunks(convolve, (x,), *_bytes(tiles, w.shape)).astype(x.dtype)


def image_gradient(
    w: Kernel, y: Output, geometry: ConvGeometry, groups: int, spatial: tuple[int, ...]
) -> Images:
    """Compute the gradient of `conv` in the images; see `forward.image_gradient`."""
    reversed_geometry = forward.reverse_geometry(geometry, spatial)
    if reversed_geometry is None:
        return forward.image_gradient(w, y, geometry, groups, spatial)
    return conv(y, forward.reverse(w, groups), reversed_geometry, groups)


def conv_pool(
    x: Images,
    w: Kernel,
    argmax: Argmax | None = None,
    *,
    geometry: ConvGeometry,
    pool: ConvGeometry,
) -> fused.Pooled:
    """Compute ``max_pool(conv(x, w))`` for a pool of 2 at strides of 2 (see `fidle_jax.kernels.fused`)."""
    tiles, kernel = pool.count, _transform_kernel(w)

    def convolve_and_pool(x, *argmax):
        outputs = _outputs(_fit(x, geometry, tiles), kernel, 1)
        values = [outputs[position] for position in sorted(outputs)]
        return take_of(values, argmax[0]) if argmax else max_and_argmax_of(values)

    return fused.pool_in_chunks(convolve_and_pool, x, argmax, *_bytes(tiles, w.shape))


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
    kernels = [fused.lay_out(combine(row, columns), others, other_pool) for row in KERNEL]
    tiles, features = pool.count[-1], w.shape[-1]

    def convolve_and_pool(x, *argmax):
        used = 2 * tiles + 2
        x = pad(x.astype(wide), geometry.padding)[..., :used, :]
        even, odd = (
            fused.space_to_depth(half, others, other_pool) for half in _halves(x, x.ndim - 2)
        )
        positions = even[..., :-1, :], odd[..., :-1, :], even[..., 1:, :], odd[..., 1:, :]
        products = []
        for row, kernel in zip(TILE, kernels, strict=True):
            product, count = fused.values_of_pools(
                combine(row, positions), kernel, others, other_pool
            )
            products.append(product)
        pairs = [combine(row, products) for row in OUTPUT]
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
    return _bytes(tiles, w_shape)[0]


def _bytes(tiles, w_shape):
    """Return the bytes of one example's tiles, products and cotangents, and those of the kernel."""
    positions = 4 ** len(tiles)
    of_one = 2 * 4 * positions * math.prod(tiles) * (w_shape[-2] + w_shape[-1])
    return of_one, 4 * positions * w_shape[-2] * w_shape[-1]


def _fit(x, geometry, tiles):
    """Pad or crop every spatial axis of ``x`` to ``2 * (tiles + 1)`` values, because tiles overlap."""
    sides = [2 * (t + 1) for t in tiles]
    fill = [
        (low, max(0, side - n - low))
        for (low, _), n, side in zip(geometry.padding, x.shape[1:-1], sides, strict=True)
    ]
    x = pad(x.astype(sum_dtype(x.dtype)), fill)
    return x[(slice(None), *map(slice, sides))]


def _outputs(x, kernel, groups) -> Positions:
    """Return the outputs of the convolution by position in a tile, each (batch, *tiles, feature)."""
    parts = {position: materialize(part) for position, part in _split(x).items()}
    return _transform(OUTPUT, _products(_transform(TILE, _tiles(parts)), kernel, groups))


def _transform_kernel(w) -> Float[Array, "position channel_per_group feature"]:
    """Transform the kernel along every window axis, by one product of matrices."""
    matrix = functools.reduce(np.kron, [KERNEL] * (w.ndim - 2))
    w = w.astype(sum_dtype(w.dtype))
    flat = w.reshape(matrix.shape[1], w.shape[-2] * w.shape[-1])
    return jnp.matmul(matrix.astype(w.dtype), flat).reshape(-1, *w.shape[-2:])


def _split(x) -> Positions:
    """Return the slices of ``x`` with stride 2 along every spatial axis, keyed by offset."""
    parts = {(): x}
    for axis in range(1, x.ndim - 1):
        parts = {
            (*position, i): each
            for position, part in parts.items()
            for i, each in enumerate(_halves(part, axis))
        }
    return parts


def _halves(x: Array, axis: int) -> list[Array]:
    """Return the values at even and at odd positions along an axis of even length."""
    pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
    # Use lax.split: its transpose is one concatenation. The transpose of indexing is a sum of padded
    # slices, which is slower.
    return [each.squeeze(axis + 1) for each in lax.split(pairs, (1, 1), axis + 1)]


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


def _tiles(parts: Positions) -> Positions:
    """Return the values of all tiles by position, from the parts of `_split`."""
    rank = len(next(iter(parts)))
    return {
        position: parts[tuple(i % 2 for i in position)][
            (slice(None), *(slice(1, None) if i >= 2 else slice(-1) for i in position))
        ]
        for position in itertools.product(range(4), repeat=rank)
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


def _products(tiles: Positions, kernel, groups) -> Positions:
    """Multiply the tiles by the kernel at each position.

    One batched product takes half the time of one product per position: XLA 0.12 computes small
    products on one core, but the products of a batch on all of them.
    """
    positions = sorted(tiles)
    if groups > 1:
        return {
            p: _grouped_product(tiles[p], w, groups) for p, w in zip(positions, kernel, strict=True)
        }
    *shape, channels = tiles[positions[0]].shape
    left = _stack([tiles[p].reshape(math.prod(shape), channels) for p in positions])
    parts = _unstack(lax.dot_general(left, kernel, (((2,), (1,)), ((0,), (0,)))))
    return {p: y.reshape(*shape, y.shape[-1]) for p, y in zip(positions, parts, strict=True)}


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
