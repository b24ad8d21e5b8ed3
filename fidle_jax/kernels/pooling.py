"""Max and average pooling, as elementwise operations on strided slices and by XLA.

XLA's gradient of max pooling (select-and-scatter) takes longer on a CPU than the convolution before
it. Here, each position of a window is one strided slice of the image. In both methods the gradient
goes to the first of equal values.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fidle_jax.kernels.arrays import (
    AnyImages,
    AnyOutput,
    Argmax,
    Array,
    Int,
    Shaped,
    same_varying,
    sum_dtype,
)
from fidle_jax.kernels.geometry import ConvGeometry, pad, shifted_slices
from fidle_jax.kernels.materialize import materialize


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool(x: AnyImages, geometry: ConvGeometry) -> AnyOutput:
    """Return the largest value of each window. The gradient goes to the first of equal values."""
    return max_and_argmax(_values(x, geometry, lowest(x.dtype)))[0]


@max_pool.defjvp
def _max_pool_jvp(geometry, primals, tangents):
    (x,), (tangent,) = primals, tangents
    argmax = max_with_argmax(x, geometry)[1]
    return max_pool(x, geometry), take_in_windows(tangent, argmax, geometry)


def avg_pool(x: AnyImages, geometry: ConvGeometry) -> AnyOutput:
    """Return the mean of each window's values, without the padding."""

    def window_sums(x):
        return functools.reduce(jnp.add, shifted_slices(pad(x, geometry.padding), geometry))

    return mean_without_padding(window_sums, x)


def xla_max_pool(x: AnyImages, geometry: ConvGeometry) -> AnyOutput:
    """Compute `max_pool` by `jax.lax.reduce_window`."""
    return _reduce(x, lowest(x.dtype), lax.max, geometry)


def xla_avg_pool(x: AnyImages, geometry: ConvGeometry) -> AnyOutput:
    """Compute `avg_pool` by `jax.lax.reduce_window`."""

    def window_sums(x):
        # JAX recognizes the sum and its gradient only if the initial value is a NumPy constant.
        return _reduce(x, np.zeros((), x.dtype), lax.add, geometry)

    return mean_without_padding(window_sums, x)


def _reduce(x, start, operation, geometry):
    size, strides = (1, *geometry.size, 1), (1, *geometry.strides, 1)
    padding = ((0, 0), *geometry.padding, (0, 0))
    return lax.reduce_window(x, start, operation, size, strides, padding)


def mean_without_padding(window_sums, x: Array) -> Array:
    """Divide the sums over windows by the numbers of values that are not padding."""
    # Integers and bool have means of JAX's default float type.
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    dtype = jnp.dtype(x.dtype if floating else jnp.result_type(float))
    wide = sum_dtype(dtype)
    total = window_sums(x.astype(wide))
    return (total / window_sums(jnp.ones((1, *x.shape[1:-1], 1), wide))).astype(dtype)


def lowest(dtype: jax.typing.DTypeLike) -> np.ndarray:
    """Return the identity of max: minus infinity, or the smallest value of types without it."""
    dtype = jnp.dtype(dtype)
    if dtype == np.bool_:
        return np.array(False)
    if jnp.issubdtype(dtype, jnp.integer):
        return np.array(jnp.iinfo(dtype).min, dtype)
    infinity = np.array(-np.inf, dtype)  # some float8 types have no infinity
    return infinity if np.isinf(infinity.astype("f")) else np.array(jnp.finfo(dtype).min, dtype)


def _values(x: Array, geometry: ConvGeometry, padding_value: float | np.ndarray = 0) -> Array:
    """Return the values of each window: (batch, *count, value, channel)."""
    return jnp.stack(shifted_slices(pad(x, geometry.padding, padding_value), geometry), axis=-2)


def max_and_argmax(
    values: Shaped[Array, "... option rest"],
) -> tuple[Shaped[Array, "... rest"], Int[Array, "... rest"]]:
    """Return the maximum over the last axis but one and its first index. NaN counts as largest.

    One reduction of pairs reads the values once. XLA would repeat elementwise work for each use.
    """
    axis = values.ndim - 2
    integer = argmax_dtype(values.shape[axis])
    options = lax.broadcasted_iota(integer, values.shape, axis)
    start = lowest(values.dtype), np.array(values.shape[axis] - 1, integer)
    return lax.reduce((values, options), start, _larger, (axis,))


def _larger(one, other):
    (value, index), (other_value, other_index) = one, other
    tie = (value == other_value) & (index < other_index)
    both_nan = (value != value) & (other_value != other_value) & (index < other_index)
    only_one_nan = (value != value) & (other_value == other_value)
    is_first = (value > other_value) | tie | both_nan | only_one_nan
    return jnp.maximum(value, other_value), jnp.where(is_first, index, other_index)


