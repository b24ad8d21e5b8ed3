"""`jax.lax.conv_general_dilated` by this package's methods: a drop-in for Flax modules and other callers."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from fidle_jax.kernels.choice import choose_conv
from fidle_jax.kernels.methods import find_method
from fidle_jax.kernels.windows import Windows, resolve_windows

if TYPE_CHECKING:
    from jaxtyping import Array, Shaped

FLOATS = {jnp.dtype(name) for name in ("bfloat16", "float16", "float32", "float64")}


def conv_general_dilated(
    lhs: Shaped[Array, "..."],
    rhs: Shaped[Array, "..."],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: lax.ConvDimensionNumbers | tuple[str, str, str] | None = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    out_sharding: NamedSharding | PartitionSpec | None = None,
    *,
    method: str = "auto",
) -> Shaped[Array, "..."]:
    """`jax.lax.conv_general_dilated`: the same arguments, shapes, types, errors, and values but for rounding.

    What no method of this package does is left to it as it stands: numbers that are not floating-point,
    batch groups, input dilation, negative padding, arrays sharded explicitly, no spatial axis, an axis
    other than the batch of no values or of a symbolic number, windows larger than the image, and on GPU
    and TPU a ``precision`` (on a CPU it has no effect). Axes in another order than channels last are
    transposed there and back.

    Args:
        lhs: images, axes in the order of ``dimension_numbers``; by default (batch, channel, *spatial).
        rhs: kernel; by default (feature, channel / groups, *window).
        window_strides: as all other arguments, of `jax.lax.conv_general_dilated`.
        method: as in `fidle_jax.kernels.conv`.

    Raises:
        ValueError: an unknown ``method``, or one that does not do this convolution.
        Exception: whatever `jax.lax.conv_general_dilated` raises.
    """
    by_xla = functools.partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
    )
    result = jax.eval_shape(by_xla, lhs, rhs)  # raises what is to be raised
    x_axes, w_axes, y_axes = _channels_last(lhs.shape, rhs.shape, dimension_numbers)
    x_shape = tuple(lhs.shape[axis] for axis in x_axes)
    w_shape = tuple(rhs.shape[axis] for axis in w_axes)
    if (
        batch_group_count != 1
        or any(factor != 1 for factor in (() if lhs_dilation is None else lhs_dilation))
        or (precision is not None and jax.default_backend() != "cpu")
        or out_sharding is not None
        or (result.sharding is not None and any(result.sharding.spec))
        or not {lhs.dtype, rhs.dtype, result.dtype} <= FLOATS
        or not all(isinstance(size, int) and size > 0 for size in (*x_shape[1:], *w_shape))
    ):
        return by_xla(lhs, rhs)
    windows = _windows(x_shape, w_shape, window_strides, padding, rhs_dilation)
    if windows is None:
        return by_xla(lhs, rhs)
    if method == "auto":
        method = choose_conv(x_shape, w_shape, windows, feature_group_count)
    if method == "xla":
        return by_xla(lhs, rhs)
    every = range(lhs.ndim)
    y = find_method(method, windows)(
        jnp.moveaxis(lhs, x_axes, every).astype(result.dtype),
        jnp.moveaxis(rhs, w_axes, every).astype(result.dtype),
        strides=windows.strides,
        padding=windows.padding,
        dilation=windows.dilation,
        groups=feature_group_count,
    )
    return jnp.moveaxis(y, every, y_axes)


def _channels_last(lhs_shape, rhs_shape, dimension_numbers):
    """Where in the caller's arrays the axes are that `fidle_jax.kernels.conv` has first to last."""
    numbers = lax.conv_dimension_numbers(lhs_shape, rhs_shape, dimension_numbers)
    (n, c, *spatial), (o, i, *window), (y_n, y_c, *count) = numbers
    return (n, *spatial, c), (*window, i, o), (y_n, *count, y_c)


def _windows(x_shape, w_shape, strides, padding, dilation) -> Windows | None:
    """The windows, or None for those that this package does not know: `jax.lax` may yet compute them."""
    spatial, size = x_shape[1:-1], w_shape[:-2]
    dilation = (1,) * len(size) if dilation is None else tuple(dilation)
    if not size or len(dilation) != len(size):
        return None
    if isinstance(padding, str):
        span = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
        padding = lax.padtype_to_pads(spatial, span, strides, padding)
    pairs = [(operator.index(low), operator.index(high)) for low, high in padding]
    try:
        return resolve_windows(spatial, size, tuple(strides), pairs, dilation)
    except ValueError:
        return None
