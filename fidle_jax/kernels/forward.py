"""Convolution and its gradients as three ordinary convolutions of XLA.

XLA computes a forward convolution at the speed of a matrix product, also in a compiled loop. JAX writes
the gradients as convolutions with other layouts and reversed kernels, which are often 100 times as slow in
a loop. Here, the arrays are transposed first, so that each gradient is also a forward convolution:

- in the images, a convolution of y with the reversed kernel, or with strides, one for each of a few
  offsets of the pixels;
- in the kernel, a convolution of the images with y. The batch is the axis that is summed, and strides
  and dilation are exchanged.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

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
    w: Kernel,
    y: Output,
    geometry: ConvGeometry,
    groups: int,
    spatial: tuple[int, ...],
    conv: Callable[..., Output] = conv,
) -> Images:
    """Return the gradient of ``sum(y * conv(x, w))`` in x, for images of shape ``spatial``.

    The zeros around y would turn an infinite or NaN value of the kernel into NaN outside of its windows.
    So such values are replaced by zeros, and their windows become NaN afterwards.
    """

    def gradient(w, y=y):
        return _transposed(y, w, geometry, groups, spatial, conv)

    def repair(_):
        finite = jnp.isfinite(w)
        touched = gradient((~finite).astype(w.dtype), jnp.ones((1, *y.shape[1:]), y.dtype))
        return False, jnp.where(touched > 0, jnp.nan, gradient(jnp.where(finite, w, 0)))

    # A loop of at most one pass, because XLA copies the results of a conditional but not of a loop.
    state = ~jnp.isfinite(w).all(), gradient(w)
    return lax.while_loop(lambda state: state[0], repair, state)[1]


def has_image_gradient(geometry: ConvGeometry) -> bool:
    """Return True if `image_gradient` supports the geometry: no axis has strides and dilation."""
    return all(1 in pair for pair in zip(geometry.strides, geometry.dilation, strict=True))


def _transposed(y, w, geometry, groups, spatial, conv):
    """Compute a transposed convolution.

    With a stride s along an axis, the pixels s q + r depend on every s-th value of the kernel, from value r.
    One convolution of y computes all offsets r that have equally many values, as its features.
    """
    size, strides, lows = geometry.size, geometry.strides, [low for low, _ in geometry.padding]
    rank, batch, features = len(size), y.shape[0], w.shape[-1]
    longest = [-(-k // s) for k, s in zip(size, strides, strict=True)]
    starts = [low // s for low, s in zip(lows, strides, strict=True)]
    axes = zip(lows, spatial, strides, starts, strict=True)
    count = tuple((low + n - 1) // s - start + 1 for low, n, s, start in axes)
    shape = (batch, *count, *strides, groups * w.shape[-2])
    x = jnp.zeros(shape, y.dtype)
    # The axes (value, offset, ..., channel, group, feature).
    fill = [(0, n * s - k, 0) for n, s, k in zip(longest, strides, size, strict=True)]
    w = lax.pad(w, jnp.array(0, w.dtype), [*fill, (0, 0, 0), (0, 0, 0)])
    sides = [side for pair in zip(longest, strides, strict=True) for side in pair]
    w = w.reshape(*sides, w.shape[-2], groups, features // groups)
    options = []
    for n, s, k in zip(longest, strides, size, strict=True):
        split = k - (n - 1) * s  # offsets below this have n values, the others one less
        options.append(
            [(n, slice(split)), (n - 1, slice(split, s))][: 2 if split < s and n > 1 else 1]
        )
    for option in itertools.product(*options) if x.size and y.size else ():
        values = tuple(n for n, _ in option)
        kernel = w[tuple(index for n, offsets in option for index in (slice(n), offsets))]
        order = (*range(0, 2 * rank, 2), -1, -2, *range(1, 2 * rank, 2), -3)
        kernel = jnp.flip(kernel, range(0, 2 * rank, 2)).transpose([i % kernel.ndim for i in order])
        widths = kernel.shape[rank + 2 : -1]
        kernel = kernel.reshape(*values, features // groups, -1)
        axes = zip(values, geometry.dilation, starts, strict=True)
        before = [(n - 1) * d - start for n, d, start in axes]
        after = [start + n - m for start, n, m in zip(starts, count, geometry.count, strict=True)]
        pairs = list(zip(before, after, strict=True))
        cropped = [(min(low, 0), min(high, 0), 0) for low, high in pairs]
        padding = tuple((max(low, 0), max(high, 0)) for low, high in pairs)
        images = lax.pad(y, jnp.array(0, y.dtype), [(0, 0, 0), *cropped, (0, 0, 0)])
        once = ConvGeometry(values, (1,) * rank, padding, geometry.dilation, count)
        part = conv(images, kernel, once, groups).reshape(batch, *count, groups, *widths, -1)
        part = jnp.moveaxis(part, rank + 1, -2).reshape(batch, *count, *widths, shape[-1])
        start = (0,) * (rank + 1) + tuple(offsets.start or 0 for _, offsets in option) + (0,)
        x = part if part.shape == shape else lax.dynamic_update_slice(x, part, start)
    alternating = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
    x = x.transpose(0, *alternating, x.ndim - 1)
    x = x.reshape(batch, *(n * s for n, s in zip(count, strides, strict=True)), shape[-1])
    axes = zip(lows, starts, strides, spatial, strict=True)
    return x[
        (slice(None), *(slice(low - start * s, low - start * s + n) for low, start, s, n in axes))
    ]


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


def kernel_gradient(
    x: Images, y: Output, geometry: ConvGeometry, conv: Callable[..., Output] = xla
) -> Kernel:
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
        part = conv(jnp.moveaxis(x, (-1, 0), (0, -1)), jnp.moveaxis(y, 0, -2), swapped, 1)
        return total + jnp.moveaxis(part, 0, -2), None

    total = jnp.zeros((*geometry.size, x.shape[-1], y.shape[-1]), wide)
    if x.size and y.size:
        total, _ = lax.scan(add, total, split_batch((x, y), KERNEL_BYTES // bytes_of_one))
    return total.astype(dtype)
