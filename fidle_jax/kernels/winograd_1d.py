"""Convolution of windows 3 wide, with max pooling over pairs, by Winograd's method along the last axis alone.

Along the last axis, 4 products give the 2 values that a pool takes, where the definition takes 6
(F(2, 3) of `fidle_jax.kernels.filtering`); along the others, the kernel is laid out at each of its
places within a patch, as in `fidle_jax.kernels.fused`. On images of few channels that is the better
half of both: half the products of `fused`, in matrices four times as wide and as deep as those of
Winograd's method along every axis.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import jax.numpy as jnp

from fidle_jax.kernels.bias import add_bias
from fidle_jax.kernels.chunks import in_chunks
from fidle_jax.kernels.filtering import PAIRS, combination
from fidle_jax.kernels.first_max import first_max
from fidle_jax.kernels.fused import into_blocks, lay_out, values_of_pools
from fidle_jax.kernels.stored import stored_as_rows
from fidle_jax.kernels.windows import Windows, pad
from fidle_jax.kernels.winograd import every_nth

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def supports(windows: Windows, pool: Windows) -> bool:
    """Whether they are computed: along the last axis, windows of 3 at stride 1 and a pool of 2."""
    last = windows.size[-1], windows.strides[-1], windows.dilation[-1]
    return last == (3, 1, 1) and (pool.size[-1], pool.strides[-1]) == (2, 2)


def conv_pool(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel feature"],
    b: Float[Array, " feature"],
    windows: Windows,
    pool: Windows,
    relu: bool,
) -> Float[Array, "batch *count feature"]:
    """``max_pool(relu(conv(x, w) + b))``, or without the ReLU; one group, no padding in the pool."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    columns = [w.astype(wide)[..., i : i + 1, :, :] for i in range(3)]
    others, other_pool = _but_last(windows), _but_last(pool)
    kernels = [lay_out(combination(row, columns), others, other_pool) for row in PAIRS.kernel]
    tiles, features = pool.count[-1], w.shape[-1]

    def convolve_and_pool(x):
        fitting = 2 * tiles + 2
        x = pad(x.astype(wide), windows.padding)[..., :fitting, :]
        even, odd = (into_blocks(half, others, other_pool) for half in every_nth(x, x.ndim - 2, 2))
        places = even[..., :-1, :], odd[..., :-1, :], even[..., 1:, :], odd[..., 1:, :]
        products = []
        for row, kernel in zip(PAIRS.tile, kernels, strict=True):
            product, count = values_of_pools(combination(row, places), kernel, others, other_pool)
            products.append(product)
        pairs = [combination(row, products) for row in PAIRS.values]
        # Slices of two axes each: of more, their gradient takes several times as long.
        corners = [
            values[:, start : start + features]
            for start in range(0, kernels[0].shape[1], features)
            for values in pairs
        ]
        pooled = first_max(jnp.stack(corners, axis=1))
        return pooled.reshape(x.shape[0], *count, features)

    bytes_of_one = wide.itemsize * math.prod(pool.count) * 4 * sum(kernels[0].shape)
    pooled = in_chunks(convolve_and_pool, stored_as_rows(x), bytes_of_one)
    return add_bias(pooled, b, relu).astype(x.dtype)


def _but_last(windows):
    """The same windows with the last axis left as it is: of one value, at stride 1."""
    return dataclasses.replace(
        windows,
        size=(*windows.size[:-1], 1),
        strides=(*windows.strides[:-1], 1),
        dilation=(*windows.dilation[:-1], 1),
    )
