"""Convolution and pooling word for word as the course's slides define them: to be read, not to be fast.

A window slides over the image; at each place, the values under it and the kernel are multiplied one
by one (the Hadamard product) and summed. Any number of spatial axes. What all other methods are
held against (Fidle, sequence 2: "CNN", the principle of convolution).
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Array, Float, Shaped, sum_dtype
from fidle_jax.kernels.pooling import lowest, mean_dtype
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
    """The sum, at each place of the window, of the window's values times the kernel's."""
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    wide = sum_dtype(x.dtype)
    image = pad(x, windows.padding).astype(wide)
    kernels = jnp.split(w.astype(wide), groups, axis=-1)

    def at(window):
        parts = jnp.split(window, groups, axis=-1)
        return jnp.concatenate(
            [_product_and_sum(part, kernel) for part, kernel in zip(parts, kernels, strict=True)],
            axis=-1,
        )

    return _slide(image, windows, at).astype(x.dtype)


def _product_and_sum(window, kernel):
    product = window[..., None] * kernel[None]
    return product.sum(axis=tuple(range(1, product.ndim - 1)))


def max_pool(
    x: Shaped[Array, "batch *spatial channel"], windows: Windows
) -> Shaped[Array, "batch *count channel"]:
    """The largest value under the window; the gradient goes to the first of equal ones."""

    def at(window):
        values = window.reshape(window.shape[0], math.prod(windows.size), window.shape[-1])
        first = values.argmax(axis=1, keepdims=True)
        return jnp.take_along_axis(values, first, axis=1)[:, 0]

    return _slide(pad(x, windows.padding, lowest(x.dtype)), windows, at)


def avg_pool(
    x: Shaped[Array, "batch *spatial channel"], windows: Windows
) -> Shaped[Array, "batch *count channel"]:
    """The mean of the values under the window; padding is not counted."""
    dtype = mean_dtype(x.dtype)
    wide = sum_dtype(dtype)
    inside = pad(jnp.ones_like(x, wide), windows.padding)
    image = pad(x.astype(wide), windows.padding)

    def total(window):
        return window.sum(axis=tuple(range(1, window.ndim - 1)))

    return (_slide(image, windows, total) / _slide(inside, windows, total)).astype(dtype)


def _slide(image, windows, at):
    """What ``at`` makes of the window (batch, *size, channel) at each place, put back together."""
    span = [(k - 1) * d + 1 for k, d in zip(windows.size, windows.dilation, strict=True)]
    sizes = (image.shape[0], *span, image.shape[-1])
    every = (slice(None), *(slice(None, None, d) for d in windows.dilation))
    steps = (range(0, n * s, s) for n, s in zip(windows.count, windows.strides, strict=True))
    corners = jnp.array([(0, *place, 0) for place in itertools.product(*steps)], jnp.int32)

    def at_corner(corner):
        return at(lax.dynamic_slice(image, corner, sizes)[every])

    values = jax.vmap(at_corner, out_axes=1)(corners)
    return values.reshape(image.shape[0], *windows.count, values.shape[-1])
