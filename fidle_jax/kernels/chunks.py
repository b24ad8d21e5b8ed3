"""Computation in chunks, one after the other, so that intermediate arrays fit into the cache."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Array
from fidle_jax.kernels.windows import Windows, pad

# Limit for a chunk's intermediate arrays: they fit within the last-level cache of a server core.
CHUNK_BYTES = 24 * 2**20

# A chunk also takes at least this many times the bytes of the weights, because each chunk reads all
# of them and its backward pass adds to their gradient. Measured with Winograd's method on 64 to 256
# channels.
SHARED_TIMES = 20

# One example whose intermediate arrays exceed this is computed in slabs.
SLAB_BYTES = 4 * CHUNK_BYTES


def in_chunks(
    function: Callable[..., Any],
    arrays: tuple[Array, ...],
    bytes_of_one: float,
    bytes_shared: float = 0,
) -> Any:
    """Compute ``function(*arrays)``, a function of each example alone, in chunks of the batch.

    Args:
        function: Function of arrays with a leading batch axis that returns such arrays.
        arrays: Arguments; the first axis of each is the batch.
        bytes_of_one: Bytes of the intermediate arrays of one example.
        bytes_shared: Bytes that all examples read from elsewhere, if that is worth larger chunks.
    """
    batch = arrays[0].shape[0]
    limit = max(CHUNK_BYTES, SHARED_TIMES * bytes_shared)
    fitting = max(1, int(limit // max(1, bytes_of_one)))
    if not isinstance(batch, int) or batch <= fitting:
        return function(*arrays)
    size = chunk_size(batch, fitting)
    count = -(-batch // size)
    if count * size > batch:
        arrays = tuple(_filled(array, count * size) for array in arrays)
    parts = [array.reshape(count, size, *array.shape[1:]) for array in arrays]
    # Without the checkpoint, the gradient in the weights stores intermediate arrays of all chunks.
    one = jax.checkpoint(lambda part: function(*part), prevent_cse=False)
    results = lax.map(one, parts)
    return jax.tree.map(lambda y: y.reshape(count * size, *y.shape[2:])[:batch], results)


def chunk_size(batch: int, fitting: int) -> int:
    """Return the number of examples per chunk, at most ``fitting``.

    A divisor of the batch is preferred. If all divisors are small, as for a prime number, the last
    chunk is filled up with zeros.
    """
    divisor = max(n for n in range(1, fitting + 1) if batch % n == 0)
    chunks = -(-batch // fitting)
    return divisor if 2 * divisor >= fitting else -(-batch // chunks)


def _filled(array, length):
    config = [(0, length - array.shape[0], 0), *[(0, 0, 0)] * (array.ndim - 1)]
    return lax.pad(array, jnp.array(0, array.dtype), config)


def in_slabs(
    function: Callable[[Array, Windows], Array],
    x: Array,
    windows: Windows,
    bytes_of_one: float,
) -> Array:
    """Compute a convolution in slabs along the first spatial axis if one example is too large.

    Args:
        function: Convolution of images by windows.
        x: Images, channels last.
        windows: Geometry of the windows.
        bytes_of_one: Bytes of the intermediate arrays of one example.
    """
    rows = windows.count[0]
    slabs = min(rows, math.ceil(bytes_of_one / CHUNK_BYTES))
    if bytes_of_one <= SLAB_BYTES or slabs < 2:
        return function(x, windows)
    rows_each = -(-rows // slabs)
    slabs = -(-rows // rows_each)
    stride, span = windows.strides[0], (windows.size[0] - 1) * windows.dilation[0] + 1
    side = (rows_each - 1) * stride + span
    # Zeros after the image for the windows that fill up the last slab.
    needed = (slabs * rows_each - 1) * stride + span
    low, _ = windows.padding[0]
    high = needed - low - x.shape[1]
    x = pad(x, [(low, max(0, high)), *windows.padding[1:]])
    one = dataclasses.replace(
        windows, padding=((0, 0),) * len(windows.size), count=(rows_each, *windows.count[1:])
    )

    def slab(start):
        return function(lax.dynamic_slice_in_dim(x, start, side, axis=1), one)

    parts = lax.map(
        jax.checkpoint(slab, prevent_cse=False), jnp.arange(slabs) * (rows_each * stride)
    )
    y = jnp.moveaxis(parts, 0, 1)
    y = y.reshape(y.shape[0], slabs * rows_each, *y.shape[3:])
    return lax.slice_in_dim(y, 0, rows, axis=1)
