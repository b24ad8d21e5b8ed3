"""Bias and ReLU."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from fidle_jax.kernels.stored import as_rows, stored

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# In values. The bias's gradient is a sum of the rows, which is slow when they are longer.
LONGEST_ROW = 2**14


def add_bias(
    y: Float[Array, "batch *spatial feature"], b: Float[Array, " feature"], relu: bool
) -> Float[Array, "batch *spatial feature"]:
    """``relu(y + b)``, or without the ReLU; computed in one row of values an example if they are few.

    (See `fidle_jax.kernels.stored.stored_as_rows` for why.)
    """
    shape = y.shape
    if y.size and math.prod(shape[1:]) <= LONGEST_ROW:
        y, b = as_rows(y), stored(jnp.tile(b, math.prod(shape[1:-1])))
    y = y + b
    return (jax.nn.relu(y) if relu else y).reshape(shape)
