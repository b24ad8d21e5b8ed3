"""Convolution with max pooling by Winograd's method along the last axis only.

Along the last axis, with windows of 3 and pools of 2, 4 products compute the 2 values of a pool,
instead of 6 (F(2, 3) of `fidle_jax.kernels.filtering`). Along the other axes the kernel is laid out
at each position within a patch, as in `fidle_jax.kernels.fused`. For images with few channels this
combines half the products of `fused` with matrices four times as wide and deep as those of Winograd's
method along every axis.
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp

from fidle_jax.kernels.arrays import Array, Float, Int, sum_dtype
from fidle_jax.kernels.filtering import PAIRS, combination
from fidle_jax.kernels.fused import (
    Pooled,
    into_blocks,
    lay_out,
    pick,
    pick_in_chunks,
    values_of_pools,
)
from fidle_jax.kernels.materialize import materialize
from fidle_jax.kernels.windows import Windows, pad
from fidle_jax.kernels.winograd import every_nth


def supports(windows: Windows, pool: Windows) -> bool:
    """Check for windows of 3 at stride 1 and a pool of 2 along the last axis."""
    last = windows.size[-1], windows.strides[-1], windows.dilation[-1]
    return last == (3, 1, 1) and (pool.size[-1], pool.strides[-1]) == (2, 2)


def conv_pool(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel feature"],
    windows: Windows,
    pool: Windows,
    winner: Int[Array, "batch *count feature"] | None = None,
) -> Pooled:
    """Compute ``max_pool(conv(x, w))``, for one group and a pool without padding (see `fused`)."""
    wide = sum_dtype(x.dtype)
    columns = [w.astype(wide)[..., i : i + 1, :, :] for i in range(3)]
    others, other_pool = _but_last(windows), _but_last(pool)
    kernels = [lay_out(combination(row, columns), others, other_pool) for row in PAIRS.kernel]
    tiles, features = pool.count[-1], w.shape[-1]

    def convolve_and_pool(x, *winner):
        fitting = 2 * tiles + 2
        x = pad(x.astype(wide), windows.padding)[..., :fitting, :]
        even, odd = (into_blocks(half, others, other_pool) for half in every_nth(x, x.ndim - 2, 2))
        places = even[..., :-1, :], odd[..., :-1, :], even[..., 1:, :], odd[..., 1:, :]
        products = []
        for row, kernel in zip(PAIRS.tile, kernels, strict=True):
            product, count = values_of_pools(combination(row, places), kernel, others, other_pool)
            products.append(product)
        pairs = [combination(row, products) for row in PAIRS.values]
        # Slices of two axes: the gradient of slices with more axes takes several times as long.
        corners = [
            values[:, start : start + features]
            for start in range(0, kernels[0].shape[1], features)
            for values in pairs
        ]
        return pick(jnp.stack(corners, axis=1), (x.shape[0], *count, features), *winner)

    bytes_of_one = wide.itemsize * math.prod(pool.count) * 4 * sum(kernels[0].shape)
    return pick_in_chunks(convolve_and_pool, materialize(x, rows=True), winner, bytes_of_one)


def _but_last(windows):
    """Replace the window along the last axis by a single value at stride 1."""
    return dataclasses.replace(
        windows,
        size=(*windows.size[:-1], 1),
        strides=(*windows.strides[:-1], 1),
        dilation=(*windows.dilation[:-1], 1),
    )
