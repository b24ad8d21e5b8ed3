"""A guard for methods that are exact only for numbers of ordinary size.

Winograd's method and the fused methods multiply values outside of a window by zero, or add them and
subtract them again. That is exact to rounding for ordinary numbers. For infinities (0 * inf is NaN)
and for numbers so large that a sum overflows, it makes outputs infinite or NaN that are finite by
definition. Such a failure always shows in the result. So the guard sums up the result, and if the sum
is not finite, it runs a method that reads only the window.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Array, Bool, sum_dtype


def guarded(fast: Callable, safe: Callable, *arrays: Array):
    """Return ``fast(*arrays)`` if its first result is finite, else ``safe(*arrays)``."""
    results, structure = jax.tree.flatten(fast(*arrays))
    count = len(results)
    return lax.cond(
        _is_finite(results[0]),
        lambda *operands: jax.tree.unflatten(structure, operands[:count]),
        lambda *operands: safe(*operands[count:]),
        *results,
        *arrays,
    )


def _is_finite(array: Array) -> Bool[Array, ""]:
    # Scaled down, so that a sum of large finite numbers does not overflow.
    wide = array.astype(sum_dtype(array.dtype))
    return jnp.isfinite((wide * 2.0**-40).sum())
