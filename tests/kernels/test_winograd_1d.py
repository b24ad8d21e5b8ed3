import jax.numpy as jnp
import pytest
from hypothesis import given, settings

from fidle_jax import kernels
from tests.kernels import conv_pooling

REFUSED = r"'winograd_1d' does not support these arguments\..* Use method='auto' or"


def _check_drawn(rank, examples, **how):
    @settings(max_examples=examples, **how)
    @given(conv_pooling.winograd_1d_cases(rank))
    def check_one(case):
        conv_pooling.check("winograd_1d", case)

    check_one()


@pytest.mark.parametrize(("rank", "examples"), [(1, 3), (2, 5), (3, 1)])
def test_conv_pool_of_integers_is_exactly_the_reference(rank, examples):
    _check_drawn(rank, examples, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "examples"), [(1, 30), (2, 60), (3, 10)])
def test_conv_pool_of_many_cases_is_exactly_the_reference(rank, examples):
    _check_drawn(rank, examples)


@pytest.mark.parametrize(
    "how",
    [{"strides": (1, 2)}, {"dilation": (1, 2)}, {"window": (2, 3)}, {"pool_strides": (2, 1)}],
)
def test_unsupported_windows_and_pools_along_the_last_axis_raise_an_error(how):
    x, w = jnp.ones((1, 9, 9, 1)), jnp.ones((3, 3, 1, 1))
    with pytest.raises(ValueError, match=REFUSED):
        kernels.conv_pool(x, w, method="winograd_1d", **how)


def test_a_last_axis_of_the_window_other_than_3_raises_an_error():
    x, w = jnp.ones((1, 9, 9, 1)), jnp.ones((3, 2, 1, 1))
    with pytest.raises(ValueError, match=REFUSED):
        kernels.conv_pool(x, w, method="winograd_1d")
