import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.kernels.checks import jit_once
from fidle_jax.kernels.materialize import LONGEST_ROW, add_bias, as_rows, materialize

as_matrix = functools.partial(materialize, rows=True)
BOTH = pytest.mark.parametrize("function", [materialize, as_matrix])
NUMBERS = [1.5, -2.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40]


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_bit_is_preserved_whatever_the_first_number(function, dtype):
    compiled = jax.jit(function), jax.jit(jax.vmap(function))
    for first in range(len(NUMBERS)):
        x = jnp.asarray(np.roll(NUMBERS, -first), dtype)
        for call in compiled:
            y = call(x.reshape(1, 2, -1)).reshape(-1)
            np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
            is_number = ~np.isnan(np.asarray(x))
            ours, expected = (np.asarray(a)[is_number] for a in (y, x))
            assert ours.tobytes() == expected.tobytes()


@BOTH
@pytest.mark.parametrize(
    "shape", [(0,), (3, 0), (3, 0, 2), (0, 2, 2), (), (4,), (1, 2), (2, 3, 4, 5)]
)
def test_value_and_gradient_have_the_shape_of_the_input(function, shape):
    value, gradient = jit_once(lambda x: (function(x), jax.grad(lambda x: function(x).sum())(x)))(
        jnp.ones(shape)
    )
    assert value.shape == gradient.shape == shape


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (0, 2, 2), (4,), (2, 3, 4, 5)])
def test_a_matrix_has_one_row_per_example(shape):
    assert as_rows(jnp.ones(shape)).shape == (shape[0], np.prod(shape[1:], dtype=int))


@BOTH
def test_derivatives_in_every_mode_are_those_of_the_identity(function):
    @jit_once
    def derivatives(x, tangent):
        forward = jax.jvp(function, (x,), (tangent,))[1]
        reverse = jax.vjp(function, x)[1](tangent)[0]
        transpose = jax.linear_transpose(function, x)(tangent)[0]
        return forward, reverse, transpose, jax.hessian(lambda x: (function(x) ** 3).sum())(x)

    for first in (3.0, jnp.nan):
        x, tangent = jnp.array([[[first, 1.0]]]), jnp.array([[[1.0, 2.0]]])
        *linear, curvature = derivatives(x, tangent)
        for derivative in linear:
            np.testing.assert_array_equal(derivative, tangent)
        np.testing.assert_array_equal(np.diag(curvature.reshape(2, 2)), 6 * x.ravel())


def test_it_is_a_barrier_on_a_cpu_and_the_identity_elsewhere():
    def lowered(platform):
        x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
        exported = jax.export.export(jax.jit(lambda x: materialize(x)), platforms=[platform])(x)
        return exported.mlir_module()

    assert "stablehlo.case" in lowered("cpu")
    assert "stablehlo." not in lowered("cuda")


def _plain(y, b, relu):
    return jax.nn.relu(y + b) if relu else y + b


@functools.partial(jit_once, static_argnums=(0, 1))
def _derivatives(function, relu, y, b, tangents, weights):
    value, slope = jax.jvp(lambda y, b: function(y, b, relu), (y, b), tangents)
    _, pullback = jax.vjp(lambda y, b: function(y, b, relu), y, b)
    return value, slope, pullback(weights)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 5), (3, 7), (0, 2, 2, 3), (2, 0, 3), (2, LONGEST_ROW // 4 + 1, 4)]
)
def test_value_and_derivatives_of_add_bias_are_those_of_the_sum(shape, relu):
    rng = np.random.default_rng(0)
    # With integers, sums are exact in any order, and zeros occur, where ReLU has a kink.
    y, tangent, weights = (jnp.asarray(rng.integers(-2, 3, shape), jnp.float32) for _ in range(3))
    b, b_tangent = (jnp.asarray(rng.integers(-2, 3, shape[-1]), jnp.float32) for _ in range(2))
    arguments = relu, y, b, (tangent, b_tangent), weights
    chex.assert_trees_all_equal(
        _derivatives(add_bias, *arguments), _derivatives(_plain, *arguments)
    )


def test_add_bias_preserves_the_type():
    y = add_bias(jnp.ones((2, 3, 4), jnp.bfloat16), jnp.ones(4, jnp.bfloat16), True)
    assert y.dtype == jnp.bfloat16
