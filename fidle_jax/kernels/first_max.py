"""The maximum of a few arrays, its gradient going to the first of equal ones."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fidle_jax.kernels.chunks import kept
from fidle_jax.kernels.stored import stored, stored_beside

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def first_max(values: Float[Array, "... option rest"]) -> Float[Array, "... rest"]:
    """The largest along the last axis but one; the gradient goes to the first of equal values.

    Autodiff of `jnp.max` would share it among them, which is not what any framework's pooling does.
    Forward and reverse mode.
    """
    return _max_and_first(values)[0]


@jax.custom_jvp
def _max_and_first(
    values: Float[Array, "... option rest"],
) -> tuple[Float[Array, "... rest"], Int[Array, "... rest"]]:
    """The largest values and where they come first, by one reduction of pairs.

    One pass over the values, and what comes of it is stored: XLA computes anything elementwise
    over again wherever it is used.
    """
    axis = values.ndim - 2
    # As small as they come: they are read again in the backward pass.
    integer = np.int8 if values.shape[axis] <= np.iinfo(np.int8).max else np.int32
    options = lax.broadcasted_iota(integer, values.shape, axis)
    start = np.array(-np.inf, values.dtype), integer(values.shape[axis])
    return lax.reduce((values, options), start, _larger, (axis,))


@_max_and_first.defjvp
def _jvp(primals, tangents):
    (values,), (tangent,) = primals, tangents
    largest, first = _max_and_first(values)
    first = kept(first)
    options = jnp.arange(values.shape[-2], dtype=first.dtype)[:, None]
    chosen = jnp.where(options == first[..., None, :], tangent, 0).sum(axis=-2)
    return (largest, first), (chosen, np.zeros(first.shape, jax.dtypes.float0))


def _larger(one, other):
    (value, place), (other_value, other_place) = one, other
    is_first = (value > other_value) | ((value == other_value) & (place < other_place))
    return jnp.maximum(value, other_value), jnp.where(is_first, place, other_place)


@jax.custom_jvp
def first_max_of(*arrays: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The largest of the arrays, place by place, as `first_max` of them stacked."""
    return functools.reduce(jnp.maximum, arrays)


@first_max_of.defjvp
def _jvp_of(arrays, tangents):
    largest = first_max_of(*arrays)
    winner = jnp.full(largest.shape, len(arrays) - 1, largest.dtype)
    for option in reversed(range(len(arrays) - 1)):
        winner = jnp.where(arrays[option] == largest, option, winner)
    winner = kept(stored(winner))
    # Stored, or XLA would choose again for each of the sums that a chosen cotangent goes into.
    parts = (stored_beside(part, winner) for part in tangents)
    chosen = (jnp.where(winner == option, part, 0) for option, part in enumerate(parts))
    return largest, functools.reduce(jnp.add, chosen)
