"""A wall between what computes an array and what uses it, for XLA's fusion on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def stored(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``x`` itself, computed once and written to memory; in the backward pass, its cotangent too.

    On a CPU, XLA fuses whatever is elementwise (a dropout with its random bits, say) into each slice
    that is taken of it, and so computes it once for each patch that a value is in;
    `jax.lax.optimization_barrier` is gone by then. The result of a conditional is not fused. Both of
    its branches give ``x``, bit for bit; the second, which only a NaN takes, does not look like it.
    """
    if x.size == 0:
        return x
    first = lax.stop_gradient(x).reshape(-1)[0]
    is_number = first == first
    # Where it is taken, the second branch selects x: the predicate is False, which XLA does not see.
    return lax.cond(is_number, lambda x, _: x, lambda x, p: jnp.where(p, 0, x), x, is_number)
