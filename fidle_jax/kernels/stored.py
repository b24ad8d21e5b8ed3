"""Walls between what computes an array and what uses it, for XLA's loops on a CPU."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


def stored(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``x`` itself, computed once and written to memory; in the backward pass, its cotangent too.

    On a CPU, XLA fuses whatever is elementwise (a dropout with its random bits, say) into each slice
    that is taken of it, and so computes it once for each patch that a value is in;
    `jax.lax.optimization_barrier` is gone by then. The result of a conditional is not fused. Both of
    its branches give ``x``, bit for bit; the second, which only a NaN takes, does not look like it.
    """
    return stored_beside(x, x)


def stored_beside(x: Float[Array, "..."], other: Float[Array, "..."]) -> Float[Array, "..."]:
    """As `stored`, linear in ``x``, a tangent: the conditional looks at ``other``, in no other way used."""
    return x if x.size == 0 else _passed(x, _is_number(other))


@jax.custom_jvp
def stored_as_rows(x: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
    """As `stored`, but computed in one row of values an example; its cotangent is stored as it is.

    XLA's loops follow the shape of what is written. Elementwise work over a last axis of a few
    channels takes two to three times what it takes over a row; the cotangent, a sum of padded
    slices or a transposition, is slower in any shape but its own.
    """
    return x if x.size == 0 else stored(as_rows(x)).reshape(x.shape)


@stored_as_rows.defjvp
def _jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    y = stored_as_rows(x)
    return y, stored_beside(tangent, x)


def as_rows(x: Float[Array, "batch ..."]) -> Float[Array, "batch value"]:
    """One row of all its values for each example."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def _passed(x: Float[Array, "..."], is_number: Bool[Array, ""]) -> Float[Array, "..."]:
    # Where it is taken, the second branch selects x: the predicate is False, which XLA does not see.
    return lax.cond(is_number, lambda x, _: x, lambda x, p: jnp.where(p, 0, x), x, is_number)


def _is_number(x):
    first = lax.stop_gradient(x).reshape(-1)[0]
    return first == first
