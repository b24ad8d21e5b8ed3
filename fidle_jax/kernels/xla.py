"""XLA's own convolution and pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import lax

from fidle_jax.kernels.windows import Padding, Sizes, Windows, conv_windows

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
    """The convolution by `jax.lax.conv_general_dilated`."""
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
    )


def max_pool(
    x: Float[Array, "batch *spatial channel"], windows: Windows
) -> Float[Array, "batch *count channel"]:
    """Max pooling by `jax.lax.reduce_window`."""
    return _reduce(x, -jnp.inf, lax.max, windows)


def avg_pool(
    x: Float[Array, "batch *spatial channel"], windows: Windows
) -> Float[Array, "batch *count channel"]:
    """Mean pooling by `jax.lax.reduce_window`; padding is not counted."""
    ones = jnp.ones((1, *x.shape[1:-1], 1), x.dtype)
    return _reduce(x, 0.0, lax.add, windows) / _reduce(ones, 0.0, lax.add, windows)


def _reduce(x, start, operation, windows):
    return lax.reduce_window(
        x,
        np.array(start, x.dtype),  # a concrete one: JAX then knows which reduction it is
        operation,
        (1, *windows.size, 1),
        (1, *windows.strides, 1),
        ((0, 0), *windows.padding, (0, 0)),
    )
