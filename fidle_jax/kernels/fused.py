"""Convolution and max pooling as one matmul and one maximum.

One pooled value depends on a patch of the image. The kernel is laid out at each of its positions within
the patch. One matmul computes the convolution at all of them, and the maximum is taken over those. So the
image is gathered once per pooled value, not once per value before pooling.

All fused methods have one interface. Without ``argmax`` they return the pooled values and the argmax of
each pool. With it they return the convolution at these positions, which is bilinear in x and w (see
`fidle_jax.kernels.convolution`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Argmax, Array, Float, Images, Kernel, sum_dtype
from fidle_jax.kernels.chunks import in_chunks
from fidle_jax.kernels.geometry import ConvGeometry, pad, resolve_geometry, shifted_slices
from fidle_jax.kernels.materialize import materialize
from fidle_jax.kernels.pooling import max_and_argmax, take

# The pooled values and their argmax, or the values at a given argmax.
Pooled = Array | tuple[Array, ...]


def conv_pool(
    x: Images,
    w: Kernel,
    argmax: Argmax | None = None,
    *,
    geometry: ConvGeometry,
    pool: ConvGeometry,
) -> Pooled:
    """Compute ``max_pool(conv(x, w))``, for one group and a pool without padding."""
    kernels = lay_out(w, geometry, pool)

    def convolve_and_pool(x, *argmax):
        blocks = space_to_depth(pad(x, geometry.padding), geometry, pool)
        values, count = values_of_pools(blocks, kernels, geometry, pool)
        values = values.reshape(values.shape[0], math.prod(pool.size), w.shape[-1])
        return pool_values(values, (x.shape[0], *count, w.shape[-1]), *argmax)

    bytes_of_one = temporary_bytes(x.shape, w.shape, geometry, pool)
    return pool_in_chunks(convolve_and_pool, materialize(x, rows=True), argmax, bytes_of_one)


def pool_values(
    values: Float[Array, "row option feature"],
    shape: tuple[Any, ...],
    argmax: Argmax | None = None,
) -> Pooled:
    """Return the maximum over the options and its argmax, or the values at ``argmax``."""
    if argmax is None:
        return tuple(each.reshape(shape) for each in max_and_argmax(values))
    return take(values, argmax.reshape(values.shape[0], values.shape[2])).reshape(shape)


def pool_in_chunks(
    function: Callable[..., Pooled],
    x: Images,
    argmax: Argmax | None,
    bytes_of_one: float,
    bytes_shared: float = 0,
) -> Pooled:
    """Apply ``function`` to x, and to the argmax if given, in chunks of the batch."""
    arrays = (x,) if argmax is None else (x, argmax)
    result = in_chunks(function, arrays, bytes_of_one, bytes_shared)
    if argmax is None:
        return result[0].astype(x.dtype), result[1]
    return result.astype(x.dtype)


def temporary_bytes(
    x_shape: Sequence[Any], w_shape: Sequence[int], geometry: ConvGeometry, pool: ConvGeometry
) -> int:
    """Return the bytes of one example's patches and products."""
    span, _ = patch(geometry, pool)
    values = math.prod(span) * x_shape[-1] + math.prod(pool.size) * w_shape[-1]
    return 4 * math.prod(pool.count) * values


def lay_out(
    w: Kernel, geometry: ConvGeometry, pool: ConvGeometry
) -> Float[Array, "depth option_feature"]:
    """Lay out the kernel at each position in a patch: one column per position and feature."""
    span, strides = patch(geometry, pool)
    positions = list(itertools.product(*map(range, pool.size)))
    kernels = jnp.stack([_placed(w, position, geometry, span) for position in positions], axis=-2)
    if _has_whole_blocks(span, strides):
        kernels = _split_axes(kernels, strides, first=0)
    return kernels.reshape(math.prod(span) * w.shape[-2], len(positions) * w.shape[-1])


def _placed(w, position, geometry, span):
    """Pad the kernel with zeros to a patch of ``span``, with its first value at ``position``."""
    before = [n * stride for n, stride in zip(position, geometry.strides, strict=True)]
    axes = zip(before, span, geometry.span, geometry.dilation, strict=True)
    config = [(low, available - low - needed, d - 1) for low, available, needed, d in axes]
    return lax.pad(w, jnp.array(0, w.dtype), [*config, (0, 0, 0), (0, 0, 0)])


def space_to_depth(
    x: Images, geometry: ConvGeometry, pool: ConvGeometry
) -> Float[Array, "batch *side block_channel"]:
    """Rearrange blocks of the image into channels, if patches consist of whole blocks.

    A block lies between the starts of two patches. Patches are then concatenated from few, long slices.
    """
    span, strides = patch(geometry, pool)
    if not _has_whole_blocks(span, strides):
        return x
    patches = resolve_geometry(x.shape[1:-1], span, strides)
    blocks = [k // s for k, s in zip(span, strides, strict=True)]
    sides = [n + k - 1 for n, k in zip(patches.count, blocks, strict=True)]
    used = [n * s for n, s in zip(sides, strides, strict=True)]
    rows = _split_axes(x[(slice(None), *map(slice, used))], strides, first=1)
    return materialize(rows.reshape(x.shape[0], *sides, math.prod(strides) * x.shape[-1]))


def values_of_pools(
    blocks: Float[Array, "batch *side block_channel"],
    kernels: Float[Array, "depth option_feature"],
    geometry: ConvGeometry,
    pool: ConvGeometry,
) -> tuple[Float[Array, "row option_feature"], tuple[int, ...]]:
    """Return the convolution's values for each pooled value, and the spatial shape of those.

    The arguments are padded images from `space_to_depth` and kernels from `lay_out`.
    """
    span, strides = patch(geometry, pool)
    if _has_whole_blocks(span, strides):
        span, strides = [k // s for k, s in zip(span, strides, strict=True)], 1
    of_patches = resolve_geometry(blocks.shape[1:-1], span, strides)
    patches = jnp.concatenate(shifted_slices(blocks, of_patches), axis=-1)
    rows = patches.reshape(math.prod(patches.shape[:-1]), kernels.shape[0])
    wide = sum_dtype(blocks.dtype)
    return jnp.matmul(rows, kernels, preferred_element_type=wide), of_patches.count


def patch(geometry: ConvGeometry, pool: ConvGeometry) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the size of the patch that a pooled value depends on, and the strides of patches."""
    each = zip(geometry.span, pool.size, geometry.strides, strict=True)
    span = tuple(k + (p - 1) * s for k, p, s in each)
    return span, tuple(s * p for s, p in zip(geometry.strides, pool.strides, strict=True))


def _has_whole_blocks(span, strides):
    return not any(k % s for k, s in zip(span, strides, strict=True))


def _split_axes(array, strides, first):
    """Split axes into blocks. The numbers of blocks come first, then the axes within blocks."""
    last = first + len(strides)
    sides = zip(array.shape[first:last], strides, strict=True)
    split = [side for n, s in sides for side in (n // s, s)]
    array = array.reshape(*array.shape[:first], *split, *array.shape[last:])
    end = first + len(split)
    outer, inner, rest = range(first, end, 2), range(first + 1, end, 2), range(end, array.ndim)
    return array.transpose(*range(first), *outer, *inner, *rest)
