import jax.numpy as jnp
import pytest
from hypothesis import given, settings

from fidle_jax import kernels
from fidle_jax.kernels import chunks, winograd
from fidle_jax.kernels.cases import ConvCase
from fidle_jax.kernels.testing import ConvComparison, check
from tests.kernels import conv_pooling


class TestWinograd(ConvComparison):
    method = "winograd"
    tolerance = 32  # "rounding errors are a few times those of the definition"
    examples = (3, 3, 1, 1)  # of many matrix products each, so that they take long to compile


# What is fast of it: chunks, and with pooling all that is here, in test_fused.py.
@pytest.mark.slow
class TestWinogradOfFours(ConvComparison):
    method = "winograd_4"
    tolerance = 128
    examples = (3, 2, 0, 0)


@pytest.mark.parametrize("rank", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_conv_pool_of_whole_numbers_is_exactly_the_reference(rank):
    @settings(max_examples=2, derandomize=True)
    @given(conv_pooling.winograd_pool_cases(rank))
    def check_one(case):
        conv_pooling.check("winograd_pool", case)

    check_one()


@pytest.mark.parametrize("rank", [1, 2])
def test_conv_pool_by_fours_is_the_reference_but_for_roundings(rank):
    @settings(max_examples=2, derandomize=True)
    @given(conv_pooling.winograd_pool_cases(rank))
    def check_one(case):
        conv_pooling.check_close("winograd_pool_4", case, 128)

    check_one()


@pytest.mark.parametrize(("method", "tolerance"), [("winograd", 32), ("winograd_4", 128)])
def test_chunks_of_a_batch_are_computed_as_the_whole(monkeypatch, method, tolerance):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(chunks, "SHARED_TIMES", 0)
    check(method, ConvCase((3, 4, 5, 2), (3, 3, 2, 2), (1, 1), "valid", (1, 1)), tolerance)


@pytest.mark.slow
def test_four_axes():
    check("winograd", ConvCase((1, 4, 3, 4, 5, 2), (3, 3, 3, 3, 2, 2), (1,) * 4, 1, (1,) * 4), 32)


@pytest.mark.parametrize(
    ("size", "strides", "dilation"),
    [((3, 2), (1, 1), (1, 1)), ((3, 3), (1, 2), (1, 1)), ((3, 3), (1, 1), (2, 1))],
)
def test_other_windows_are_refused_by_the_method_and_by_conv(size, strides, dilation):
    x, w = jnp.ones((1, 9, 9, 1)), jnp.ones((*size, 1, 1))
    with pytest.raises(ValueError, match="winograd takes windows of 3 on every side, strides and"):
        winograd.conv(x, w, strides=strides, dilation=dilation)
    with pytest.raises(ValueError, match=r"'winograd' does not do windows of .*; expected method="):
        kernels.conv(x, w, strides=strides, dilation=dilation, method="winograd")
    with pytest.raises(ValueError, match=r"'winograd_pool' takes one group, .*; expected method="):
        kernels.conv_pool(x, w, strides=strides, dilation=dilation, method="winograd_pool")


def test_tiles_of_six_in_three_axes_are_refused():
    x, w = jnp.ones((1, 9, 9, 9, 1)), jnp.ones((3, 3, 3, 1, 1))
    with pytest.raises(
        ValueError, match=r"'winograd_4' does not do windows of .*; expected method="
    ):
        kernels.conv(x, w, method="winograd_4")
    with pytest.raises(ValueError, match=r"'winograd_pool_4' those in at most two axes"):
        kernels.conv_pool(x, w, method="winograd_pool_4")


@pytest.mark.parametrize("pool", [{"window": 3}, {"pool_strides": 1}])
def test_other_pools_are_refused(pool):
    x, w = jnp.ones((1, 9, 9, 1)), jnp.ones((3, 3, 1, 1))
    with pytest.raises(ValueError, match=r"'winograd_pool' takes one group, .*; expected method="):
        kernels.conv_pool(x, w, method="winograd_pool", **pool)
