"""Dropout with random bits from an integer hash."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fidle_jax.kernels.arrays import Array, Float, Int, Key
from fidle_jax.kernels.hashing import hash_bits
from fidle_jax.kernels.materialize import as_rows


def dropout(
    x: Float[Array, "batch ..."],
    rate: float | Float[Array, ""],
    key: Key[Array, ""],
    example_index: Int[Array, " batch"],
) -> Float[Array, "batch ..."]:
    """Zero each value with probability ``rate`` and scale the others by 1 / (1 - rate).

    The mask depends only on (key, example index, position within the example).

    Args:
        x: Array with a leading batch axis.
        rate: Probability in [0, 1). A traced array is accepted, but its range is not checked.
        key: JAX random key.
        example_index: Index of each example in the data set.

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
