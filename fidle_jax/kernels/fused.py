"""Convolution and max pooling as one matmul and one maximum.

One pooled value depends on a patch of the image, and patches follow each other at the strides of the
pooling. The kernel is laid out at each of its positions within the patch. One matmul then computes
the convolution at all of them, and the maximum is taken over those. The image is gathered once per
pooled value, not once per value before pooling.

The methods of this kind have one interface: without ``winner`` they return the pooled values and the
index of the winner in each pool. With it they return the convolution at these winners, which is
bilinear in x and w (see `fidle_jax.kernels.conv_pooling`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Array, Float, Int, sum_dtype
from fidle_jax.kernels.chunks import in_chunks
from fidle_jax.kernels.materialize import materialize
from fidle_jax.kernels.pooling import at_winner, max_and_winner
from fidle_jax.kernels.windows import Windows, pad, resolve_windows, shifted_slices

# The pooled values and their winners, or the values at given winners.
Pooled = Array | tuple[Array, ...]


def conv_pool(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel feature"],
    windows: Windows,
    pool: Windows,
    winner: Int[Array, "batch *count feature"] | None = None,
) -> Pooled:
    """Compute ``max_pool(conv(x, w))``, for one group and a pool without padding."""
    kernels = lay_out(w, windows, pool)

    def convolve_and_pool(x, *winner):
        blocks = into_blocks(pad(x, windows.padding), windows, pool)
        values, count = values_of_pools(blocks, kernels, windows, pool)
        values = values.reshape(values.shape[0], math.prod(pool.size), w.shape[-1])
        return pick(values, (x.shape[0], *count, w.shape[-1]), *winner)

    bytes_of_one = temporary_bytes(x.shape, w.shape, windows, pool)
    return pick_in_chunks(convolve_and_pool, materialize(x, rows=True), winner, bytes_of_one)


def pick(
    values: Float[Array, "row option feature"],
    shape: tuple[Any, ...],
    winner: Int[Array, "batch *count feature"] | None = None,
) -> Pooled:
    """Return the maximum over the options and its index, or the values at ``winner``."""
    if winner is None:
        return tuple(each.reshape(shape) for each in max_and_winner(values))
    return at_winner(values, winner.reshape(values.shape[0], values.shape[2])).reshape(shape)


def pick_in_chunks(
    function: Callable[..., Pooled],
    x: Float[Array, "batch *spatial channel"],
    winner: Int[Array, "batch *count feature"] | None,
    bytes_of_one: float,
    bytes_shared: float = 0,
) -> Pooled:
    """Apply ``function`` to x, and the winners if there are any, in chunks of the batch."""
    arrays = (x,) if winner is None else (x, winner)
    result = in_chunks(function, arrays, bytes_of_one, bytes_shared)
    if winner is None:
        return result[0].astype(x.dtype), result[1]
    return result.astype(x.dtype)


def temporary_bytes(
    x_shape: Sequence[Any], w_shape: Sequence[int], windows: Windows, pool: Windows
) -> int:
    """Return the bytes of one example's patches and products."""
    span, _ = _patch(windows, pool)
    values = math.prod(span) * x_shape[-1] + math.prod(pool.size) * w_shape[-1]
    return 4 * math.prod(pool.count) * values


def lay_out(
    w: Float[Array, "*window channel feature"], windows: Windows, pool: Windows
) -> Float[Array, "depth corner_feature"]:
    """Lay out the kernel at each position of a pool: one column per position and feature."""
    span, strides = _patch(windows, pool)
    corners = list(itertools.product(*map(range, pool.size)))
    kernels = jnp.stack([_laid_out(w, corner, windows, span) for corner in corners], axis=-2)
    if _whole_blocks(span, strides):
        kernels = _in_blocks(kernels, strides)
    return kernels.reshape(math.prod(span) * w.shape[-2], len(corners) * w.shape[-1])


def into_blocks(
    x: Float[Array, "batch *spatial channel"], windows: Windows, pool: Windows
) -> Float[Array, "batch *side block_channel"]:
    """Cut images into blocks, each a row of channels, if patches consist of whole blocks.

    A block lies between the start of a patch and the start of the next. Patches are concatenated from
    far fewer and longer pieces than they have values, and so is their gradient.
    """
    span, strides = _patch(windows, pool)
    if not _whole_blocks(span, strides):
        return x
    patches = resolve_windows(x.shape[1:-1], span, strides)
    blocks = [k // s for k, s in zip(span, strides, strict=True)]
    sides = [(n + k - 1) for n, k in zip(patches.count, blocks, strict=True)]
    fitting = [n * s for n, s in zip(sides, strides, strict=True)]
    image = x[(slice(None), *map(slice, fitting))]
    rows = _split_axes(image, strides, first=1)
    return materialize(rows.reshape(x.shape[0], *sides, math.prod(strides) * x.shape[-1]))


def values_of_pools(
    blocks: Float[Array, "batch *side block_channel"],
    kernels: Float[Array, "depth corner_feature"],
    windows: Windows,
    pool: Windows,
) -> tuple[Float[Array, "row corner_feature"], tuple[int, ...]]:
    """Return the convolution's values for each pooled value, and the number of those per axis.

    Args:
        blocks: Padded images from `into_blocks`.
        kernels: Kernel from `lay_out`.
        windows: Windows of the convolution; their padding is ignored.
        pool: Windows of the pooling.
    """
    span, strides = _patch(windows, pool)
    if _whole_blocks(span, strides):
        span, strides = [k // s for k, s in zip(span, strides, strict=True)], 1
    places = resolve_windows(blocks.shape[1:-1], span, strides)
    patches = jnp.concatenate(shifted_slices(blocks, places), axis=-1)
    rows = patches.reshape(math.prod(patches.shape[:-1]), kernels.shape[0])
    wide = sum_dtype(blocks.dtype)
    return jnp.matmul(rows, kernels, preferred_element_type=wide), places.count


def _patch(windows, pool):
    """Return the size of the patch that a pooled value depends on, and the strides of patches."""
    span = tuple(
        (k - 1) * d + 1 + (p - 1) * s
        for k, d, p, s in zip(
            windows.size, windows.dilation, pool.size, windows.strides, strict=True
        )
    )
    return span, tuple(s * p for s, p in zip(windows.strides, pool.strides, strict=True))


def _whole_blocks(span, strides):
    return not any(k % s for k, s in zip(span, strides, strict=True))


def _laid_out(w, corner, windows, span):
    """Place the kernel in a patch of ``span`` at ``corner`` strides, with zeros around it."""
    config = []
    for k, d, at, s, room in zip(
        windows.size, windows.dilation, corner, windows.strides, span, strict=True
    ):
        before = at * s
        config.append((before, room - before - (k - 1) * d - 1, d - 1))
    return lax.pad(w, jnp.array(0, w.dtype), [*config, (0, 0, 0), (0, 0, 0)])


def _in_blocks(kernels, strides):
    """Order the values of the kernels as `into_blocks` orders those of the images."""
    return _split_axes(kernels, strides, first=0)


def _split_axes(array, strides, first):
    """Cut axes into blocks. The numbers of blocks come first, then the axes within blocks."""
    last = first + len(strides)
    cut = [
        side for n, s in zip(array.shape[first:last], strides, strict=True) for side in (n // s, s)
    ]
    split = array.reshape(*array.shape[:first], *cut, *array.shape[last:])
    outer, inner = (
        range(first, first + 2 * len(strides), 2),
        range(first + 1, first + 2 * len(strides), 2),
    )
    rest = range(first + 2 * len(strides), split.ndim)
    return split.transpose(*range(first), *outer, *inner, *rest)
