import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.kernels.bias import LONGEST_ROW, add_bias
from fidle_jax.kernels.testing import jit_once

SHAPES = [(2, 3, 4, 5), (3, 7), (0, 2, 2, 3), (2, 0, 3), (2, LONGEST_ROW // 4 + 1, 4)]


def _plain(y, b, relu):
    return jax.nn.relu(y + b) if relu else y + b


def _derivatives(function, relu, y, b, tangents, weights):
    value, slope = jax.jvp(lambda y, b: function(y, b, relu), (y, b), tangents)
    _, pullback = jax.vjp(lambda y, b: function(y, b, relu), y, b)
    return value, slope, pullback(weights)


_compiled = jit_once(_derivatives, static_argnums=(0, 1))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_derivatives_are_those_of_the_sum(shape, relu):
    rng = np.random.default_rng(0)
    # With integers, sums are exact in any order, and zeros occur, where ReLU has a kink.
    y, tangent, weights = (jnp.asarray(rng.integers(-2, 3, shape), jnp.float32) for _ in range(3))
    b, b_tangent = (jnp.asarray(rng.integers(-2, 3, shape[-1]), jnp.float32) for _ in range(2))
    arguments = relu, y, b, (tangent, b_tangent), weights
    chex.assert_trees_all_equal(_compiled(add_bias, *arguments), _compiled(_plain, *arguments))


def test_the_result_has_the_type_of_the_input():
    assert add_bias(jnp.ones((2, 3, 4), jnp.bfloat16), jnp.ones(4, jnp.bfloat16), True).dtype == (
        jnp.bfloat16
    )
