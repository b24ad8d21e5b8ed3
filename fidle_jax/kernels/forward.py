"""Convolution and its gradients as three ordinary convolutions of XLA.

XLA computes a forward convolution at the speed of a matrix product, also in a compiled loop. JAX writes
the gradients as convolutions with other layouts and reversed kernels, which are often 100 times as slow in
a loop. Here, the arrays are transposed first, so that each gradient is also a forward convolution:

- in the images, a convolution of y with the reversed kernel;
- in the kernel, a convolution of the images with y. The batch is the axis that is summed, and strides
  and dilation are exchanged.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Array, Float, Images, Kernel, Output, sum_dtype
from fidle_jax.kernels.chunks import split_batch
from fidle_jax.kernels.geometry import ConvGeometry
from fidle_jax.kernels.simple_methods import xla

# Limit for the bytes of y in one convolution of `kernel_gradient`, because XLA reads all of y for each
# value of the kernel. 64 images of 46x46 with 64 channels and 96 features take 6 times as long at once.
KERNEL_BYTES = 4 * 2**20


def conv(x: Images, w: Kernel, geometry: ConvGeometry, groups: int) -> Output:
    """Compute a convolution by XLA, with sums in float32 or wider."""
    wide = sum_dtype(x.dtype)
    return xla(x.astype(wide), w.astype(wide), geometry, groups).astype(x.dtype)


def image_gradient(
    w: Kernel, y: Output, geometry: ConvGeometry, groups: int, reversed_geometry: ConvGeometry
) -> Images:
    """Return the gradient of ``sum(y * conv(x, w))`` in x, with a geometry from `reverse_geometry`.

    The zeros around y would turn an infinite or NaN value of the kernel into NaN outside of its windows.
    So such values are replaced by zeros, and their windows become NaN afterwards.
    """

    def gradient(w):
        return conv(y, reverse(w, groups), reversed_geometry, groups)

    def repair(_):
        finite = jnp.isfinite(w)
        ones = jnp.ones((1, *y.shape[1:]), y.dtype)
        touched = xla(ones, reverse((~finite).astype(w.dtype), groups), reversed_geometry, groups)
        return False, jnp.where(touched > 0, jnp.nan, gradient(jnp.where(finite, w, 0)))

    # A loop of at most one pass, because XLA copies the results of a conditional but not of a loop.
    state = ~jnp.isfinite(w).all(), gradient(w)
    return lax.while_loop(lambda state: state[0], repair, state)[1]


def reverse(w: Kernel, groups: int) -> Float[Array, "*window feature_per_group channel"]:
    """Reverse the window, and exchange the channels and the features of each group."""
    *window, channels, features = w.shape
    w = jnp.flip(w, range(len(window))).reshape(*window, channels, groups, features // groups)
    return jnp.swapaxes(w, -1, -3).reshape(*window, features // groups, groups * channels)


def reverse_geometry(geometry: ConvGeometry, spatial: tuple[int, ...]) -> ConvGeometry | None:
    """Return the geometry of the convolution of y with the reversed kernel: the gradient in the images.

    Return None if it is not an ordinary convolution: if there are strides, or more padding than the window
    has values.
    """
    axes = zip(geometry.span, geometry.padding, spatial, geometry.count, strict=True)
    padding = tuple((span - 1 - low, n + low - count) for span, (low, _), n, count in axes)
    if set(geometry.strides) != {1} or min(map(min, padding)) < 0:
        return None
    return ConvGeometry(geometry.size, geometry.strides, padding, geometry.dilation, spatial)


def kernel_gradient(x: Images, y: Output, geometry: ConvGeometry) -> Kernel:
    """Return the gradient of ``sum(y * conv(x, w))`` in w, for one group, in chunks of the batch."""
    axes = zip(
        geometry.padding,
        x.shape[1:-1],
        geometry.span,
        geometry.strides,
        geometry.count,
        strict=True,
    )
    # The last window begins where the last value of the kernel meets the first window of the image.
    padding = tuple((low, span + (count - 1) * s - n - low) for (low, _), n, span, s, count in axes)
    swapped = ConvGeometry(
        geometry.count, geometry.dilation, padding, geometry.strides, geometry.size
    )
    wide = sum_dtype(x.dtype)
    dtype, x, y = x.dtype, x.astype(wide), y.astype(wide)
    bytes_of_one = wide.itemsize * math.prod(y.shape[1:])

    def add(total, chunk):
        x, y = chunk
        part = xla(jnp.moveaxis(x, (-1, 0), (0, -1)), jnp.moveaxis(y, 0, -2), swapped)
        return total + jnp.moveaxis(part, 0, -2), None

    total = jnp.zeros((*geometry.size, x.shape[-1], y.shape[-1]), wide)
    if x.size and y.size:
        total, _ = lax.scan(add, total, split_batch((x, y), KERNEL_BYTES // bytes_of_one))
    return total.astype(dtype)
