"""Methods of convolution that need no transform of the kernel: im2col, shifted images, FFT, XLA's own."""

from __future__ import annotations

import functools
import math

import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Images, Kernel, Output, sum_dtype
from fidle_jax.kernels.chunks import in_chunks, in_slabs
from fidle_jax.kernels.geometry import ConvGeometry, pad, shifted_slices
from fidle_jax.kernels.materialize import materialize


def xla(
    x: Images,
    w: Kernel,
    geometry: ConvGeometry,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> Output:
    """Compute a convolution by `jax.lax.conv_general_dilated`."""
    rank = x.ndim - 2
    last, first = (0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank))
    return lax.conv_general_dilated(
        x,
        w,
        geometry.strides,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=lax.ConvDimensionNumbers(last, first, last),
        feature_group_count=groups,
        precision=precision,
    )


def im2col(x: Images, w: Kernel, geometry: ConvGeometry, groups: int) -> Output:
    """Write every window as a row and every kernel as a column, and multiply the two matrices.

    References:
        Chellapilla et al., "High performance convolutional neural networks for document processing", 2006.
    """
    values, features = math.prod(geometry.size), w.shape[-1]
    wide = sum_dtype(x.dtype)

    def product(x, geometry):
        patches = _patches(pad(x, geometry.padding), geometry)
        if groups == 1:
            rows = patches.reshape(math.prod(patches.shape[:-1]), patches.shape[-1])
            columns = w.reshape(rows.shape[1], features)
            y = jnp.matmul(rows, columns, preferred_element_type=wide)
        else:
            rows = patches.reshape(math.prod(patches.shape[:-1]), values, groups, w.shape[-2])
            columns = w.reshape(values, w.shape[-2], groups, features // groups)
            y = jnp.einsum("rvgc,vcgf->rgf", rows, columns, preferred_element_type=wide)
        return y.reshape(x.shape[0], *geometry.count, features)

    # Patches and products of one example, and their cotangents.
    per_window = 2 * wide.itemsize * (values * x.shape[-1] + features)
    bytes_of_one = per_window * math.prod(geometry.count)

    def convolve(x):
        return in_slabs(product, x, geometry, bytes_of_one)

    return in_chunks(convolve, (x,), bytes_of_one).astype(x.dtype)


def _patches(x, geometry):
    """Return the values of each window as channels: (batch, *count, value x channel).

    The axes are processed one by one, the last one first, because that needs fewer and longer slices.
    """
    axes = zip(geometry.size, geometry.dilation, geometry.strides, geometry.count, strict=True)
    for axis, (size, dilation, stride, count) in reversed(list(enumerate(axes, start=1))):
        slices = [
            lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)
            for start in range(0, size * dilation, dilation)
        ]
        x = jnp.concatenate(slices, axis=-1)
        x = materialize(x) if axis > 1 else x
    return x


def shifted(x: Images, w: Kernel, geometry: ConvGeometry, groups: int) -> Output:
    """Add up shifted images, one per value of a window, each multiplied by that slice of the kernel.

    A depthwise convolution (one channel per group) needs no matmul, and passes through the cache once.
    """
    channels = x.shape[-1] // groups
    slices = shifted_slices(pad(x, geometry.padding), geometry)
    columns = w.reshape(math.prod(geometry.size), channels, groups, -1)
    product = _elementwise if channels == 1 else _matmul
    wide = sum_dtype(x.dtype)
    products = (
        product(s.reshape(*s.shape[:-1], groups, channels), c, wide)
        for s, c in zip(slices, columns, strict=True)
    )
    total = functools.reduce(jnp.add, products)
    return total.reshape(x.shape[0], *geometry.count, w.shape[-1]).astype(x.dtype)


def _elementwise(image, kernel, dtype):
    return image.astype(dtype) * kernel[0].astype(dtype)


def _matmul(image, kernel, dtype):
    if kernel.shape[1] == 1:
        kernel = kernel[:, 0]
        return jnp.matmul(image[..., 0, :], kernel, preferred_element_type=dtype)[..., None, :]
    return jnp.einsum("...gc,cgf->...gf", image, kernel, preferred_element_type=dtype)


def fft(x: Images, w: Kernel, geometry: ConvGeometry, groups: int) -> Output:
    """Multiply Fourier transforms, sum the channels at each frequency, and transform back.

    The cost depends neither on the window nor on the strides. Rounding errors are relative to the largest
    value of the image, not of the window.

    References:
        Mathieu, Henaff and LeCun, "Fast training of convolutional networks through FFTs", 2013.
    """
    dtype, wide = x.dtype, sum_dtype(x.dtype)
    if x.size == 0:
        return jnp.zeros((x.shape[0], *geometry.count, w.shape[-1]), dtype)
    x = pad(x, geometry.padding).astype(wide)
    gaps = [(0, 0, d - 1) for d in geometry.dilation]
    w = lax.pad(w.astype(wide), jnp.array(0, wide), [*gaps, (0, 0, 0), (0, 0, 0)])
    sizes = x.shape[1:-1]
    x_hat = jnp.fft.rfftn(x, axes=range(1, x.ndim - 1))
    w_hat = jnp.conj(jnp.fft.rfftn(w, sizes, axes=range(x.ndim - 2)))
    x_hat = x_hat.reshape(*x_hat.shape[:-1], groups, -1)
    w_hat = w_hat.reshape(*w_hat.shape[:-1], groups, -1)
    y_hat = jnp.einsum("n...gc,...cgf->n...gf", x_hat, w_hat)
    y = jnp.fft.irfftn(y_hat.reshape(*y_hat.shape[:-2], -1), sizes, axes=range(1, x.ndim - 1))
    each = zip(geometry.count, geometry.strides, strict=True)
    return y[(slice(None), *(slice(0, (n - 1) * s + 1, s) for n, s in each))].astype(dtype)
