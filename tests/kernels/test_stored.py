import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.kernels.stored import as_rows, stored, stored_as_rows

BOTH = pytest.mark.parametrize("function", [stored, stored_as_rows])
NUMBERS = [1.5, -2.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40]


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("first", range(len(NUMBERS)))
def test_every_bit_is_kept_whatever_the_first_number(function, first, dtype):
    x = jnp.asarray(np.roll(NUMBERS, -first), dtype)
    for call in (jax.jit(function), jax.jit(jax.vmap(function))):
        y = call(x.reshape(1, 2, -1)).reshape(1, -1)
        np.testing.assert_array_equal(np.isnan(y[0]), np.isnan(x))
        is_number = ~np.isnan(np.asarray(x))
        kept, given = (np.asarray(a)[is_number] for a in (y[0], x))
        assert kept.tobytes() == given.tobytes()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (1, 2)])
def test_shapes_are_kept(shape):
    assert stored(jnp.ones(shape)).shape == shape


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (0, 2, 2), (4,), (2, 3, 4, 5)])
def test_shapes_are_kept_as_rows_too(shape):
    x = jnp.ones(shape)
    assert stored_as_rows(x).shape == shape
    assert jax.grad(lambda x: stored_as_rows(x).sum())(x).shape == shape
    assert as_rows(x).shape == (shape[0], np.prod(shape[1:], dtype=int))


@BOTH
def test_derivatives_pass_through(function):
    for first in (3.0, jnp.nan):
        x, tangent = jnp.array([[[first, 1.0]]]), jnp.array([[[1.0, 2.0]]])
        np.testing.assert_array_equal(jax.jvp(function, (x,), (tangent,))[1], tangent)
        np.testing.assert_array_equal(jax.vjp(function, x)[1](tangent)[0], tangent)


@BOTH
def test_second_derivatives_pass_through(function):
    x = jnp.array([[2.0], [3.0]])
    curvature = jax.hessian(lambda x: (function(x) ** 3).sum())(x).reshape(2, 2)
    np.testing.assert_array_equal(curvature, np.diag([12.0, 18.0]))
