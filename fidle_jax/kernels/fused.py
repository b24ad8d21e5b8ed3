"""Convolution, bias, activation and max pooling as one matmul and one maximum.

All that one pooled value depends on is a patch, and patches follow each other at the strides of the
pooling. So the kernel is laid out at each of its places within the patch, one matmul gives the
convolution at all of them, and the maximum is taken over those: the image is gathered once for each
pooled value, not once for each value before pooling, and what lies between is never an image again.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.bias import add_bias
from fidle_jax.kernels.chunks import in_chunks
from fidle_jax.kernels.first_max import first_max
from fidle_jax.kernels.stored import stored, stored_as_rows
from fidle_jax.kernels.windows import Windows, pad, resolve_windows, shifted_slices

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def conv_pool(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel feature"],
    b: Float[Array, " feature"],
    windows: Windows,
    pool: Windows,
    relu: bool,
) -> Float[Array, "batch *count feature"]:
    """``max_pool(relu(conv(x, w) + b))``, or without the ReLU; one group, no padding in the pool."""
    kernels = lay_out(w, windows, pool)

    def convolve_and_pool(x):
        blocks = into_blocks(pad(x, windows.padding), windows, pool)
        values, count = values_of_pools(blocks, kernels, windows, pool)
        pooled = first_max(values.reshape(values.shape[0], math.prod(pool.size), w.shape[-1]))
        return pooled.reshape(x.shape[0], *count, w.shape[-1])

    wide = jnp.promote_types(x.dtype, jnp.float32)
    bytes_of_one = wide.itemsize * math.prod(pool.count) * sum(kernels.shape)
    pooled = in_chunks(convolve_and_pool, stored_as_rows(x), bytes_of_one)
    return add_bias(pooled, b, relu).astype(x.dtype)


def lay_out(
    w: Float[Array, "*window channel feature"], windows: Windows, pool: Windows
) -> Float[Array, "depth corner_feature"]:
    """The kernel at each of the places of a pool: a column for each of them and each feature."""
    span, strides = _patch(windows, pool)
    corners = list(itertools.product(*map(range, pool.size)))
    kernels = jnp.stack([_laid_out(w, corner, windows, span) for corner in corners], axis=-2)
    if _whole_blocks(span, strides):
        kernels = _in_blocks(kernels, strides)
    return kernels.reshape(math.prod(span) * w.shape[-2], len(corners) * w.shape[-1])


def into_blocks(
    x: Float[Array, "batch *spatial channel"], windows: Windows, pool: Windows
) -> Float[Array, "batch *side block_channel"]:
    """Images cut into blocks, each a row of channels, where patches are whole blocks; else as they are.

    A block is what lies between one patch's start and the next's: far fewer and longer pieces are put
    together, and in the gradient taken apart, than there are values in a patch.
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
    return stored(rows.reshape(x.shape[0], *sides, math.prod(strides) * x.shape[-1]))


def values_of_pools(
    blocks: Float[Array, "batch *side block_channel"],
    kernels: Float[Array, "depth corner_feature"],
    windows: Windows,
    pool: Windows,
) -> tuple[Float[Array, "row corner_feature"], tuple[int, ...]]:
    """The convolution's values for each pooled one, and how many of those there are along each axis.

    Args:
        blocks: what `into_blocks` makes of the padded images.
        kernels: what `lay_out` makes of the kernel.
        windows: of the convolution; their padding is not looked at.
        pool: windows of the pooling.
    """
    span, strides = _patch(windows, pool)
    if _whole_blocks(span, strides):
        span, strides = [k // s for k, s in zip(span, strides, strict=True)], 1
    places = resolve_windows(blocks.shape[1:-1], span, strides)
    patches = jnp.concatenate(shifted_slices(blocks, places), axis=-1)
    rows = patches.reshape(math.prod(patches.shape[:-1]), kernels.shape[0])
    wide = jnp.promote_types(blocks.dtype, jnp.float32)
    return jnp.matmul(rows, kernels, preferred_element_type=wide), places.count


def _patch(windows, pool):
    """Sides of what a pooled value depends on, and the strides from one such patch to the next."""
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
    """The kernel within a patch of ``span``, moved by ``corner`` strides, zeros around it."""
    config = []
    for k, d, at, s, room in zip(
        windows.size, windows.dilation, corner, windows.strides, span, strict=True
    ):
        before = at * s
        config.append((before, room - before - (k - 1) * d - 1, d - 1))
    return lax.pad(w, jnp.array(0, w.dtype), [*config, (0, 0, 0), (0, 0, 0)])


def _in_blocks(kernels, strides):
    """The kernels' values in the order in which `into_blocks` has them."""
    return _split_axes(kernels, strides, first=0)


def _split_axes(array, strides, first):
    """Each axis of ``strides`` cut into blocks; all numbers of blocks first, then what is in them."""
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
