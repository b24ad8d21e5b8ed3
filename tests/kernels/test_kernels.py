import functools
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax import kernels
from fidle_jax.kernels.testing import assert_close, jit_once

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 9, 2)), jnp.float32)
W = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 4)), jnp.float32)
B = jnp.asarray(np.random.default_rng(2).normal(size=4), jnp.float32)


@pytest.mark.parametrize("padding", ["valid", "same", 2, [(0, 1), 2]])
def test_auto_is_the_reference(padding):
    def everything(method):
        how = {"strides": 2, "padding": padding, "method": method}
        pools = [pool(X, 3, method=method) for pool in (kernels.max_pool, kernels.avg_pool)]
        return kernels.conv(X, W, **how), *pools

    ours, theirs = (jit_once(everything, static_argnums=0)(m) for m in ("auto", "reference"))
    assert_close(ours, theirs, 16)


@pytest.mark.parametrize("method", ["auto", "im2col", "xla", *kernels.conv_pool_methods()])
def test_conv_pool_is_conv_bias_relu_and_max_pool(method):
    parts = kernels.max_pool(jax.nn.relu(kernels.conv(X, W, method="xla") + B), 2, method="xla")
    call = functools.partial(kernels.conv_pool, method=method)
    assert_close(jit_once(call)(X, W, B), parts, 16)


def test_conv_pool_may_have_no_bias_and_no_activation_and_overlapping_pools():
    how = {"window": 3, "pool_strides": 1, "padding": "same", "activation": None}
    parts = kernels.max_pool(kernels.conv(X, W, padding="same", method="xla"), 3, strides=1)
    assert_close(jit_once(functools.partial(kernels.conv_pool, **how))(X, W), parts, 16)


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


def _refused(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["auto", *kernels.conv_methods()])
def test_a_window_larger_than_the_image_is_named(method):
    image = jnp.ones((1, 2, 9, 2))
    message = "an image of 2x9 is too small for a window of 3x3; expected at least that size"
    _refused(lambda: kernels.conv(image, W, method=method), message)


@pytest.mark.parametrize("method", ["auto", "fused", "xla"])
def test_a_pooling_window_larger_than_what_the_convolution_leaves_is_named(method):
    message = "an image of 1x7 is too small for a window of 2x2; expected at least that size"
    _refused(lambda: kernels.conv_pool(X[:, :3], W, B, method=method), message)


@pytest.mark.parametrize("method", ["auto", "reference", "tiles", "xla"])
@pytest.mark.parametrize("pool", [kernels.max_pool, kernels.avg_pool])
def test_what_a_pool_does_not_take_is_named(pool, method):
    _refused(
        lambda: pool(X, 10, method=method), "an image of 8x9 is too small for a window of 10x10"
    )
    _refused(
        lambda: pool(X, (1, 2), padding=1, method=method), r"expected less than the window on every"
    )
    whole = jnp.ones((1, 4, 4, 1), jnp.int32)
    _refused(lambda: pool(whole, method=method), "x of int32; expected a floating-point type")


def test_what_a_conv_does_not_take_is_named():
    whole = jnp.ones((1, 4, 4, 2), jnp.int32)
    _refused(lambda: kernels.conv(whole, W.astype(int)), "arrays of int32; expected a floating-poi")
    _refused(lambda: kernels.conv(X, W[0]), "x of 4 axes and w of 3; expected the same number")
    _refused(lambda: kernels.conv(X, W, groups=2), "x of 2 channels and w of 2 channels and 4 feat")


@pytest.mark.parametrize("call", [kernels.conv_pool, kernels.conv])
def test_an_unknown_method_is_named(call):
    _refused(lambda: call(X, W, method="mine"), "unknown method 'mine'; expected 'auto', 'referen")


def test_an_unknown_method_of_pooling_is_named():
    message = "unknown method 'fft'; expected 'auto', 'reference', 'tiles', 'xla'"
    _refused(lambda: kernels.max_pool(X, method="fft"), message)


def test_importing_the_kernels_imports_nothing_but_jax_and_what_jax_needs():
    program = """
import sys, jax, jax.numpy
def packages(): return {name.partition(".")[0] for name in sys.modules}
jax_needs = packages()
import fidle_jax.kernels
print(sorted(packages() - jax_needs - sys.stdlib_module_names - {"fidle_jax"}))
"""
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
