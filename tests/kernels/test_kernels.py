import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax import kernels

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 9, 2)), jnp.float32)
W = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 4)), jnp.float32)
B = jnp.asarray(np.random.default_rng(2).normal(size=4), jnp.float32)


def test_conv_pool_is_conv_bias_relu_and_max_pool():
    parts = kernels.max_pool(jax.nn.relu(kernels.conv(X, W) + B), 2)
    for method in ("auto", "fused", "xla"):
        chex.assert_trees_all_close(kernels.conv_pool(X, W, B, method=method), parts, atol=1e-5)


def test_all_methods_have_one_gradient_even_where_relu_sits_at_zero():
    # The margins of a digit are zero, and so is the first bias: this is where training begins.
    def gradients(method):
        gradient = jax.grad(lambda *i: kernels.conv_pool(*i, method=method).sum(), (0, 1, 2))
        return jax.jit(gradient)(X.at[:, :, :5].set(0), W, 0 * B)

    chex.assert_trees_all_close(gradients("fused"), gradients("xla"), atol=1e-4)


@pytest.mark.parametrize("method", ["fused", "xla"])
@pytest.mark.parametrize("narrow", range(3))
def test_inputs_of_two_types_are_promoted_and_each_gradient_has_its_inputs_type(method, narrow):
    inputs = [X, W, B]
    inputs[narrow] = inputs[narrow].astype(jnp.bfloat16)

    def value_and_gradients(*inputs):
        value, pullback = jax.vjp(lambda *i: kernels.conv_pool(*i, method=method), *inputs)
        return value, pullback(value)

    value, gradients = jax.eval_shape(value_and_gradients, *inputs)
    assert value.dtype == jnp.float32
    chex.assert_trees_all_equal_shapes_and_dtypes(gradients, tuple(inputs))


@pytest.mark.parametrize("method", ["auto", "fused", "xla"])
@pytest.mark.parametrize(("side", "kernel", "window"), [(3, 5, 2), (1, 5, 1), (3, 3, 2)])
def test_images_too_small_for_one_pooled_value_are_named(method, side, kernel, window):
    low, tall = X[:, :side], jnp.ones((kernel, 1, 2, 4))
    needed = kernel + window - 1
    with pytest.raises(ValueError, match=f"of {side}x9 are .*; expected {needed}x{window} at"):
        kernels.conv_pool(low, tall, B, window=window, method=method)
    narrow, wide = (jnp.swapaxes(low, 1, 2), jnp.swapaxes(tall, 0, 1))
    with pytest.raises(ValueError, match=f"of 9x{side} are .*; expected {window}x{needed} at"):
        kernels.conv_pool(narrow, wide, B, window=window, method=method)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="unknown method 'fft'; expected 'auto', 'fused' or 'xla'"):
        kernels.conv_pool(X, W, B, method="fft")


def test_importing_the_kernels_imports_no_other_library_of_the_project():
    heavy = ["flax", "optax", "orbax", "sklearn", "matplotlib", "tensorflow_datasets"]
    program = f"import sys, fidle_jax.kernels; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
