import jax.numpy as jnp
import pytest
from hypothesis import given, settings

from fidle_jax import kernels
from fidle_jax.kernels import chunks
from fidle_jax.kernels.comparison import ConvCase, check
from fidle_jax.kernels.testing import ConvComparison
from tests.kernels import pooling_cases
from tests.kernels.pooling_cases import ConvPoolCase

IMAGES = jnp.ones((1, 9, 9, 1))


class TestWinograd(ConvComparison):
    method = "winograd"
    mixed = "w"
    ratio = 4


POOL_CASES = {
    ("winograd_pool", "one axis"): ConvPoolCase((2, 9, 2), (3, 2, 3), padding="same"),
    ("winograd_pool", "two axes"): ConvPoolCase(
        (1, 6, 8, 3), (3, 3, 3, 2), padding=((1, 0), (2, 1)), activation="none", dtype="bfloat16"
    ),
    ("winograd_1d", "one axis"): ConvPoolCase((3, 9, 2), (3, 2, 3), padding=1, dtype="float64"),
    ("winograd_1d", "strides and dilation of the other axis"): ConvPoolCase(
        (2, 11, 8, 2), (2, 3, 2, 2), (3, 2), (2, 2), (2, 1), "same", (2, 1)
    ),
    ("winograd_1d", "overlapping pools of the other axis"): ConvPoolCase(
        (1, 6, 7, 1), (3, 3, 1, 3), (3, 2), (1, 2), padding="same", activation="none"
    ),
    ("winograd_1d", "three axes"): ConvPoolCase(
        (1, 4, 3, 6, 2), (2, 1, 3, 2, 2), (2, 1, 2), (1, 1, 2)
    ),
}


FEW = [("winograd_pool", "one axis"), ("winograd_pool", "two axes")]
FEW += [("winograd_1d", "strides and dilation of the other axis")]


@pytest.mark.parametrize(
    ("method", "name"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case not in FEW)) for case in POOL_CASES],
)
def test_conv_pool_of_integers_equals_the_reference_exactly(method, name):
    pooling_cases.check(method, POOL_CASES[method, name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "rank", "examples"),
    [
        *(("winograd_pool", rank, number) for rank, number in ((1, 20), (2, 20), (3, 2))),
        *(("winograd_1d", rank, number) for rank, number in ((1, 30), (2, 60), (3, 10))),
    ],
)
def test_conv_pool_of_many_cases_equals_the_reference(method, rank, examples):
    draw = "winograd_1d_cases" if method == "winograd_1d" else "winograd_pool_cases"

    @settings(max_examples=examples)
    @given(getattr(pooling_cases, draw)(rank))
    def check_one(case):
        pooling_cases.check(method, case)

    check_one()


def test_a_batch_in_chunks_has_the_value_and_gradients_of_the_definition(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(chunks, "SHARED_TIMES", 0)
    check("winograd", ConvCase((3, 4, 5, 2), (3, 3, 2, 2), (1, 1), "valid", (1, 1)), 32)


@pytest.mark.slow
def test_four_axes_are_supported():
    check("winograd", ConvCase((1, 4, 3, 4, 5, 2), (3, 3, 3, 3, 2, 2), (1,) * 4, 1, (1,) * 4), 32)


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
