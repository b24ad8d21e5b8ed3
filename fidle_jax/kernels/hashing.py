"""Random bits and permutations as functions of (key, index): any element alone, in any order.

An integer hash of a counter is several times cheaper on a CPU than threefry, and, since each value
depends on its own index alone, the same whatever the number of devices that share the work.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fidle_jax.kernels.arrays import Array, Int, Key, UInt32


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32 bits in which each input bit flips each output bit about half the time.

    The constants are those of C. Wellons's search for low-bias hashes ("lowbias32", 2018).
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def hash_bits(
    key: Key[Array, ""], example_index: Int[Array, " batch"], size: int
) -> UInt32[Array, "batch {size}"]:
    """32 random bits for each of ``size`` elements of each example, by (key, example, element)."""
    first, second = jax.random.key_data(key)[:2]  # other generators than threefry have four words
    rows = _mix(_mix(example_index.astype(jnp.uint32) ^ first) + second)
    columns = _mix(jnp.arange(size, dtype=jnp.uint32) ^ second)
    return _mix(_computed_once(rows)[:, None] + _computed_once(columns)[None, :])


def _computed_once(x: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
    """``x`` by way of a reduction: anything elementwise XLA computes over again for each use."""
    return lax.reduce(jnp.stack([x, jnp.zeros_like(x)]), np.uint32(0), lax.bitwise_or, (0,))


def permutation(key: Key[Array, ""], size: int) -> Int[Array, " {size}"]:
    """A random order of ``0 ... size - 1``: the indices sorted by their hash."""
    bits = hash_bits(key, jnp.arange(size), 1)[:, 0]
    return jnp.argsort(bits, stable=True).astype(jnp.int32)