def argmax_dtype(options: int) -> type[np.integer]:
    """Return the smallest integer type for an argmax, because the backward pass reads it again."""
    return np.int8 if options <= np.iinfo(np.int8).max else np.int32


def take(
    values: Shaped[Array, "... option rest"], argmax: Int[Array, "... rest"]
) -> Shaped[Array, "... rest"]:
    """Return the values at the indices of `max_and_argmax`; linear in ``values``."""
    options = lax.broadcasted_iota(argmax.dtype, values.shape, values.ndim - 2)
    chosen = options == lax.expand_dims(argmax, (argmax.ndim - 1,))
    return jnp.where(chosen, values, jnp.zeros((), values.dtype)).sum(axis=-2)


def take_in_windows(x: AnyImages, argmax: Argmax, geometry: ConvGeometry) -> AnyOutput:
    """Return the value of each window at the index of `max_and_argmax`; linear in ``x``.

    If the windows do not overlap, the images are reshaped. The transpose is then one elementwise
    operation, several times faster than that of slices, a sum of padded images.
    """
    has_padding = any(map(any, geometry.padding))
    if geometry.strides != geometry.size or has_padding or max(geometry.dilation) > 1:
        return take(_values(x, geometry), argmax)
    rank = len(geometry.size)
    used = [n * k for n, k in zip(geometry.count, geometry.size, strict=True)]
    x = lax.slice(x, (0,) * x.ndim, (x.shape[0], *used, x.shape[-1]))
    sides = [side for pair in zip(geometry.count, geometry.size, strict=True) for side in pair]
    x = x.reshape(x.shape[0], *sides, x.shape[-1])
    within = tuple(range(2, 2 + 2 * rank, 2))
    options = lax.iota(argmax.dtype, math.prod(geometry.size)).reshape(geometry.size)
    options = jnp.expand_dims(options, (0, *range(1, 1 + 2 * rank, 2), 1 + 2 * rank))
    chosen = lax.expand_dims(argmax, within) == options
    return jnp.where(chosen, x, jnp.zeros((), x.dtype)).sum(axis=within)


def put_in_windows(
    y: AnyOutput, argmax: Argmax, images: tuple[int, ...], geometry: ConvGeometry
) -> AnyImages:
    """Add each value to the images at the index of `max_and_argmax`: the transpose of `take_in_windows`.

    Args:
        y: Values.
        argmax: Index in each window.
        images: Shape of the result.
        geometry: Geometry of the pooling.
    """
    take = functools.partial(take_in_windows, argmax=argmax, geometry=geometry)
    return transpose_linear(take, images, y)


def transpose_linear(function: Callable[[Array], Array], shape: tuple[int, ...], y: Array) -> Array:
    """Apply the transpose of a linear function of arrays of ``shape`` to ``y``.

    `jax.linear_transpose` does not work inside of `jax.shard_map`.
    """
    zeros, y = same_varying(jnp.zeros(shape, y.dtype), y)
    return jax.vjp(function, zeros)[1](y)[0]


def max_with_argmax(x: AnyImages, geometry: ConvGeometry) -> tuple[AnyOutput, Argmax]:
    """Return `max_pool`, and the index in each window, which is a constant for derivatives."""
    argmax = max_and_argmax(_values(lax.stop_gradient(x), geometry, lowest(x.dtype)))[1]
    return max_pool(x, geometry), argmax


def max_and_argmax_of(arrays: list[Array]) -> tuple[Array, Array]:
    """Return the elementwise maximum and the index of the array that contains it.

    If several arrays are equal, use the first.
    """
    largest = functools.reduce(jnp.maximum, arrays)
    # Floats as wide as the values, so that comparison and selection are vectorized alike.
    argmax = jnp.full(largest.shape, len(arrays) - 1, largest.dtype)
    for option in reversed(range(len(arrays) - 1)):
        array = arrays[option]
        is_largest = (array == largest) | (array != array)
        argmax = jnp.where(is_largest, jnp.array(option, argmax.dtype), argmax)
    return largest, materialize(argmax).astype(argmax_dtype(len(arrays)))


def take_of(arrays: list[Array], argmax: Array) -> Array:
    """Return the values of a few arrays at the indices of `max_and_argmax_of`.

    Cotangents are materialized. Otherwise XLA would repeat the selection in each sum that uses them.
    """
    chosen = (
        jnp.where(argmax == option, materialize(array), jnp.zeros((), array.dtype))
        for option, array in enumerate(arrays)
    )
    return functools.reduce(jnp.add, chosen)
