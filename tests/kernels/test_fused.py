import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from fidle_jax import kernels
from fidle_jax.kernels import chunks
from fidle_jax.kernels.comparison import assert_close, jit_once
from tests.kernels.pooling_cases import (
    ACTIVATIONS,
    COMMON,
    ConvPoolCase,
    check,
    conv_pool_cases,
    value_and_gradients,
)

# On integers, all methods compute with integers and halves only, so they are exact.
EACH_METHOD = pytest.mark.parametrize("method", sorted(kernels.conv_pool_methods()))
# Other transformations are tested in test_transformations.py.


CASES = {
    "one axis": ConvPoolCase((2, 9, 2), (3, 2, 3), 2, (1,), 2, "same", 2),
    "two axes": ConvPoolCase((2, 7, 8, 2), (3, 2, 2, 3), (2, 3), None, (2, 1), ((1, 0), (0, 2))),
    "blocks": ConvPoolCase((1, 9, 8, 1), (3, 1, 1, 2), 2, (2, 1), padding=1, activation="none"),
    "bfloat16": ConvPoolCase((2, 6, 7, 3), (2, 3, 3, 1), (3, 1), (1, 2), dtype="bfloat16"),
    "float64": ConvPoolCase((1, 9, 7, 2), (2, 2, 2, 2), (3, 2), padding=1, dtype="float64"),
    "three axes": ConvPoolCase((1, 4, 5, 4, 2), (2, 3, 1, 2, 2), (1, 2, 2), padding="same"),
}


SLOW_CASES = ("blocks", "three axes")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW_CASES)) for name in CASES],
)
def test_value_and_gradients_of_integers_are_exactly_those_of_the_reference(name):
    check("fused", CASES[name])


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "examples"), [(1, 120), (2, 160), (3, 60)])
def test_value_and_gradients_of_many_cases_are_exactly_those_of_the_reference(rank, examples):
    @settings(max_examples=examples)
    @given(conv_pool_cases(rank))
    def check_one(case):
        check("fused", case)
        check("xla", case)

    check_one()


@EACH_METHOD
def test_a_batch_in_chunks_has_the_value_and_gradients_of_the_reference(method, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(chunks, "SHARED_TIMES", 0)
    check(method, dataclasses.replace(COMMON, x_shape=(3, 7, 8, 2)))


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        ("fused", "bfloat16"),
        ("fused", "float32"),
        ("fused", "float64"),
        ("winograd_pool", "float32"),
        ("winograd_1d", "float32"),
    ],
)
def test_results_on_normal_numbers_are_within_a_few_roundings_of_the_reference(method, dtype):
    case = dataclasses.replace(COMMON, dtype=dtype)
    with jax.enable_x64(dtype == "float64"):
        inputs = case.normal_numbers()
        ours, theirs = (
            value_and_gradients(call, *inputs) for call in (case.by(method), case.reference)
        )
        # Rounding to bfloat16 makes values equal, so another one may be the first.
        part = 0 if dtype == "bfloat16" else slice(None)
        assert_close(ours[part], theirs[part], 16)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@EACH_METHOD
def test_forward_mode_is_that_of_the_reference_even_if_values_are_equal(method, activation):
    case = dataclasses.replace(COMMON, activation=activation)
    primals = case.integers()
    tangents = [1 - 2 * a for a in primals]
    ours, theirs = (
        jit_once(functools.partial(jax.jvp, call))(primals, tangents)
        for call in (case.by(method), case.reference)
    )
    chex.assert_trees_all_equal(ours, theirs)


@EACH_METHOD
def test_second_derivatives_are_those_of_the_reference(method):
    def twice(call):
        def slopes(*inputs):
            return jax.grad(lambda *inputs: (call(*inputs) ** 2).sum(), (0, 1, 2))(*inputs)

        return jit_once(lambda *inputs: jax.vjp(slopes, *inputs)[1](inputs))

    inputs = tuple(COMMON.normal_numbers())
    assert_close(twice(COMMON.by(method))(*inputs), twice(COMMON.reference)(*inputs), 16)


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
    call = functools.partial(kernels.conv_pool, method="fused")
    gradients = jit_once(jax.grad(lambda *inputs: call(*inputs).sum(), (0, 1, 2)))(*inputs)
    chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, inputs))


@EACH_METHOD
def test_an_empty_batch_has_an_empty_result_and_zero_gradients(method):
    case = dataclasses.replace(COMMON, x_shape=(0, 8, 8, 2))
    x, w, b = case.normal_numbers()
    value, gradients = value_and_gradients(case.by(method), x, w, b)
    chex.assert_shape(value, (0, 3, 3, 3))
    chex.assert_trees_all_equal(gradients, (x, 0 * w, 0 * b))


@EACH_METHOD
def test_a_call_outside_of_jit_has_the_value_and_gradients_of_the_reference(method):
    inputs = COMMON.integers()
    value, pullback = jax.vjp(COMMON.by(method), *inputs)
    weights = jnp.asarray(np.random.default_rng(1).integers(-2, 3, value.shape), value.dtype)
    expected = value_and_gradients(COMMON.reference, *inputs)
    chex.assert_trees_all_equal((value, pullback(weights)), expected)


@EACH_METHOD
def test_a_call_with_jit_disabled_has_the_value_of_the_reference(method):
    x, w, b = dataclasses.replace(COMMON, x_shape=(1, 5, 4, 1), w_shape=(3, 3, 1, 2)).integers()
    with jax.disable_jit():
        y = COMMON.by(method)(x, w, b)
    chex.assert_trees_all_equal(y, jit_once(COMMON.reference)(x, w, b))


def test_unsupported_arguments_raise_an_error_and_are_supported_by_auto():
    x, w, b = COMMON.normal_numbers()
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
