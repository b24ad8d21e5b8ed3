"""A drop-in for `jax.lax.conv_general_dilated`, for Flax modules and other callers."""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from fidle_jax.kernels.arrays import AnyArray, Array, Shaped
from fidle_jax.kernels.convolution import convolve
from fidle_jax.kernels.geometry import ConvGeometry, dilated, resolve_geometry

FLOATS = {jnp.dtype(name) for name in ("bfloat16", "float16", "float32", "float64")}


def conv_general_dilated(
    lhs: Shaped[AnyArray, "..."],
    rhs: Shaped[AnyArray, "..."],
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: NamedSharding | PartitionSpec | None = None,
    *,
    method: str = "auto",
) -> Shaped[Array, "..."]:
    """Compute `jax.lax.conv_general_dilated`: same arguments, shapes, types and errors.

    `jax.lax` computes the cases that the methods do not support: types that are not floating-point,
    inputs of different types, batch groups, input dilation, negative padding, explicitly sharded
    arrays, no spatial axis, empty or symbolic axes other than the batch, and windows larger than the
    image. If the channels are not the last axis, the arrays are transposed. On a CPU ``precision`` has
    no effect.

    Args:
        lhs: Images, with axes in the order of ``dimension_numbers``; by default (batch, channel, *spatial).
        rhs: Kernel; by default (feature, channel / groups, *window).
        window_strides: Strides. See `jax.lax.conv_general_dilated`, also for the other arguments.
        method: See `fidle_jax.kernels.conv`.

    Raises:
        ValueError: The method is unknown or does not support the geometry.
        Exception: Any error of `jax.lax.conv_general_dilated`.
    """

    by_xla: Any = functools.partial(
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
    result = jax.eval_shape(by_xla, lhs, rhs)  # raises JAX's errors
    x_axes, w_axes, y_axes = _channels_last(lhs.shape, rhs.shape, dimension_numbers)
    x_shape = tuple(lhs.shape[axis] for axis in x_axes)
    w_shape = tuple(rhs.shape[axis] for axis in w_axes)
    if (
        batch_group_count != 1
        or any(factor != 1 for factor in (() if lhs_dilation is None else lhs_dilation))
        or out_sharding is not None
        or (result.sharding is not None and any(result.sharding.spec))
        or {lhs.dtype, rhs.dtype} != {result.dtype}
        or result.dtype not in FLOATS
        or not all(isinstance(size, int) and size > 0 for size in (*x_shape[1:], *w_shape))
    ):
        return by_xla(lhs, rhs)
    geometry = _geometry(x_shape, w_shape, window_strides, padding, rhs_dilation)
    if geometry is None or method == "xla":
        return by_xla(lhs, rhs)
    every = range(lhs.ndim)
    y = convolve(
        jnp.moveaxis(lhs, x_axes, every),
        jnp.moveaxis(rhs, w_axes, every),
        geometry,
        feature_group_count,
        method,
        precision,
    )
    return jnp.moveaxis(y, every, y_axes)


def _channels_last(lhs_shape, rhs_shape, dimension_numbers):
    """Return the axes of the caller's arrays in the order of `fidle_jax.kernels.conv`."""
    numbers = lax.conv_dimension_numbers(lhs_shape, rhs_shape, dimension_numbers)
    (n, c, *spatial), (o, i, *window), (y_n, y_c, *count) = numbers
    return (n, *spatial, c), (*window, i, o), (y_n, *count, y_c)


def _geometry(x_shape, w_shape, strides, padding, dilation) -> ConvGeometry | None:
    """Return the geometry, or None if only `jax.lax` supports it."""
    spatial, size = x_shape[1:-1], w_shape[:-2]
    dilation = tuple(map(operator.index, (1,) * len(size) if dilation is None else dilation))
    if not size or len(dilation) != len(size):
        return None
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(spatial, dilated(size, dilation), strides, padding)
    pairs = [(operator.index(low), operator.index(high)) for low, high in padding]
    try:
        return resolve_geometry(spatial, size, tuple(strides), pairs, dilation)
    except ValueError:
        return None
