"""Convolution as a sum over the window's values: a shifted image times one slice of the kernel.

No patches are stored. With one channel per group (a depthwise convolution) there is no matmul either,
and the sum of products goes through the cache once.
"""

from __future__ import annotations

import functools
import math

import jax.numpy as jnp

from fidle_jax.kernels.arrays import Array, Float, sum_dtype
from fidle_jax.kernels.windows import Padding, Sizes, conv_windows, pad, shifted_slices


def conv(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel_per_group feature"],
    *,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
) -> Float[Array, "batch *count feature"]:
    """Add up k^n shifted images, each multiplied by the kernel's slice for that shift."""
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    channels = x.shape[-1] // groups
    slices = shifted_slices(pad(x, windows.padding), windows)
    columns = w.reshape(math.prod(windows.size), channels, groups, -1)
    product = _elementwise if channels == 1 else _matmul
    wide = sum_dtype(x.dtype)
    products = (
        product(s.reshape(*s.shape[:-1], groups, channels), c, wide)
        for s, c in zip(slices, columns, strict=True)
    )
    total = functools.reduce(jnp.add, products)
    return total.reshape(x.shape[0], *windows.count, w.shape[-1]).astype(x.dtype)


def _elementwise(image, kernel, dtype):
    return image.astype(dtype) * kernel[0].astype(dtype)


def _matmul(image, kernel, dtype):
    if kernel.shape[1] == 1:
        kernel = kernel[:, 0]
        return jnp.matmul(image[..., 0, :], kernel, preferred_element_type=dtype)[..., None, :]
    return jnp.einsum("...gc,cgf->...gf", image, kernel, preferred_element_type=dtype)
