import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from fidle_jax import kernels
from fidle_jax.kernels import drawn
from fidle_jax.kernels.checks import assert_close, jit_once
from fidle_jax.kernels.comparison import FLOOR, Subject, measure
from fidle_jax.kernels.pooling import (
    max_and_argmax,
    max_and_argmax_of,
    take,
    take_of,
)
from fidle_jax.kernels.specs import POOL_SPECS

POOLS = {"max": kernels.max_pool, "avg": kernels.avg_pool}
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6, 3)), jnp.float32)


def _stacked_options(values):
    """Return the maximum over the last axis but one by the functions for one array."""
    argmax = max_and_argmax(jax.lax.stop_gradient(values))[1]
    return take(values, argmax)


def _separate_options(values):
    """Return the maximum over the last axis but one by the functions for a list of arrays."""
    arrays = list(jnp.moveaxis(values, -2, 0))
    _, argmax = max_and_argmax_of([jax.lax.stop_gradient(array) for array in arrays])
    return take_of(arrays, argmax)


EACH_MAX = pytest.mark.parametrize("function", [_stacked_options, _separate_options])


def _by_argmax(values):
    first = values.argmax(axis=-2, keepdims=True)
    return jnp.take_along_axis(values, first, axis=-2)[..., 0, :]


def _derivatives(function, values, tangent, weights):
    value, slope = jax.jvp(function, (values,), (tangent,))
    _, pullback = jax.vjp(function, values)
    return value, slope, pullback(weights)[0]


_compiled = jit_once(_derivatives, static_argnums=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(3, 4, 2), (1, 1), (2, 0, 5, 3), (7, 1)])
def test_value_and_derivatives_in_both_modes_are_those_of_the_first_largest_value(seed, shape):
    rng = np.random.default_rng(seed)
    values, tangent = (jnp.asarray(rng.integers(-1, 2, shape), jnp.float32) for _ in range(2))
    weights = jnp.asarray(rng.integers(-3, 4, (*shape[:-2], shape[-1])), jnp.float32)
    expected = _compiled(_by_argmax, values, tangent, weights)
    for function in (_stacked_options, _separate_options):
        chex.assert_trees_all_equal(_compiled(function, values, tangent, weights), expected)


@pytest.mark.parametrize("method", ["reference", "slices", "xla"])
def test_the_gradient_of_max_pool_goes_to_the_first_of_equal_values(method):
    gradient = jit_once(jax.grad(lambda x: kernels.max_pool(x, 2, method=method).sum()))
    slopes = gradient(jnp.ones((1, 2, 3, 1)))[0, :, :, 0]
    np.testing.assert_array_equal(slopes, [[1, 0, 0], [0, 0, 0]])


@EACH_MAX
def test_the_gradient_goes_to_the_first_of_equal_values(function):
    values = jnp.array([[1.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    gradient = jit_once(jax.grad(lambda values: function(values).sum()))(values)
    np.testing.assert_array_equal(gradient, [[0, 1], [1, 0], [0, 0]])


@EACH_MAX
def test_second_derivatives_are_those_of_a_fixed_selection(function):
    values = jnp.array([[2.0], [5.0], [5.0]])
    curvature = jit_once(jax.hessian(lambda values: (function(values) ** 3).sum()))(values)
    expected = np.zeros((3, 3))
    expected[1, 1] = 6 * 5
    np.testing.assert_array_equal(curvature.reshape(3, 3), expected)


@EACH_MAX
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_values_and_derivatives_have_the_type_of_the_input(function, dtype):
    with jax.enable_x64(True):
        values, weights = jnp.ones((2, 3), dtype), jnp.ones(3, dtype)
        chex.assert_type(_compiled(function, values, values, weights), dtype)


@EACH_MAX
def test_vmap_of_a_max_equals_one_call_per_example(function):
    values = jnp.asarray(np.random.default_rng(0).integers(-1, 2, (4, 3, 5)), jnp.float32)
    gradient = jax.grad(lambda values: (function(values) ** 2).sum())
    mapped, whole = (jit_once(call)(values) for call in (jax.vmap(gradient), gradient))
    chex.assert_trees_all_equal(mapped, whole)


@pytest.mark.parametrize("options", [127, 128, 300])
def test_the_first_largest_value_is_found_among_any_number_of_options(options):
    values = jnp.zeros((options, 2)).at[options - 2 :, 0].set(1.0).at[1:, 1].set(1.0)
    gradient = jit_once(jax.grad(lambda values: _stacked_options(values).sum()))(values)
    expected = np.zeros((options, 2))
    expected[options - 2, 0] = expected[1, 1] = 1
    np.testing.assert_array_equal(gradient, expected)


@settings(max_examples=60, derandomize=True)
@given(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 2.0, np.inf, np.nan]), min_size=5, max_size=5))
def test_the_argmax_is_the_first_nan_or_otherwise_the_first_largest_value(values):
    # NumPy has the same rule: argmax returns the index of the first NaN.
    argmax = int(np.argmax(values))
    column = jnp.array(values, jnp.float32)[:, None]
    for largest, index in (max_and_argmax(column), max_and_argmax_of(list(column))):
        np.testing.assert_array_equal(largest, [values[argmax]])
        np.testing.assert_array_equal(index, [argmax])
        for selected in (take(column, index), take_of(list(column), index)):
            np.testing.assert_array_equal(selected, [values[argmax]])


