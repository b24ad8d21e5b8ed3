"""Convolution as patches and one matmul (Chellapilla, Puri and Simard, 2006)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Array, Float, sum_dtype
from fidle_jax.kernels.chunks import in_chunks, in_slabs
from fidle_jax.kernels.materialize import materialize
from fidle_jax.kernels.windows import Padding, Sizes, Windows, conv_windows, pad


def conv(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel_per_group feature"],
    *,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
) -> Float[Array, "batch *count feature"]:
    """Write every window as a row and every kernel as a column, and multiply the two matrices."""
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    values, features = math.prod(windows.size), w.shape[-1]
    wide = sum_dtype(x.dtype)

    def product(x, windows):
        windowed = _patches(pad(x, windows.padding), windows)
        if groups == 1:
            rows = windowed.reshape(math.prod(windowed.shape[:-1]), windowed.shape[-1])
            columns = w.reshape(rows.shape[1], features)
            y = jnp.matmul(rows, columns, preferred_element_type=wide)
        else:
            rows = windowed.reshape(math.prod(windowed.shape[:-1]), values, groups, w.shape[-2])
            columns = w.reshape(values, w.shape[-2], groups, features // groups)
            y = jnp.einsum("rvgc,vcgf->rgf", rows, columns, preferred_element_type=wide)
        return y.reshape(x.shape[0], *windows.count, features)

    bytes_of_one = temporary_bytes(x.shape, w.shape, windows, wide.itemsize)

    def convolve(x):
        return in_slabs(product, x, windows, bytes_of_one)

    return in_chunks(convolve, (x,), bytes_of_one).astype(x.dtype)


def temporary_bytes(
    x_shape: Sequence[Any], w_shape: Sequence[int], windows: Windows, itemsize: int = 4
) -> int:
    """Return the bytes of one example's patches, products and their cotangents."""
    values = math.prod(windows.size) * x_shape[-1] + w_shape[-1]
    return 2 * itemsize * math.prod(windows.count) * values


def _patches(x, windows):
    """Return the values of each window as channels: (batch, *count, value x channel).

    The axes are processed one by one, the last one first. That compiles a sum of slices instead of a
    product of slices per axis, and copies longer pieces.
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
        x = materialize(x) if axis > 1 else x
    return x
