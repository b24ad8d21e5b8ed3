"""Convolution as patches and one matmul (Chellapilla, Puri and Simard, 2006)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.chunks import in_chunks
from fidle_jax.kernels.stored import stored
from fidle_jax.kernels.windows import Padding, Sizes, conv_windows, pad

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
    values, features = math.prod(windows.size), w.shape[-1]
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def convolve(x):
        windowed = _patches(pad(x, windows.padding), windows)
        if groups == 1:
            rows = windowed.reshape(math.prod(windowed.shape[:-1]), windowed.shape[-1])
            columns = w.reshape(rows.shape[1], features)
            product = jnp.matmul(rows, columns, preferred_element_type=wide)
        else:
            rows = windowed.reshape(math.prod(windowed.shape[:-1]), values, groups, w.shape[-2])
            columns = w.reshape(values, w.shape[-2], groups, features // groups)
            product = jnp.einsum("rvgc,vcgf->rgf", rows, columns, preferred_element_type=wide)
        return product.reshape(x.shape[0], *windows.count, features)

    # Twice, for the backward pass has the gradient in the patches beside them.
    bytes_of_one = 2 * wide.itemsize * math.prod(windows.count) * (values * x.shape[-1] + features)
    return in_chunks(convolve, x, bytes_of_one).astype(x.dtype)


def _patches(x, windows):
    """The values of each window as channels: (batch, *count, value x channel).

    Axis by axis, the last one first: sums of slices rather than of products of slices to compile, and
    longer pieces to copy and, in the gradient, to add.
    """
    for axis in range(len(windows.size), 0, -1):
        size, dilation, stride, count = (
            sides[axis - 1]
            for sides in (windows.size, windows.dilation, windows.strides, windows.count)
        )
        starts = range(0, size * dilation, dilation)
        pieces = [
            lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)
            for start in starts
        ]
        x = jnp.concatenate(pieces, axis=-1)
        x = stored(x) if axis > 1 else x
    return x
