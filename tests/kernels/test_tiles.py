import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from fidle_jax import kernels
from fidle_jax.kernels.testing import assert_close, jit_once
from tests.kernels.pooling import POOLS, pool_cases, value_and_gradient

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6, 3)), jnp.float32)


@pytest.mark.parametrize("kind", POOLS)
def test_values_and_gradients_are_those_of_the_reference_and_of_xla(kind):
    @settings(max_examples=8, derandomize=True)
    @given(pool_cases())
    def check(case):
        ours = value_and_gradient(kind, "tiles", case)
        for judge in ("reference", "xla"):
            theirs = value_and_gradient(kind, judge, case)
            assert_close(ours, theirs, 0 if kind == "max" else 4, f"tiles and {judge} on {case}")

    check()


@pytest.mark.slow
@pytest.mark.parametrize("kind", POOLS)
def test_values_and_gradients_of_many_more(kind):
    @settings(max_examples=200)
    @given(pool_cases())
    def check(case):
        ours, theirs = (value_and_gradient(kind, method, case) for method in ("tiles", "reference"))
        assert_close(ours, theirs, 0 if kind == "max" else 4, str(case))

    check()


@pytest.mark.parametrize("kind", POOLS)
def test_forward_mode_and_second_derivatives_are_those_of_the_reference(kind):
    def derivatives(method):
        def pool(x):
            return POOLS[kind](x, 3, strides=2, padding="same", method=method)

        def slope(x):
            return jax.grad(lambda x: (pool(x) ** 2).sum())(x)

        return jit_once(lambda x: (jax.jvp(pool, (x,), (1 - x,)), jax.jvp(slope, (x,), (x,))))(X)

    assert_close(derivatives("tiles"), derivatives("reference"), 8)


def test_an_image_of_minus_infinity_alone_has_that_as_its_maximum():
    image = jnp.full((1, 3, 3, 1), -jnp.inf)
    y = kernels.max_pool(image, 2, padding="same", method="tiles")
    chex.assert_trees_all_equal(y, jnp.full((1, 2, 2, 1), -jnp.inf))


@pytest.mark.parametrize("kind", POOLS)
def test_vmap_is_one_call_for_each(kind):
    def pool(x):
        return POOLS[kind](x, (2, 3), method="tiles")

    mapped = jit_once(jax.vmap(pool))(jnp.stack([X, 1 - X]))
    chex.assert_trees_all_close(mapped, jnp.stack([jit_once(pool)(x) for x in (X, 1 - X)]))
