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
from fidle_jax.kernels.geometry import ConvGeometry, pad

# Limit for a chunk's intermediate arrays: they fit into the last-level cache of a server core.
CHUNK_BYTES = 24 * 2**20

# The limit is at least this many times the bytes of the weights, because each chunk reads all of them
# and its backward pass adds to their gradient. Measured with Winograd's method on 64 to 256 channels.
SHARED_TIMES = 20

# One example whose intermediate arrays exceed this is computed in slabs.
SLAB_BYTES = 4 * CHUNK_BYTES


def in_chunks(
    function: Callable[..., Any],
    arrays: tuple[Array, ...],
    bytes_of_one: float,
    bytes_shared: float = 0,
) -> Any:
    """Compute ``function(*arrays)`` in chunks of the batch. Each example must be independent.

    Args:
        function: Function of arrays with a leading batch axis that returns such arrays.
        arrays: Arguments; the first axis of each is the batch.
        bytes_of_one: Bytes of the intermediate arrays of one example.
        bytes_shared: Bytes of the weights, if reading them justifies larger chunks.
    """
    batch = arrays[0].shape[0]
    limit = max(CHUNK_BYTES, SHARED_TIMES * bytes_shared)
    largest = max(1, int(limit // max(1, bytes_of_one)))
    if not isinstance(batch, int) or batch <= largest:
        return function(*arrays)
    # Without the checkpoint, the gradient in the weights stores intermediate arrays of all chunks.
    one = jax.checkpoint(lambda chunk: function(*chunk), prevent_cse=False)
    results = lax.map(one, split_batch(arrays, largest))
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:])[:batch], results)


def split_batch(arrays: tuple[Array, ...], largest: int) -> tuple[Array, ...]:
    """Split the first axis into chunks of at most ``largest`` examples: (chunk, example, ...).

    Zeros complete the last chunk. A symbolic batch becomes one chunk.
    """
    batch = arrays[0].shape[0]
    if not isinstance(batch, int):
        return tuple(array[None] for array in arrays)
    size = chunk_size(batch, max(1, min(batch, largest)))
    count = -(-batch // size)
    fill = count * size - batch
    if fill:
        arrays = tuple(
            lax.pad(a, jnp.array(0, a.dtype), [(0, fill, 0), *[(0, 0, 0)] * (a.ndim - 1)])
            for a in arrays
        )
    return tuple(array.reshape(count, size, *array.shape[1:]) for array in arrays)


def chunk_size(batch: int, largest: int) -> int:
    """Return the number of examples per chunk, at most ``largest``: a divisor of the batch.

    If all divisors are small, as for a prime number, zeros complete the last chunk instead.
    """
    divisor = max(n for n in range(1, largest + 1) if batch % n == 0)
    chunks = -(-batch // largest)
    return divisor if 2 * divisor >= largest else -(-batch // chunks)


def in_slabs(
    function: Callable[[Array, ConvGeometry], Array],
    x: Array,
    geometry: ConvGeometry,
    bytes_of_one: float,
) -> Array:
    """Compute the convolution ``function(x, geometry)`` in slabs along the first spatial axis.

    ``bytes_of_one`` is the size of the intermediate arrays of one example. If it is at most `SLAB_BYTES`,
    use one slab.
    """
    rows = geometry.count[0]
    slabs = min(rows, math.ceil(bytes_of_one / CHUNK_BYTES))
    if bytes_of_one <= SLAB_BYTES or slabs < 2:
        return function(x, geometry)
    rows_each = -(-rows // slabs)
    slabs = -(-rows // rows_each)
    stride, span = geometry.strides[0], geometry.span[0]
    side = (rows_each - 1) * stride + span
    # Zeros after the image complete the windows of the last slab.
    needed = (slabs * rows_each - 1) * stride + span
    low, _ = geometry.padding[0]
    high = needed - low - x.shape[1]
    x = pad(x, [(low, max(0, high)), *geometry.padding[1:]])
    of_slab = dataclasses.replace(
        geometry, padding=((0, 0),) * len(geometry.size), count=(rows_each, *geometry.count[1:])
    )

    def slab(start):
        return function(lax.dynamic_slice_in_dim(x, start, side, axis=1), of_slab)

    starts = jnp.arange(slabs) * (rows_each * stride)
    y = jnp.moveaxis(lax.map(jax.checkpoint(slab, prevent_cse=False), starts), 0, 1)
    y = y.reshape(y.shape[0], slabs * rows_each, *y.shape[3:])
    return lax.slice_in_dim(y, 0, rows, axis=1)
