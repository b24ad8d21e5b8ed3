import jax.numpy as jnp
import pytest

from fidle_jax import kernels
from fidle_jax.kernels import chunks
from fidle_jax.kernels.comparison import measure
from fidle_jax.kernels.specs import Spec
from fidle_jax.kernels.testing import ConvComparison

IMAGES = jnp.ones((1, 9, 9, 1))


@pytest.mark.slow
class TestWinograd(ConvComparison):
    method = "winograd"
    mixed = "w"
    ratio = 4


def test_a_batch_in_chunks_has_the_value_and_derivatives_of_the_definition(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(chunks, "SHARED_TIMES", 0)
    spec = Spec((3, 4, 5, 2), (3, 3, 2, 2))
    measure(TestWinograd.subject(), spec, "float32", ["normal"])


@pytest.mark.slow
def test_four_axes_are_supported():
    spec = Spec((1, 4, 3, 4, 5, 2), (3, 3, 3, 3, 2, 2), padding=1)
    measure(TestWinograd.subject(), spec, "float32", ["normal"])


@pytest.mark.parametrize(
    ("size", "strides", "dilation"),
    [((3, 2), (1, 1), (1, 1)), ((3, 3), (1, 2), (1, 1)), ((3, 3), (1, 1), (2, 1))],
)
def test_an_unsupported_geometry_raises_an_error(size, strides, dilation):
    how = {"strides": strides, "dilation": dilation}
    with pytest.raises(ValueError, match=r"'winograd' does not support windows of .*; use method="):
        kernels.conv(IMAGES, jnp.ones((*size, 1, 1)), **how, method="winograd")
    with pytest.raises(
        ValueError, match=r"'winograd_pool' does not support these arguments\..* Use"
    ):
        kernels.conv_pool(IMAGES, jnp.ones((*size, 1, 1)), **how, method="winograd_pool")


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("winograd_pool", {"window": 3}),
        ("winograd_pool", {"pool_strides": 1}),
        ("winograd_1d", {"strides": (1, 2)}),
        ("winograd_1d", {"dilation": (1, 2)}),
        ("winograd_1d", {"window": (2, 3)}),
        ("winograd_1d", {"pool_strides": (2, 1)}),
        ("winograd_1d", {"w_shape": (3, 2, 1, 1)}),
    ],
    ids=str,
)
def test_an_unsupported_pool_or_last_axis_raises_an_error(method, how):
    how = dict(how)
    message = rf"'{method}' does not support these arguments\..* Use method='auto' or"
    w = jnp.ones(how.pop("w_shape", (3, 3, 1, 1)))
    with pytest.raises(ValueError, match=message):
        kernels.conv_pool(IMAGES, w, **how, method=method)
