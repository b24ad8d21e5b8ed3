import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.kernels.materialize import as_rows, materialize

as_matrix = functools.partial(materialize, rows=True)
BOTH = pytest.mark.parametrize("function", [materialize, as_matrix])
NUMBERS = [1.5, -2.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40]


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("first", range(len(NUMBERS)))
def test_every_bit_is_preserved_whatever_the_first_number(function, first, dtype):
    x = jnp.asarray(np.roll(NUMBERS, -first), dtype)
    for call in (jax.jit(function), jax.jit(jax.vmap(function))):
        y = call(x.reshape(1, 2, -1)).reshape(1, -1)
        np.testing.assert_array_equal(np.isnan(y[0]), np.isnan(x))
        is_number = ~np.isnan(np.asarray(x))
        ours, expected = (np.asarray(a)[is_number] for a in (y[0], x))
        assert ours.tobytes() == expected.tobytes()


@BOTH
@pytest.mark.parametrize(
    "shape", [(0,), (3, 0), (3, 0, 2), (0, 2, 2), (), (4,), (1, 2), (2, 3, 4, 5)]
)
def test_value_and_gradient_have_the_shape_of_the_input(function, shape):
    x = jnp.ones(shape)
    assert jax.jit(function)(x).shape == shape
    assert jax.jit(jax.grad(lambda x: function(x).sum()))(x).shape == shape


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (0, 2, 2), (4,), (2, 3, 4, 5)])
def test_a_matrix_has_one_row_per_example(shape):
    assert as_rows(jnp.ones(shape)).shape == (shape[0], np.prod(shape[1:], dtype=int))


@BOTH
def test_derivatives_are_those_of_the_identity(function):
    for first in (3.0, jnp.nan):
        x, tangent = jnp.array([[[first, 1.0]]]), jnp.array([[[1.0, 2.0]]])
        np.testing.assert_array_equal(
            jax.jit(_jvp, static_argnums=0)(function, x, tangent), tangent
        )
        np.testing.assert_array_equal(
            jax.jit(_vjp, static_argnums=0)(function, x, tangent), tangent
        )


def _jvp(function, x, tangent):
    return jax.jvp(function, (x,), (tangent,))[1]


def _vjp(function, x, tangent):
    return jax.vjp(function, x)[1](tangent)[0]


@BOTH
def test_second_derivatives_are_those_of_the_identity(function):
    x = jnp.array([[2.0], [3.0]])
    curvature = jax.jit(jax.hessian(lambda x: (function(x) ** 3).sum()))(x).reshape(2, 2)
    np.testing.assert_array_equal(curvature, np.diag([12.0, 18.0]))


@BOTH
def test_it_is_linear_for_jax(function):
    x = jnp.arange(6.0).reshape(1, 2, 3)
    (transposed,) = jax.jit(jax.linear_transpose(function, x))(x)
    np.testing.assert_array_equal(transposed, x)


def test_it_is_a_barrier_on_a_cpu_and_the_identity_elsewhere():
    def lowered(platform):
        x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
        exported = jax.export.export(jax.jit(lambda x: materialize(x)), platforms=[platform])(x)
        return exported.mlir_module()

    assert "stablehlo.case" in lowered("cpu")
    assert "stablehlo." not in lowered("cuda")
