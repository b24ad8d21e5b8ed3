import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax.kernels import fused, xla


def _conv_pool_xla(x, w, b, window):
    return xla.max_pool(jax.nn.relu(xla.conv(x, w) + b), window)


def _value_and_gradients(conv_pool, x, w, b, weights, window):
    value, pullback = jax.vjp(lambda *inputs: conv_pool(*inputs, window), x, w, b)
    return value, pullback(weights)


# For a program that runs once: compiling without optimization takes half the time.
_jit_once = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
_compiled = jax.jit(_value_and_gradients, static_argnums=(0, 5))
_compiled_once = _jit_once(_value_and_gradients, static_argnums=(0, 5))


def _both(x, w, b, window, run=_compiled):
    """(value, gradients of x, w and b) of some weighting of the results: fused, and XLA's."""
    pooled = [(s - k + 1) // window for s, k in zip(x.shape[1:3], w.shape[:2], strict=True)]
    weights = _whole_numbers(3, (x.shape[0], *pooled, w.shape[-1]), x.dtype)
    return tuple(
        run(conv_pool, x, w, b, weights, window) for conv_pool in (fused.conv_pool, _conv_pool_xla)
    )


def _normal(seed, shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def _whole_numbers(seed, shape, dtype=jnp.float32, largest=1):
    """Sums of these are exact in whatever order; of -1, 0 and 1 many are equal."""
    numbers = np.random.default_rng(seed).integers(-largest, largest, shape, endpoint=True)
    return jnp.asarray(numbers, dtype)


@st.composite
def problems(draw):
    """(x's shape, w's shape, window): one pooled value at least, often rows and columns left over."""
    batch, channels, features, window = (draw(st.integers(1, 3)) for _ in range(4))
    kernel = [draw(st.integers(1, 5)) for _ in range(2)]
    size = [side + window - 1 + draw(st.integers(0, 4)) for side in kernel]
    return (batch, *size, channels), (*kernel, channels, features), window


@settings(max_examples=6)
@given(problems())
def test_value_and_gradients_of_any_shape_are_exactly_those_of_xla(problem):
    x_shape, w_shape, window = problem
    x, w, b = (_whole_numbers(i, shape) for i, shape in enumerate((x_shape, w_shape, w_shape[-1:])))
    ours, theirs = _both(x, w, b, window, run=_compiled_once)
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    chex.assert_trees_all_equal(ours, theirs)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_value_and_gradients_of_any_numbers_are_exactly_those_of_xla(seed):
    shapes = [(3, 10, 9, 2), (3, 2, 2, 4), (4,)]
    inputs = [_whole_numbers(seed + i, shape, largest=50) for i, shape in enumerate(shapes)]
    chex.assert_trees_all_equal(*_both(*inputs, 2))


def test_bfloat16_is_exact_on_small_whole_numbers():
    shapes = [(2, 6, 6, 1), (2, 3, 1, 2), (2,), (2, 2, 2, 2)]
    inputs = [_whole_numbers(i, shape) for i, shape in enumerate(shapes)]
    small, wide = (
        _compiled_once(fused.conv_pool, *(x.astype(dtype) for x in inputs), 2)
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(small)} == {jnp.dtype(jnp.bfloat16)}
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x.astype(jnp.float32), small), wide)


def test_of_equal_values_exactly_the_first_gets_the_gradient():
    x, w, b = jnp.ones((1, 6, 6, 1)), jnp.ones((1, 1, 1, 1)), jnp.zeros(1)
    gradient = _jit_once(jax.grad(lambda x: fused.conv_pool(x, w, b, 3).sum()))(x)
    expected = np.zeros((6, 6))
    expected[::3, ::3] = 1
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


def test_where_relu_holds_a_value_at_zero_no_gradient_flows():
    w, b, weights = jnp.ones((2, 2, 1, 1)), jnp.zeros(1), jnp.ones((1, 1, 1, 1))
    for x in (jnp.zeros((1, 3, 3, 1)), -jnp.ones((1, 3, 3, 1))):
        _, gradients = _compiled(fused.conv_pool, x, w, b, weights, 2)
        chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, gradients))


def test_bfloat16_is_near_float32():
    inputs = [
        _normal(i, s, jnp.bfloat16) for i, s in enumerate([(4, 12, 11, 3), (3, 3, 3, 5), (5,)])
    ]
    call = _jit_once(functools.partial(fused.conv_pool, window=2))
    value, expected = call(*inputs), call(*(x.astype(jnp.float32) for x in inputs))
    chex.assert_trees_all_close(value.astype(jnp.float32), expected, atol=0.1, rtol=0.02)


def test_float64_is_computed_in_float64():
    with jax.enable_x64(True):
        inputs = (
            _normal(0, (2, 7, 8, 2), jnp.float64),
            _normal(1, (3, 2, 2, 3), jnp.float64),
            _normal(2, (3,), jnp.float64),
        )
        ours, theirs = _both(*inputs, 2)
        chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
        chex.assert_trees_all_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_an_empty_batch_gives_an_empty_result_and_gradients_of_zero():
    w, b = _normal(0, (3, 3, 1, 2)), _normal(1, (2,))
    value, gradients = _both(jnp.zeros((0, 8, 8, 1)), w, b, 2)[0]
    chex.assert_shape(value, (0, 3, 3, 2))
    chex.assert_trees_all_equal(gradients, (jnp.zeros((0, 8, 8, 1)), 0 * w, 0 * b))


def test_vmap_over_kernels_is_one_call_for_each():
    x, ws, bs = _normal(0, (2, 7, 7, 2)), _normal(1, (3, 3, 3, 2, 4)), _normal(2, (3, 4))
    call = functools.partial(fused.conv_pool, window=2)
    mapped = _jit_once(jax.vmap(call, in_axes=(None, 0, 0)))(x, ws, bs)
    alone = jnp.stack([_jit_once(call)(x, w, b) for w, b in zip(ws, bs, strict=True)])
    chex.assert_trees_all_close(mapped, alone, atol=1e-5)


def test_gradients_of_single_images_by_vmap_sum_to_those_of_the_batch():
    x, w, b = _normal(0, (4, 6, 7, 1)), _normal(1, (3, 3, 1, 2)), _normal(2, (2,))
    gradient = jax.grad(lambda w, b, x: fused.conv_pool(x, w, b, 2).sum(), (0, 1))
    singles = _jit_once(jax.vmap(gradient, in_axes=(None, None, 0)))(w, b, x[:, None])
    summed = jax.tree.map(lambda leaf: leaf.sum(0), singles)
    chex.assert_trees_all_close(summed, _jit_once(gradient)(w, b, x), atol=1e-4)


def test_descent_in_a_compiled_loop_takes_the_steps_taken_one_by_one():
    x, w, b = _normal(0, (3, 6, 6, 1)), _normal(1, (3, 3, 1, 2)), jnp.ones(2)
    gradient = jax.grad(lambda params: fused.conv_pool(x, *params, 2).mean())

    def step(_, params):
        return jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, params, gradient(params))

    looped = _jit_once(lambda params: jax.lax.fori_loop(0, 3, step, params))((w, b))
    params, compiled_step = (w, b), _jit_once(step)
    for i in range(3):
        params = compiled_step(i, params)
    assert not np.allclose(params[0], w)
    chex.assert_trees_all_close(looped, params, atol=1e-5)
