import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.kernels.stored import stored

NUMBERS = [1.5, -2.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("first", range(len(NUMBERS)))
def test_every_bit_is_kept_whatever_the_first_number(first, dtype):
    x = jnp.asarray(np.roll(NUMBERS, -first), dtype)
    for call in (jax.jit(stored), jax.jit(jax.vmap(stored))):
        y = call(x[None])
        np.testing.assert_array_equal(np.isnan(y[0]), np.isnan(x))
        is_number = ~np.isnan(np.asarray(x))
        kept, given = (np.asarray(a)[is_number] for a in (y[0], x))
        assert kept.tobytes() == given.tobytes()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (1, 2)])
def test_shapes_are_kept(shape):
    assert stored(jnp.ones(shape)).shape == shape


def test_derivatives_pass_through():
    x, tangent = jnp.array([3.0, jnp.nan]), jnp.array([1.0, 2.0])
    np.testing.assert_array_equal(jax.jvp(stored, (x,), (tangent,))[1], tangent)
    np.testing.assert_array_equal(jax.vjp(stored, x)[1](tangent)[0], tangent)
