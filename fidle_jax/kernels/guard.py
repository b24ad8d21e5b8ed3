"""A guard for methods that are exact only for numbers of ordinary size.

Winograd's method and the fused methods multiply values outside of a window by zero, or add and
subtract them. That is exact up to rounding for ordinary numbers. For infinities (0 * inf is NaN) and
for numbers so large that a sum overflows, it makes outputs infinite or NaN that are finite by
definition. The guard looks for such numbers, in the arguments or in the result, whichever is smaller.
If it finds one, it runs a method that reads only the window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Array, Bool

# Sums of products of two numbers below this limit are far below the largest float32. In float16 the
# limit becomes infinity. That is correct, because its products are added in float32.
LIMIT = 2.0**40


def guarded(fast: Callable, safe: Callable, *arrays: Array):
    """Return ``fast(*arrays)``, or ``safe(*arrays)`` if numbers are not of ordinary size.

    Args:
        fast: Function of the arrays, exact for numbers of ordinary size.
        safe: Function with the same results, exact for all numbers.
        *arrays: Arguments. Integer arrays are not examined.
    """
    results, structure = jax.tree.flatten(fast(*arrays))
    floats = [array for array in arrays if jnp.issubdtype(array.dtype, jnp.floating)]
    if results[0].size <= sum(array.size for array in floats):
        ordinary = _all_below(results[:1], jnp.inf)
    else:
        ordinary = _all_below(floats, LIMIT)

    def repair(carry):
        return False, *jax.tree.leaves(safe(*arrays))

    # A loop of at most one pass, because XLA copies the results of a conditional but not of a loop.
    carry = lax.while_loop(lambda carry: carry[0], repair, (~ordinary, *results))
    return jax.tree.unflatten(structure, carry[1:])


def _all_below(arrays: Sequence[Array], limit: float) -> Bool[Array, ""]:
    """Compare absolute values by their bits. XLA vectorizes maxima of integers, but not of floats."""
    result = jnp.array(True)
    for array in arrays:
        unsigned = jnp.dtype(f"uint{8 * array.dtype.itemsize}")
        bound = lax.bitcast_convert_type(jnp.array(limit, array.dtype), unsigned)
        without_sign = jnp.array(jnp.iinfo(unsigned).max >> 1, unsigned)
        magnitude = lax.bitcast_convert_type(array, unsigned) & without_sign
        result &= jnp.max(magnitude, initial=0) < bound
    return result
