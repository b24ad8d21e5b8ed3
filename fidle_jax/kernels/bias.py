"""Bias and ReLU."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Array, Float
from fidle_jax.kernels.materialize import as_rows, materialize

# In values. The bias's gradient is a sum of the rows, which is slow when they are longer.
LONGEST_ROW = 2**14


def add_bias(
    y: Float[Array, "batch *spatial feature"], b: Float[Array, " feature"], relu: bool
) -> Float[Array, "batch *spatial feature"]:
    """Return ``relu(y + b)``, or ``y + b``, computed in rows if they are short (see `materialize`)."""
    shape = y.shape
    if y.size and math.prod(shape[1:]) <= LONGEST_ROW:
        y, b = as_rows(y), materialize(jnp.tile(b, math.prod(shape[1:-1])))
    y = y + lax.broadcast_in_dim(b, y.shape, (y.ndim - 1,))
    return (jax.nn.relu(y) if relu else y).reshape(shape)
