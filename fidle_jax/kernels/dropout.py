"""Dropout with bits from an integer hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from fidle_jax.kernels.hashing import hash_bits
from fidle_jax.kernels.stored import as_rows

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Key


def dropout(
    x: Float[Array, "batch ..."],
    rate: float,
    key: Key[Array, ""],
    example_index: Int[Array, " batch"],
) -> Float[Array, "batch ..."]:
    """Zeroes each value with probability ``rate`` and scales the others by 1 / (1 - rate).

    What is zeroed depends on (key, example index, position) alone (Srivastava et al., 2014).

    Raises:
        ValueError: a rate outside [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate is {rate}; expected 0 <= rate < 1")
    if rate == 0:
        return x
    rows = as_rows(x)
    bits = hash_bits(key, example_index, rows.shape[1])
    threshold = jnp.uint32(int(rate * 2**32))
    return jnp.where(bits >= threshold, rows / (1 - rate), 0).reshape(x.shape)
