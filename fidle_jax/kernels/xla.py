"""XLA's own convolution and pooling."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from fidle_jax.kernels.arrays import Array, Float, Shaped, sum_dtype
from fidle_jax.kernels.pooling import lowest, mean_dtype
from fidle_jax.kernels.windows import Padding, Sizes, Windows, conv_windows


def conv(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel_per_group feature"],
    *,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch *count feature"]:
    """Compute a convolution by `jax.lax.conv_general_dilated`."""
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    rank = x.ndim - 2
    last, first = (0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank))
    return lax.conv_general_dilated(
        x,
        w,
        windows.strides,
        windows.padding,
        rhs_dilation=windows.dilation,
        dimension_numbers=lax.ConvDimensionNumbers(last, first, last),
        feature_group_count=groups,
        precision=precision,
    )


def max_pool(
    x: Shaped[Array, "batch *spatial channel"], windows: Windows
) -> Shaped[Array, "batch *count channel"]:
    """Compute max pooling by `jax.lax.reduce_window`."""
    return _reduce(x, lowest(x.dtype), lax.max, windows)


def avg_pool(
    x: Shaped[Array, "batch *spatial channel"], windows: Windows
) -> Shaped[Array, "batch *count channel"]:
    """Compute average pooling by `jax.lax.reduce_window`, without the padding."""
    dtype = mean_dtype(x.dtype)
    wide = sum_dtype(dtype)
    ones = jnp.ones((1, *x.shape[1:-1], 1), wide)
    zero = np.zeros((), wide)  # a constant: JAX then recognizes the sum and its gradient
    total = _reduce(x.astype(wide), zero, lax.add, windows)
    return (total / _reduce(ones, zero, lax.add, windows)).astype(dtype)


def _reduce(x, start, operation, windows):
    return lax.reduce_window(
        x,
        start,
        operation,
        (1, *windows.size, 1),
        (1, *windows.strides, 1),
        ((0, 0), *windows.padding, (0, 0)),
    )
