import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from fidle_jax import kernels
from fidle_jax.kernels.testing import ConvComparison, assert_close
from tests.kernels.pool_cases import POOLS, pool_cases, value_and_gradient


class TestXla(ConvComparison):
    method = "xla"


@pytest.mark.parametrize("kind", POOLS)
def test_value_and_gradient_of_pooling_are_those_of_the_reference(kind):
    @settings(max_examples=8, derandomize=True)
    @given(pool_cases())
    def check(case):
        ours, theirs = (value_and_gradient(kind, method, case) for method in ("xla", "reference"))
        assert_close(ours, theirs, 0 if kind == "max" else 4, str(case))

    check()


def test_the_gradient_of_max_pool_goes_to_the_first_of_equal_values():
    gradient = jax.grad(lambda x: kernels.max_pool(x, 2, method="xla").sum())(
        jnp.ones((1, 2, 3, 1))
    )
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0, 0], [0, 0, 0]])
