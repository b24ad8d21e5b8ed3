"""Random bits, permutations and dropout from an integer hash.

Each value is a function of a key and its own index. So it does not depend on the number of devices,
on the order of computation, or on the other values. On a CPU the hash is several times cheaper than
threefry.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fidle_jax.kernels.arrays import Array, Float, Int, Key, UInt32
from fidle_jax.kernels.materialize import as_rows


def hash_bits(
    key: Key[Array, ""], example_index: Int[Array, " batch"], size: int
) -> UInt32[Array, "batch {size}"]:
    """Return 32 random bits for each of ``size`` elements of each example.

    Args:
        key: JAX random key, of any implementation.
        example_index: Number of each example, for example its position in the whole batch.
        size: Number of elements per example.
    """
    first, second = jax.random.key_data(key)[:2]  # some implementations have four words
    rows = _mix(_mix(example_index.astype(jnp.uint32) ^ first) + second)
    columns = _mix(jnp.arange(size, dtype=jnp.uint32) ^ second)
    return _mix(_compute_once(rows)[:, None] + _compute_once(columns)[None, :])


def permutation(key: Key[Array, ""], size: int) -> Int[Array, " {size}"]:
    """Return a random permutation of ``0 ... size - 1``: the indices sorted by their hash."""
    bits = hash_bits(key, jnp.arange(size), 1)[:, 0]
    return jnp.argsort(bits, stable=True).astype(jnp.int32)


def dropout(
    x: Float[Array, "batch ..."],
    rate: float | Float[Array, ""],
    key: Key[Array, ""],
    example_index: Int[Array, " batch"],
) -> Float[Array, "batch ..."]:
    """Zero each value with probability ``rate`` and scale the others by 1 / (1 - rate).

    The mask depends only on the key, the example index and the position within the example.

    Args:
        x: Array with a leading batch axis.
        rate: Probability in [0, 1). The range of a JAX array is not checked.
        key: JAX random key.
        example_index: See `hash_bits`.

    Raises:
        ValueError: The rate is outside of [0, 1).

    References:
        Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """
    if isinstance(rate, jax.Array):
        # 2^32 - 256 is the largest float32 below 2^32.
        threshold = jnp.minimum(rate * 2.0**32, 2.0**32 - 256).astype(jnp.uint32)
        scale = jnp.asarray(1 / (1 - rate), x.dtype)
    else:
        rate = float(rate)
        if not 0 <= rate < 1:
            raise ValueError(f"dropout rate is {rate}; it must be at least 0 and less than 1")
        if rate == 0:
            return x
        threshold, scale = jnp.uint32(int(rate * 2**32)), None
    rows = as_rows(x)
    bits = hash_bits(key, example_index, rows.shape[1])
    scaled = rows / (1 - rate) if scale is None else rows * scale
    return jnp.where(bits >= threshold, scaled, jnp.zeros((), x.dtype)).reshape(x.shape)


def threefry_bits(key: Key[Array, ""], shape: tuple[int, ...], width: int) -> Array:
    """Return the random bits of `jax.random.bits` for a key of threefry, several times as fast.

    XLA compiles the rounds to a loop on a CPU, which writes the whole array in each round.

    Args:
        key: Key of the implementation "threefry2x32".
        shape: Shape of the result, less than 2^32 numbers.
        width: Number of bits, 8, 16 or 32.

    References:
        Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
    """
    first, second = jax.random.key_data(key)
    keys = (first, second, first ^ second ^ np.uint32(0x1BD11BDA))
    y = lax.iota(jnp.uint32, math.prod(shape)) + second
    x = jnp.zeros_like(y) + first
    for step in range(5):
        for bits in ((13, 15, 26, 6), (17, 29, 16, 24))[step % 2]:
            x = x + y
            y = (y << np.uint32(bits) | y >> np.uint32(32 - bits)) ^ x
        x = x + keys[(step + 1) % 3]
        y = y + keys[(step + 2) % 3] + np.uint32(step + 1)
    return (x ^ y).astype(f"uint{width}").reshape(shape)


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """Hash 32 bits to 32 bits, one to one. Each input bit flips each output bit half of the time.

    References:
        Wellons, "Prospecting for hash functions" (the constants of "lowbias32"), 2018.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _compute_once(x: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
    """Return ``x`` through a reduction. XLA would repeat elementwise work for each use."""
    return lax.reduce(jnp.stack([x, jnp.zeros_like(x)]), np.uint32(0), lax.bitwise_or, (0,))
