"""A wall between what computes an array and what uses it, for XLA's fusion on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@jax.custom_jvp
def stored(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``x`` itself, computed once and written to memory.

    On a CPU, XLA fuses whatever is elementwise (a dropout with its random bits, say) into each slice
    that is taken of it, and so computes it once for each patch that a value is in;
    `jax.lax.optimization_barrier` is gone by then. The result of a conditional is not fused. Both of
    its branches give ``x``, bit for bit; the second, which only a NaN takes, does not look like it.
    """
    if x.size == 0:
        return x
    first = x.reshape(-1)[0]
    is_number = first == first
    unsigned = f"uint{8 * x.dtype.itemsize}"
    mask = jnp.where(is_number, 1, 0).astype(unsigned)  # 0 where it is used, which XLA does not see

    def unchanged(x, mask):
        bits = lax.bitcast_convert_type(x, unsigned) ^ mask
        return lax.bitcast_convert_type(bits, x.dtype)

    return lax.cond(is_number, lambda x, mask: x, unchanged, x, mask)


@stored.defjvp
def _jvp(primals, tangents):
    return stored(*primals), tangents[0]
