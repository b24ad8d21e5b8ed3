import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax.kernels.first_max import first_max, first_max_of
from fidle_jax.kernels.testing import jit_once


def _of_parts(values):
    return first_max_of(*jnp.moveaxis(values, -2, 0))


FUNCTIONS = pytest.mark.parametrize("function", [first_max, _of_parts])


def _by_argmax(values):
    first = values.argmax(axis=-2, keepdims=True)
    return jnp.take_along_axis(values, first, axis=-2)[..., 0, :]


def _derivatives(function, values, tangent, weights):
    value, slope = jax.jvp(function, (values,), (tangent,))
    _, pullback = jax.vjp(function, values)
    return value, slope, pullback(weights)[0]


_compiled = jit_once(_derivatives, static_argnums=0)


@settings(max_examples=15, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(3, 4, 2), (1, 1), (2, 0, 5, 3), (7, 1)]))
def test_value_and_derivatives_in_both_modes_are_those_of_the_first_largest(seed, shape):
    rng = np.random.default_rng(seed)
    values, tangent = (jnp.asarray(rng.integers(-1, 2, shape), jnp.float32) for _ in range(2))
    weights = jnp.asarray(rng.integers(-3, 4, (*shape[:-2], shape[-1])), jnp.float32)
    expected = _compiled(_by_argmax, values, tangent, weights)
    for function in (first_max, _of_parts):
        chex.assert_trees_all_equal(_compiled(function, values, tangent, weights), expected)


@FUNCTIONS
def test_of_equal_values_exactly_the_first_gets_the_gradient(function):
    values = jnp.array([[1.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    gradient = jit_once(jax.grad(lambda values: function(values).sum()))(values)
    np.testing.assert_array_equal(gradient, [[0, 1], [1, 0], [0, 0]])


@FUNCTIONS
def test_second_derivatives_are_those_of_a_choice_held_fast(function):
    values = jnp.array([[2.0], [5.0], [5.0]])
    curvature = jit_once(jax.hessian(lambda values: (function(values) ** 3).sum()))(values)
    expected = np.zeros((3, 3))
    expected[1, 1] = 6 * 5
    np.testing.assert_array_equal(curvature.reshape(3, 3), expected)


@FUNCTIONS
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_types_are_kept(function, dtype):
    with jax.enable_x64(True):
        values, weights = jnp.ones((2, 3), dtype), jnp.ones(3, dtype)
        chex.assert_type(_compiled(function, values, values, weights), dtype)


@FUNCTIONS
def test_vmap_is_one_call_for_each(function):
    values = jnp.asarray(np.random.default_rng(0).integers(-1, 2, (4, 3, 5)), jnp.float32)
    gradient = jax.grad(lambda values: (function(values) ** 2).sum())
    mapped, whole = (jit_once(call)(values) for call in (jax.vmap(gradient), gradient))
    chex.assert_trees_all_equal(mapped, whole)


@pytest.mark.parametrize("options", [127, 128, 300])
def test_any_number_of_options_has_its_first_largest_found(options):
    values = jnp.zeros((options, 2)).at[options - 2 :, 0].set(1.0).at[1:, 1].set(1.0)
    gradient = jit_once(jax.grad(lambda values: first_max(values).sum()))(values)
    expected = np.zeros((options, 2))
    expected[options - 2, 0] = expected[1, 1] = 1
    np.testing.assert_array_equal(gradient, expected)