def test_values_at_the_argmax_are_the_largest_values_with_nan_among_the_options():
    rng = np.random.default_rng(0)
    values = rng.choice(
        [-np.inf, -1, 1, np.inf, np.nan], (500, 9, 2), p=[0.2, 0.3, 0.3, 0.15, 0.05]
    )
    values = jnp.asarray(values, jnp.float32)
    largest, argmax = jit_once(max_and_argmax)(values)
    numbers = np.asarray(values)  # XLA's own max ignores NaN in arrays of this size on a CPU
    np.testing.assert_array_equal(argmax, np.argmax(numbers, axis=1))
    np.testing.assert_array_equal(largest, np.max(numbers, axis=1))
    np.testing.assert_array_equal(jit_once(take)(values, argmax), largest)


@functools.cache
def by(kind, method):
    return functools.partial(POOLS[kind], method=method)


def check_integers(kind, method, spec, dtype="float32"):
    """Compare results for small integers, many of them equal. Maxima are exact: accept one rounding."""
    subject = Subject(method, by(kind, method), by(kind, "reference"), by(kind, "reference"))
    # XLA's JVP may take another one of equal values.
    ratio = 1 / FLOOR if kind == "max" else 1
    subject = dataclasses.replace(subject, ratio=ratio, forward_mode=method != "xla")
    measure(subject, spec, dtype, ["small integers"])


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("method", ["slices", "xla"])
@pytest.mark.parametrize("spec", POOL_SPECS, ids=str)
def test_values_and_gradients_of_integers_are_those_of_the_reference(kind, method, spec):
    check_integers(kind, method, spec)


@pytest.mark.slow
@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("method", ["slices", "xla"])
def test_values_and_gradients_of_many_cases_are_those_of_the_reference(kind, method):
    @settings(max_examples=200)
    @given(drawn.pool_specs(), st.sampled_from(["float32", "bfloat16", "float64"]))
    def check_one(spec, dtype):
        check_integers(kind, method, spec, dtype)

    check_one()


@pytest.mark.parametrize("kind", POOLS)
def test_forward_mode_and_second_derivatives_are_those_of_the_reference(kind):
    def derivatives(method):
        def pool(x):
            return POOLS[kind](x, 3, strides=2, padding="same", method=method)

        def slope(x):
            return jax.grad(lambda x: (pool(x) ** 2).sum())(x)

        return jit_once(lambda x: (jax.jvp(pool, (x,), (1 - x,)), jax.jvp(slope, (x,), (x,))))(X)

    assert_close(derivatives("slices"), derivatives("reference"), 8)


def test_the_maximum_of_an_image_of_minus_infinity_is_minus_infinity():
    image = jnp.full((1, 3, 3, 1), -jnp.inf)
    y = kernels.max_pool(image, 2, padding="same", method="slices")
    chex.assert_trees_all_equal(y, jnp.full((1, 2, 2, 1), -jnp.inf))


EACH_POOL_METHOD = pytest.mark.parametrize("method", ["auto", "reference", "slices", "xla"])
# The smallest value of each type. In windows of these values, padding could be the largest value.
LOWEST = {"int8": -128, "uint8": 0, "int32": -(2**31), "bool": False, "float8_e4m3fn": -448.0}


def _narrow_images(dtype):
    low, high = (0, 2) if dtype == "bool" else (0, 200) if dtype == "uint8" else (-100, 100)
    numbers = np.random.default_rng(0).integers(low, high, (2, 5, 7, 3))
    images = np.array(jnp.asarray(numbers).astype(dtype))
    images[0, :2, :2, 0] = images[1, -2:, -2:, 1] = LOWEST[dtype]
    return images


@EACH_POOL_METHOD
@pytest.mark.parametrize("dtype", LOWEST)
def test_max_pool_of_narrow_types_equals_numpys_maximum_exactly(dtype, method):
    x = _narrow_images(dtype)
    padded = np.pad(x, [(0, 0), (1, 0), (1, 1), (0, 0)], constant_values=LOWEST[dtype])
    wide = padded if dtype == "bool" else padded.astype(np.float64)  # exact for all of these types
    expected = sliding_window_view(wide, (2, 3), (1, 2)).max(axis=(-2, -1))

    y = kernels.max_pool(x, (2, 3), strides=1, padding=[(1, 0), (1, 1)], method=method)

    assert y.dtype == dtype
    np.testing.assert_array_equal(np.asarray(y).astype(expected.dtype), expected)


@EACH_POOL_METHOD
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
def test_avg_pool_of_integers_is_the_mean_as_a_float(dtype, method):
    x = _narrow_images(dtype) if dtype != "int32" else _narrow_images("int8").astype("int32")
    windows = sliding_window_view(x.astype(np.float64), (2, 2), (1, 2))[:, ::2, ::2]
    y = kernels.avg_pool(x, 2, method=method)
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, windows.mean(axis=(-2, -1)))  # exact: quarters of integers


@EACH_POOL_METHOD
def test_avg_pool_of_integers_does_not_count_padding(method):
    x = np.array([[3, 4, 8], [5, 8, 8]], np.uint8)[None, :, :, None]
    y = kernels.avg_pool(x, (1, 3), strides=1, padding="same", method=method)
    np.testing.assert_array_equal(y[0, :, :, 0], [[3.5, 5, 6], [6.5, 7, 8]])
