"""Convolution as patches and one matmul (Chellapilla, Puri and Simard, 2006)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp

from fidle_jax.kernels.windows import Padding, Sizes, conv_windows, pad, shifted_slices

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def conv(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel_per_group feature"],
    *,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
) -> Float[Array, "batch *count feature"]:
    """Every window a row, every kernel a column, and the product of the two matrices."""
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    values, channels = math.prod(windows.size), x.shape[-1] // groups
    slices = shifted_slices(pad(x, windows.padding), windows)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    if groups == 1:
        rows = jnp.concatenate(slices, axis=-1).reshape(-1, values * channels)
        product = jnp.matmul(rows, w.reshape(values * channels, -1), preferred_element_type=wide)
    else:
        rows = jnp.stack(slices, axis=-2).reshape(-1, values, groups, channels)
        columns = w.reshape(values, channels, groups, -1)
        product = jnp.einsum("rvgc,vcgf->rgf", rows, columns, preferred_element_type=wide)
    return product.reshape(x.shape[0], *windows.count, w.shape[-1]).astype(x.dtype)
