"""Convolution as a product of Fourier transforms: for windows of many values.

The cost does not grow with the window (Mathieu, Henaff and LeCun, "Fast training of convolutional
networks through FFTs", 2013). Strides save nothing: all outputs are computed, some are kept.

Rounding errors are relative to the largest value of the image, not of the window. So this method is
explicit-only: "auto" never selects it.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels.arrays import Array, Float, sum_dtype
from fidle_jax.kernels.windows import Padding, Sizes, conv_windows, pad


def conv(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel_per_group feature"],
    *,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
) -> Float[Array, "batch *count feature"]:
    """Sum the channels at each frequency, then transform back."""
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    dtype, wide = x.dtype, sum_dtype(x.dtype)
    if x.size == 0:
        return jnp.zeros((x.shape[0], *windows.count, w.shape[-1]), dtype)
    x = pad(x, windows.padding).astype(wide)
    gaps = [(0, 0, d - 1) for d in windows.dilation]
    w = lax.pad(w.astype(wide), jnp.array(0, wide), [*gaps, (0, 0, 0), (0, 0, 0)])
    sizes = x.shape[1:-1]
    x_hat = jnp.fft.rfftn(x, axes=range(1, x.ndim - 1))
    w_hat = jnp.conj(jnp.fft.rfftn(w, sizes, axes=range(x.ndim - 2)))
    x_hat = x_hat.reshape(*x_hat.shape[:-1], groups, -1)
    w_hat = w_hat.reshape(*w_hat.shape[:-1], groups, -1)
    y_hat = jnp.einsum("n...gc,...cgf->n...gf", x_hat, w_hat)
    y = jnp.fft.irfftn(y_hat.reshape(*y_hat.shape[:-2], -1), sizes, axes=range(1, x.ndim - 1))
    kept = (
        slice(0, (n - 1) * s + 1, s) for n, s in zip(windows.count, windows.strides, strict=True)
    )
    return y[(slice(None), *kept)].astype(dtype)
