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
    corners = list(itertools.product(*map(range, pool.size)))
    span = tuple(
        (k - 1) * d + (p - 1) * s + 1
        for k, d, p, s in zip(
            windows.size, windows.dilation, pool.size, windows.strides, strict=True
        )
    )
    strides = tuple(s * p for s, p in zip(windows.strides, pool.strides, strict=True))
    kernels = jnp.stack([_laid_out(w, corner, windows, span) for corner in corners], axis=-2)
    kernels = kernels.reshape(*span, x.shape[-1], len(corners) * w.shape[-1])
    depth = math.prod(span) * x.shape[-1]
    places = resolve_windows(
        [n + sum(pair) for n, pair in zip(x.shape[1:-1], windows.padding, strict=True)],
        span,
        strides,
    )
    whole_blocks = not any(k % s for k, s in zip(span, strides, strict=True))
    kernels = (_in_blocks(kernels, strides) if whole_blocks else kernels).reshape(depth, -1)
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def convolve_and_pool(x):
        patches = (_block_patches if whole_blocks else _patches)(pad(x, windows.padding), places)
        rows = patches.reshape(math.prod(patches.shape[:-1]), depth)
        values = jnp.matmul(rows, kernels, preferred_element_type=wide)
        pooled = first_max(values.reshape(rows.shape[0], len(corners), w.shape[-1]))
        return pooled.reshape(x.shape[0], *places.count, w.shape[-1])

    bytes_of_one = wide.itemsize * math.prod(places.count) * (depth + len(corners) * w.shape[-1])
    pooled = in_chunks(convolve_and_pool, stored_as_rows(x), bytes_of_one)
    return add_bias(pooled, b, relu).astype(x.dtype)


def _patches(image, patches):
    return jnp.concatenate(shifted_slices(image, patches), axis=-1)


def _laid_out(w, corner, windows, span):
    """The kernel within a patch of ``span``, moved by ``corner`` strides, zeros around it."""
    config = []
    for k, d, at, s, room in zip(
        windows.size, windows.dilation, corner, windows.strides, span, strict=True
    ):
        before = at * s
        config.append((before, room - before - (k - 1) * d - 1, d - 1))
    return lax.pad(w, jnp.array(0, w.dtype), [*config, (0, 0, 0), (0, 0, 0)])


def _block_patches(image, patches):
    """Patches of whole blocks, where a block is what lies between one patch's start and the next's.

    The image is cut into blocks first, each a row of channels, so that far fewer and longer pieces
    are put together, and in the gradient taken apart, than there are values in a patch.
    """
    blocks = [k // s for k, s in zip(patches.size, patches.strides, strict=True)]
    sides = [(n + k - 1) for n, k in zip(patches.count, blocks, strict=True)]
    fitting = [n * s for n, s in zip(sides, patches.strides, strict=True)]
    image = image[(slice(None), *map(slice, fitting))]
    rows = _split_axes(image, patches.strides, first=1)
    depth = math.prod(patches.strides) * image.shape[-1]
    rows = stored(rows.reshape(image.shape[0], *sides, depth))
    return jnp.concatenate(shifted_slices(rows, resolve_windows(sides, blocks)), axis=-1)


def _in_blocks(kernels, strides):
    """The kernels' values in the order in which `_block_patches` has them."""
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
