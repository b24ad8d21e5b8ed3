"""Max and average pooling as elementwise operations on shifted images.

XLA's gradient of its own max pooling (select-and-scatter) takes longer on a CPU than the convolution
before it. Here the positions of a window are a few strided slices. The gradient goes to the first of
equal values, as XLA's does.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fidle_jax.kernels.arrays import Array, Int, Shaped, sum_dtype
from fidle_jax.kernels.materialize import materialize
from fidle_jax.kernels.windows import Windows, pad, shifted_slices


def max_pool(
    x: Shaped[Array, "batch *spatial channel"], windows: Windows
) -> Shaped[Array, "batch *count channel"]:
    """Return the largest value of each window. The gradient goes to the first of equal values."""
    return _max_pool(x, windows)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_pool(x, windows):
    return max_and_winner(_values(x, windows, lowest(x.dtype)))[0]


@_max_pool.defjvp
def _max_pool_jvp(windows, primals, tangents):
    (x,), (tangent,) = primals, tangents
    winner = max_and_winner(_values(lax.stop_gradient(x), windows, lowest(x.dtype)))[1]
    return _max_pool(x, windows), at_winner_of_window(tangent, winner, windows)


def _values(x: Array, windows: Windows, padding_value: float | np.ndarray = 0) -> Array:
    """Return the values of each window: (batch, *count, value, channel)."""
    return jnp.stack(shifted_slices(pad(x, windows.padding, padding_value), windows), axis=-2)


def at_winner_of_window(
    x: Shaped[Array, "batch *spatial channel"],
    winner: Int[Array, "batch *count channel"],
    windows: Windows,
) -> Shaped[Array, "batch *count channel"]:
    """Return the value of each window at the index of `max_and_winner`; linear in ``x``.

    If the windows do not overlap, the images are reshaped, because then the transpose is one
    elementwise operation. The transpose of slices is a sum of padded images, several times slower.
    """
    if (
        windows.strides != windows.size
        or any(map(any, windows.padding))
        or max(windows.dilation) > 1
    ):
        return at_winner(_values(x, windows), winner)
    rank = len(windows.size)
    fitting = [n * k for n, k in zip(windows.count, windows.size, strict=True)]
    x = lax.slice(x, (0,) * x.ndim, (x.shape[0], *fitting, x.shape[-1]))
    sides = [side for pair in zip(windows.count, windows.size, strict=True) for side in pair]
    x = x.reshape(x.shape[0], *sides, x.shape[-1])
    within = tuple(range(2, 2 + 2 * rank, 2))
    options = np.arange(math.prod(windows.size)).reshape(windows.size)
    options = np.expand_dims(options, (0, *range(1, 1 + 2 * rank, 2), 1 + 2 * rank))
    chosen = lax.expand_dims(winner, within) == jnp.asarray(options, winner.dtype)
    return jnp.where(chosen, x, jnp.zeros((), x.dtype)).sum(axis=within)


def avg_pool(
    x: Shaped[Array, "batch *spatial channel"], windows: Windows
) -> Shaped[Array, "batch *count channel"]:
    """Return the mean of each window's values, without the padding."""
    dtype = mean_dtype(x.dtype)
    wide = sum_dtype(dtype)
    total = _sum(shifted_slices(pad(x.astype(wide), windows.padding), windows))
    ones = pad(jnp.ones((1, *x.shape[1:-1], 1), wide), windows.padding)
    return (total / _sum(shifted_slices(ones, windows))).astype(dtype)


def lowest(dtype: jax.typing.DTypeLike) -> np.ndarray:
    """Return the identity of max: minus infinity, or the least value of types without it."""
    dtype = jnp.dtype(dtype)
    if dtype == np.bool_:
        return np.array(False)
    if jnp.issubdtype(dtype, jnp.integer):
        return np.array(jnp.iinfo(dtype).min, dtype)
    infinity = np.array(-np.inf, dtype)
    return (
        infinity if np.isinf(infinity.astype(np.float32)) else np.array(jnp.finfo(dtype).min, dtype)
    )


def mean_dtype(dtype: jax.typing.DTypeLike) -> jnp.dtype:
    """Return the type of a mean: the type itself, or JAX's default float for integers and bool."""
    floating = jnp.issubdtype(dtype, jnp.floating)
    return jnp.dtype(dtype) if floating else jnp.dtype(jnp.result_type(float))


def _sum(arrays: list[Array]) -> Array:
    return functools.reduce(jnp.add, arrays)


def max_and_winner(
    values: Shaped[Array, "... option rest"],
) -> tuple[Shaped[Array, "... rest"], Int[Array, "... rest"]]:
    """Return the maximum over the last axis but one and its first index. NaN counts as largest.

    One reduction of pairs reads the values once and stores its result; XLA would compute anything
    elementwise again wherever it is used.
    """
    axis = values.ndim - 2
    integer = winner_dtype(values.shape[axis])
    options = lax.broadcasted_iota(integer, values.shape, axis)
    start = lowest(values.dtype), np.array(values.shape[axis] - 1, integer)
    return lax.reduce((values, options), start, _larger, (axis,))


def winner_dtype(options: int) -> type[np.integer]:
    """Return the smallest type that holds an index: the backward pass reads it again."""
    return np.int8 if options <= np.iinfo(np.int8).max else np.int32


def at_winner(
    values: Shaped[Array, "... option rest"], winner: Int[Array, "... rest"]
) -> Shaped[Array, "... rest"]:
    """Return the values at the indices of `max_and_winner`."""
    options = lax.broadcasted_iota(winner.dtype, values.shape, values.ndim - 2)
    chosen = options == lax.expand_dims(winner, (winner.ndim - 1,))
    return jnp.where(chosen, values, jnp.zeros((), values.dtype)).sum(axis=-2)


def _larger(one, other):
    (value, index), (other_value, other_index) = one, other
    tie = (value == other_value) & (index < other_index)
    both_nan = (value != value) & (other_value != other_value) & (index < other_index)
    only_one_nan = (value != value) & (other_value == other_value)
    is_first = (value > other_value) | tie | both_nan | only_one_nan
    return jnp.maximum(value, other_value), jnp.where(is_first, index, other_index)


def max_of(arrays: list[Array]) -> tuple[Array, Array]:
    """Return the elementwise maximum of a few arrays and the index of the first winner."""
    largest = functools.reduce(jnp.maximum, arrays)
    # Floats as wide as the values, so that comparison and selection are vectorized alike.
    winner = jnp.full(largest.shape, len(arrays) - 1, largest.dtype)
    for option in reversed(range(len(arrays) - 1)):
        array = arrays[option]
        wins = (array == largest) | (array != array)
        winner = jnp.where(wins, jnp.array(option, winner.dtype), winner)
    return largest, materialize(winner).astype(winner_dtype(len(arrays)))


def at_winner_of(arrays: list[Array], winner: Array) -> Array:
    """Return the values of a few arrays at the indices of `max_of`.

    The cotangent of each array is materialized. XLA would otherwise select it again for each of the
    sums that it goes into.
    """
    chosen = (
        jnp.where(winner == option, materialize(array), jnp.zeros((), array.dtype))
        for option, array in enumerate(arrays)
    )
    return functools.reduce(jnp.add, chosen)
