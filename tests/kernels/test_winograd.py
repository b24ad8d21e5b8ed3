import jax.numpy as jnp
import pytest
from hypothesis import given, settings

from fidle_jax import kernels
from fidle_jax.kernels import chunks, winograd
from fidle_jax.kernels.cases import ConvCase
from fidle_jax.kernels.testing import ConvComparison, check
from tests.kernels import conv_pooling

POOL_REFUSED = r"'winograd_pool' does not support these arguments\..* Use method='auto' or"


class TestWinograd(ConvComparison):
    method = "winograd"
    tolerance = 32
    examples = (3, 3, 1, 1)  # each has many matrix products and takes long to compile


# The fast tests of this method are those of chunks and of pooling, below and in test_fused.py.
@pytest.mark.slow
class TestWinogradOfFours(ConvComparison):
    method = "winograd_4"
    local = False
    tolerance = 128
    examples = (3, 2, 0, 0)


@pytest.mark.parametrize("rank", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_conv_pool_of_integers_is_exactly_the_reference(rank):
    @settings(max_examples=2, derandomize=True)
    @given(conv_pooling.winograd_pool_cases(rank))
    def check_one(case):
        conv_pooling.check("winograd_pool", case)

    check_one()


@pytest.mark.parametrize("rank", [1, 2])
def test_conv_pool_by_fours_is_the_reference_up_to_rounding(rank):
    @settings(max_examples=2, derandomize=True)
    @given(conv_pooling.winograd_pool_cases(rank))
    def check_one(case):
        conv_pooling.check_close("winograd_pool_4", case, 128)

    check_one()


@pytest.mark.parametrize(("method", "tolerance"), [("winograd", 32), ("winograd_4", 128)])
def test_a_batch_in_chunks_has_the_value_and_gradients_of_the_definition(
    monkeypatch, method, tolerance
):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(chunks, "SHARED_TIMES", 0)
    check(method, ConvCase((3, 4, 5, 2), (3, 3, 2, 2), (1, 1), "valid", (1, 1)), tolerance)


@pytest.mark.slow
def test_four_axes_are_supported():
    check("winograd", ConvCase((1, 4, 3, 4, 5, 2), (3, 3, 3, 3, 2, 2), (1,) * 4, 1, (1,) * 4), 32)


@pytest.mark.parametrize(
    ("size", "strides", "dilation"),
    [((3, 2), (1, 1), (1, 1)), ((3, 3), (1, 2), (1, 1)), ((3, 3), (1, 1), (2, 1))],
)
def test_unsupported_windows_raise_an_error_in_the_method_and_in_conv(size, strides, dilation):
    x, w = jnp.ones((1, 9, 9, 1)), jnp.ones((*size, 1, 1))
    with pytest.raises(ValueError, match="winograd takes windows of 3 on every side, strides and"):
        winograd.conv(x, w, strides=strides, dilation=dilation)
    with pytest.raises(ValueError, match=r"'winograd' does not support windows of .*; use method="):
        kernels.conv(x, w, strides=strides, dilation=dilation, method="winograd")
    with pytest.raises(ValueError, match=POOL_REFUSED):
        kernels.conv_pool(x, w, strides=strides, dilation=dilation, method="winograd_pool")


def test_tiles_of_six_along_three_axes_raise_an_error():
    x, w = jnp.ones((1, 9, 9, 9, 1)), jnp.ones((3, 3, 3, 1, 1))
    with pytest.raises(ValueError, match=r"'winograd_4' does not support windows of .*; use meth"):
        kernels.conv(x, w, method="winograd_4")
    with pytest.raises(ValueError, match=r"'winograd_pool_4' at most two axes"):
        kernels.conv_pool(x, w, method="winograd_pool_4")


@pytest.mark.parametrize("pool", [{"window": 3}, {"pool_strides": 1}])
def test_unsupported_pools_raise_an_error(pool):
    x, w = jnp.ones((1, 9, 9, 1)), jnp.ones((3, 3, 1, 1))
    with pytest.raises(ValueError, match=POOL_REFUSED):
        kernels.conv_pool(x, w, method="winograd_pool", **pool)
