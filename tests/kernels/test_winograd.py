import jax.numpy as jnp
import pytest

from fidle_jax import kernels
from fidle_jax.kernels import winograd
from fidle_jax.kernels.cases import ConvCase
from fidle_jax.kernels.testing import ConvComparison, check


class TestWinograd(ConvComparison):
    method = "winograd"
    tolerance = 32  # "rounding errors are a few times those of the definition"
    examples = (4, 4, 2, 0)


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
