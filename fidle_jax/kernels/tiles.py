"""Max pooling as an elementwise maximum of shifted images, with a gradient made for a CPU.

XLA's gradient of its own pooling (select-and-scatter) takes longer on a CPU than the convolution
before it. Here the positions of a window are a few strided slices; the gradient goes to the first
of equal values, as XLA's does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from fidle_jax.kernels.first_max import first_max
from fidle_jax.kernels.windows import Windows, pad, shifted_slices

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def max_pool(
    x: Float[Array, "batch *spatial channel"], windows: Windows
) -> Float[Array, "batch *count channel"]:
    """The largest of each window's values."""
    slices = shifted_slices(pad(x, windows.padding, -jnp.inf), windows)
    return first_max(jnp.stack(slices, axis=-2))


def avg_pool(
    x: Float[Array, "batch *spatial channel"], windows: Windows
) -> Float[Array, "batch *count channel"]:
    """The mean of each window's values; padding is not counted."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    total = sum(s.astype(wide) for s in shifted_slices(pad(x, windows.padding), windows))
    ones = pad(jnp.ones((1, *x.shape[1:-1], 1), wide), windows.padding)
    return (total / sum(shifted_slices(ones, windows))).astype(x.dtype)
