"""Convolution and pooling by definition: the reference for all other methods, written to be read.

A window slides over the image. At each position, its values and the kernel are multiplied elementwise
(the Hadamard product) and summed. Any number of spatial axes is supported.

References:
    Fidle, "Introduction au Deep Learning", sequence 2: "CNN", the principle of convolution.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import AnyImages, AnyOutput, Images, Kernel, Output, sum_dtype
from fidle_jax.kernels.geometry import ConvGeometry, pad
from fidle_jax.kernels.pooling import lowest, mean_without_padding


def conv(x: Images, w: Kernel, geometry: ConvGeometry, groups: int) -> Output:
    """Sum the products of each window's values with the kernel's."""
    wide = sum_dtype(x.dtype)
    image = pad(x, geometry.padding).astype(wide)
    kernels = jnp.split(w.astype(wide), groups, axis=-1)

    def product_and_sum(window, kernel):
        product = window[..., None] * kernel[None]
        return product.sum(axis=tuple(range(1, product.ndim - 1)))

    def compute(window):
        parts = jnp.split(window, groups, axis=-1)
        return jnp.concatenate(list(map(product_and_sum, parts, kernels)), axis=-1)

    return _slide(image, geometry, compute).astype(x.dtype)


def max_pool(x: AnyImages, geometry: ConvGeometry) -> AnyOutput:
    """Return the largest value of each window. The gradient goes to the first of equal values."""

    def compute(window):
        values = window.reshape(window.shape[0], math.prod(geometry.size), window.shape[-1])
        first = values.argmax(axis=1, keepdims=True)
        return jnp.take_along_axis(values, first, axis=1)[:, 0]

    return _slide(pad(x, geometry.padding, lowest(x.dtype)), geometry, compute)


def avg_pool(x: AnyImages, geometry: ConvGeometry) -> AnyOutput:
    """Return the mean of each window's values, without the padding."""

    def window_sums(x):
        image = pad(x, geometry.padding)
        return _slide(image, geometry, lambda window: window.sum(tuple(range(1, window.ndim - 1))))

    return mean_without_padding(window_sums, x)


def _slide(image, geometry, compute):
    """Apply ``compute`` to the window (batch, *size, channel) at each position."""
    sizes = (image.shape[0], *geometry.span, image.shape[-1])
    dilated = (slice(None), *(slice(None, None, d) for d in geometry.dilation))
    steps = (range(0, n * s, s) for n, s in zip(geometry.count, geometry.strides, strict=True))
    corners = jnp.array([(0, *corner, 0) for corner in itertools.product(*steps)], jnp.int32)

    def at_corner(corner):
        return compute(lax.dynamic_slice(image, corner, sizes)[dilated])

    values = jax.vmap(at_corner, out_axes=1)(corners)
    return values.reshape(image.shape[0], *geometry.count, values.shape[-1])
