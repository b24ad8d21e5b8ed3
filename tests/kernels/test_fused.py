import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax import kernels
from fidle_jax.kernels import chunks, drawn
from fidle_jax.kernels.checks import assert_close, jit_once
from fidle_jax.kernels.comparison import FLOOR, Subject, measure
from fidle_jax.kernels.specs import Spec

METHODS = kernels.conv_pool_methods()
EACH_METHOD = pytest.mark.parametrize("method", METHODS)
# All methods support 3x3 at stride 1 with a pool of 2. One of the 5 rows of the convolution is unused.
COMMON = Spec((2, 7, 8, 2), (3, 3, 2, 3), (3,), window=2)


@functools.cache
def by(method):
    return functools.partial(kernels.conv_pool, method=method)


def check_integers(method, spec, dtype="float32"):
    """Compare results for small integers, many of them equal. Sums are exact, so accept one rounding."""
    subject = Subject(method, by(method), by("reference"), by("reference"), ratio=1 / FLOOR)
    measure(subject, spec, dtype, ["small integers"])


STRIDED = {"strides": (2, 1), "pool_strides": (2, 2), "padding": "same", "dilation": (2, 1)}
UNEVEN = {"window": 2, "padding": ((1, 0), (2, 1)), "activation": None}
SPECS = {
    "fused": Spec((2, 10, 8, 2), (3, 2, 2, 3), (3,), window=(2, 3), **STRIDED),
    "winograd_pool": Spec((1, 6, 8, 3), (3, 3, 3, 2), (2,), **UNEVEN),
    "winograd_1d": Spec((2, 11, 8, 2), (2, 3, 2, 2), (2,), window=(3, 2), **STRIDED),
}


@EACH_METHOD
def test_value_and_derivatives_of_integers_are_exactly_those_of_the_reference(method):
    check_integers(method, SPECS[method])


EXAMPLES = {"fused": (120, 160, 60), "winograd_pool": (20, 20, 2), "winograd_1d": (30, 60, 10)}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 2, 3])
@EACH_METHOD
def test_value_and_derivatives_of_many_cases_are_exactly_those_of_the_reference(method, rank):
    specs = drawn.conv_pool_specs(METHODS[method].supports, rank)

    @settings(max_examples=EXAMPLES[method][rank - 1])
    @given(specs, st.sampled_from(["float32", "bfloat16", "float64"]))
    def check_one(spec, dtype):
        check_integers(method, spec, dtype)

    check_one()


@EACH_METHOD
def test_a_batch_in_chunks_has_the_value_and_derivatives_of_the_reference(method, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(chunks, "SHARED_TIMES", 0)
    check_integers(method, Spec((3, *COMMON.inputs[0][1:]), *COMMON.inputs[1:], window=2))


def test_the_gradient_goes_to_the_first_of_equal_values():
    x, w = jnp.ones((1, 6, 6, 1)), jnp.ones((1, 1, 1, 1))
    total = functools.partial(kernels.conv_pool, window=3, method="fused")
    gradient = jit_once(jax.grad(lambda x: total(x, w).sum()))(x)
    expected = np.zeros((6, 6))
    expected[::3, ::3] = 1
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_the_gradient_is_zero_if_relu_returns_zero(level):
    inputs = jnp.full((1, 3, 3, 1), level), jnp.ones((2, 2, 1, 1)), jnp.zeros(1)
    gradients = jit_once(jax.grad(lambda *i: by("fused")(*i).sum(), (0, 1, 2)))(*inputs)
    chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, inputs))


@EACH_METHOD
def test_a_call_with_jit_disabled_has_the_value_of_the_reference(method):
    inputs = Spec((1, 5, 4, 1), (3, 3, 1, 2), (2,)).arrays("float32", "small integers")
    with jax.disable_jit():
        y = by(method)(*inputs)
    chex.assert_trees_all_equal(y, jit_once(by("reference"))(*inputs))


def test_unsupported_arguments_raise_an_error_and_are_supported_by_auto():
    x, w, b = COMMON.arrays("float32")
    for how, kernel in (({"activation": jnp.tanh}, w), ({"groups": 2}, w[:, :, :1, :2])):
        bias = b[: kernel.shape[-1]]
        with pytest.raises(
            ValueError, match=r"'fused' does not support these arguments\. It needs g"
        ):
            kernels.conv_pool(x, kernel, bias, method="fused", **how)
        ours = jit_once(functools.partial(kernels.conv_pool, **how))(x, kernel, bias)
        y = kernels.conv(x, kernel, groups=how.get("groups", 1), method="xla") + bias
        expected = kernels.max_pool(how.get("activation", jax.nn.relu)(y), method="xla")
        assert_close(ours, expected, 16)
