import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax import kernels
from fidle_jax.kernels.testing import assert_close, jit_once

ACTIVATIONS = {"relu": jax.nn.relu, "none": None}


@dataclasses.dataclass(frozen=True)
class Case:
    """A convolution and pooling: shapes, type, and arguments by name."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    conv: tuple[tuple[str, object], ...] = ()
    window: int | tuple[int, ...] = 2
    pool_strides: tuple[int, ...] | None = None
    activation: str = "relu"
    dtype: str = "float32"

    def whole_numbers(self):
        """x, w and b of -1, 0 and 1: sums are exact in whatever order, and many are equal."""
        rng = np.random.default_rng(0)
        shapes = self.x_shape, self.w_shape, self.w_shape[-1:]
        return [jnp.asarray(rng.integers(-1, 2, shape), self.dtype) for shape in shapes]

    def normal_numbers(self):
        rng = np.random.default_rng(0)
        shapes = self.x_shape, self.w_shape, self.w_shape[-1:]
        return [jnp.asarray(rng.normal(size=shape), self.dtype) for shape in shapes]

    def by(self, method):
        """(x, w, b) -> the pooled values."""
        return functools.partial(
            kernels.conv_pool,
            window=self.window,
            pool_strides=self.pool_strides,
            activation=ACTIVATIONS[self.activation],
            method=method,
            **dict(self.conv),
        )

    def reference(self, x, w, b):
        """The same, one after the other as they are defined."""
        y = kernels.conv(x, w, method="reference", **dict(self.conv)) + b
        y = (ACTIVATIONS[self.activation] or (lambda y: y))(y)
        return kernels.max_pool(y, self.window, strides=self.pool_strides, method="reference")


USUAL = Case((2, 7, 8, 2), (3, 3, 2, 3))


@st.composite
def cases(draw, rank):
    """One pooled value at least, often rows and columns left over."""

    def sizes(largest):
        return tuple(draw(st.integers(1, largest)) for _ in range(rank))

    window, size = sizes(3), sizes(3)
    strides, dilation = (
        draw(st.just((1,) * rank) | st.tuples(*[st.integers(1, 2)] * rank)) for _ in "sd"
    )
    pool_strides = draw(st.none() | st.tuples(*[st.integers(1, 3)] * rank))
    span = [
        (k - 1) * d + (p - 1) * s + 1
        for k, d, p, s in zip(size, dilation, window, strides, strict=True)
    ]
    pair = st.tuples(*[st.integers(0, 2)] * 2)
    padding = draw(st.sampled_from(["valid", 1]) | st.tuples(*[pair] * rank))
    spatial = [k + draw(st.integers(0, 4)) for k in span]
    if all(n >= (p - 1) * s + 1 for n, p, s in zip(spatial, window, strides, strict=True)):
        padding = draw(st.sampled_from([padding, "same"]))
    batch, channels, features = (draw(st.integers(1, 3)) for _ in range(3))
    return Case(
        (batch, *spatial, channels),
        (*size, channels, features),
        (("strides", strides), ("padding", padding), ("dilation", dilation)),
        window,
        pool_strides,
        draw(st.sampled_from(list(ACTIVATIONS))),
        draw(st.sampled_from(["float32", "bfloat16", "float64"])),
    )


def _value_and_gradients(call, *inputs):
    """Gradients are those of a weighted sum, the weights small whole numbers."""
    value, pullback = jax.vjp(call, *inputs)
    weights = np.random.default_rng(1).integers(-2, 3, value.shape)
    return value, pullback(jnp.asarray(weights, value.dtype))


_once = jit_once(_value_and_gradients, static_argnums=0)
RANKS = {1: 6, 2: 8, 3: 3}


def _check(case, methods=("fused",)):
    with jax.enable_x64(case.dtype == "float64"):
        inputs = case.whole_numbers()
        expected = _once(case.reference, *inputs)
        for method in methods:
            ours = _once(case.by(method), *inputs)
            chex.assert_trees_all_equal_shapes_and_dtypes(ours, expected)
            chex.assert_trees_all_equal(ours, expected, custom_message=f"{method} on {case}")


@pytest.mark.parametrize("rank", RANKS)
def test_value_and_gradients_of_whole_numbers_are_exactly_those_of_the_reference(rank):
    @settings(max_examples=RANKS[rank], derandomize=True)
    @given(cases(rank))
    def check(case):
        _check(case)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("rank", RANKS)
def test_value_and_gradients_of_many_more_are_exactly_those_of_the_reference(rank):
    @settings(max_examples=20 * RANKS[rank])
    @given(cases(rank))
    def check(case):
        _check(case, ("fused", "xla"))

    check()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_normal_numbers_are_within_a_few_roundings_of_the_reference(dtype):
    case = dataclasses.replace(USUAL, dtype=dtype)
    with jax.enable_x64(dtype == "float64"):
        inputs = case.normal_numbers()
        ours, theirs = (_once(call, *inputs) for call in (case.by("fused"), case.reference))
        # In bfloat16, values that were not equal before rounding are equal after: another is first.
        part = 0 if dtype == "bfloat16" else slice(None)
        assert_close(ours[part], theirs[part], 16)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_mode_is_that_of_the_reference_where_values_are_equal_too(activation):
    case = dataclasses.replace(USUAL, activation=activation)
    primals = case.whole_numbers()
    tangents = [1 - 2 * a for a in primals]
    ours, theirs = (
        jit_once(functools.partial(jax.jvp, call))(primals, tangents)
        for call in (case.by("fused"), case.reference)
    )
    chex.assert_trees_all_equal(ours, theirs)


def test_second_derivatives_are_those_of_the_reference():
    def twice(call):
        def slopes(*inputs):
            return jax.grad(lambda *inputs: (call(*inputs) ** 2).sum(), (0, 1, 2))(*inputs)

        return jit_once(lambda *inputs: jax.vjp(slopes, *inputs)[1](inputs))

    inputs = tuple(USUAL.normal_numbers())
    assert_close(twice(USUAL.by("fused"))(*inputs), twice(USUAL.reference)(*inputs), 16)


def test_of_equal_values_exactly_the_first_gets_the_gradient():
    x, w = jnp.ones((1, 6, 6, 1)), jnp.ones((1, 1, 1, 1))
    total = functools.partial(kernels.conv_pool, window=3, method="fused")
    gradient = jit_once(jax.grad(lambda x: total(x, w).sum()))(x)
    expected = np.zeros((6, 6))
    expected[::3, ::3] = 1
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_where_relu_holds_a_value_at_zero_no_gradient_flows(level):
    inputs = jnp.full((1, 3, 3, 1), level), jnp.ones((2, 2, 1, 1)), jnp.zeros(1)
    call = functools.partial(kernels.conv_pool, method="fused")
    value, pullback = jax.vjp(call, *inputs)
    gradients = pullback(jnp.ones_like(value))
    chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, inputs))


def test_an_empty_batch_gives_an_empty_result_and_gradients_of_zero():
    case = dataclasses.replace(USUAL, x_shape=(0, 8, 8, 2))
    x, w, b = case.normal_numbers()
    value, gradients = _once(case.by("fused"), x, w, b)
    chex.assert_shape(value, (0, 3, 3, 3))
    chex.assert_trees_all_equal(gradients, (x, 0 * w, 0 * b))


def test_vmap_over_kernels_is_one_call_for_each():
    x, w, b = USUAL.normal_numbers()
    ws, bs = jnp.stack([w, 1 - w]), jnp.stack([b, 1 - b])
    call = USUAL.by("fused")
    mapped = jit_once(jax.vmap(call, in_axes=(None, 0, 0)))(x, ws, bs)
    alone = jnp.stack([jit_once(call)(x, w, b) for w, b in zip(ws, bs, strict=True)])
    assert_close(mapped, alone, 16)


def test_gradients_of_single_images_by_vmap_sum_to_those_of_the_batch():
    x, w, b = USUAL.normal_numbers()
    call = USUAL.by("fused")
    gradient = jax.grad(lambda w, b, x: call(x, w, b).sum(), (0, 1))
    singles = jit_once(jax.vmap(gradient, in_axes=(None, None, 0)))(w, b, x[:, None])
    summed = jax.tree.map(lambda leaf: leaf.sum(0), singles)
    assert_close(summed, jit_once(gradient)(w, b, x), 16)


def test_descent_in_a_compiled_loop_takes_the_steps_taken_one_by_one():
    x, w, b = USUAL.normal_numbers()
    call = USUAL.by("fused")
    gradient = jax.grad(lambda params: call(x, *params).mean())

    def step(params, _):
        return jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, params, gradient(params)), None

    looped, _ = jit_once(lambda params: jax.lax.scan(step, params, length=3))((w, b))
    params, compiled_step = (w, b), jit_once(step)
    for _ in range(3):
        params, _ = compiled_step(params, None)
    assert not np.allclose(params[0], w)
    assert_close(looped, params, 16)


def test_what_it_does_not_do_is_refused_and_done_otherwise_by_auto():
    x, w, b = USUAL.normal_numbers()
    for how, kernel in (({"activation": jnp.tanh}, w), ({"groups": 2}, w[:, :, :1, :2])):
        bias = b[: kernel.shape[-1]]
        with pytest.raises(ValueError, match=r"'fused' takes one group, and jax.nn.relu or None"):
            kernels.conv_pool(x, kernel, bias, method="fused", **how)
        ours = kernels.conv_pool(x, kernel, bias, **how)
        y = kernels.conv(x, kernel, groups=how.get("groups", 1), method="reference") + bias
        expected = kernels.max_pool(how.get("activation", jax.nn.relu)(y), method="reference")
        assert_close(ours, expected, 16)
