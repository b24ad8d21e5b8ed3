"""Stack arrays along a new first axis, and take them apart, without copies.

XLA computes the parts of a concatenation first and then copies them. Here each part is written to its
place in one buffer, and XLA fuses the computation of the part into that write. The transpose of either
function is the other one. (The transpose of indexing would be a sum of padded arrays.) They have no
batching rule, and need none: the primitive that calls them folds a mapped axis before its lowering.
"""

from __future__ import annotations

from collections.abc import Sequence

from jax import lax
from jax.custom_derivatives import linear_call

from fidle_jax.kernels.arrays import Array, Float


def stack(arrays: Sequence[Float[Array, "..."]]) -> Float[Array, "part ..."]:
    """Stack arrays of one shape along a new first axis."""
    return linear_call(_stacked, _unstacked, (), list(arrays))


def unstack(x: Float[Array, "part ..."]) -> list[Float[Array, "..."]]:
    """Return the parts of ``x`` along its first axis; the inverse of `stack`."""
    return linear_call(_unstacked, _stacked, (), x)


def _stacked(_, arrays):
    buffer = lax.full((len(arrays), *arrays[0].shape), 0, arrays[0].dtype)
    for place, array in enumerate(arrays):
        buffer = lax.dynamic_update_index_in_dim(buffer, array, place, 0)
    return buffer


def _unstacked(_, x):
    return [lax.index_in_dim(x, place, keepdims=False) for place in range(x.shape[0])]
