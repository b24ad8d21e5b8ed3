import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax import kernels
from fidle_jax.kernels.checks import assert_close, jit_once

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 9, 2)), jnp.float32)
W = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 4)), jnp.float32)
B = jnp.asarray(np.random.default_rng(2).normal(size=4), jnp.float32)


@pytest.mark.parametrize("padding", ["valid", "same", 2, [(0, 1), 2]])
def test_auto_has_the_values_of_the_reference(padding):
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


def test_conv_pool_supports_no_bias_no_activation_and_overlapping_pools():
    how = {"window": 3, "pool_strides": 1, "padding": "same", "activation": None}
    parts = kernels.max_pool(kernels.conv(X, W, padding="same", method="xla"), 3, strides=1)
    assert_close(jit_once(functools.partial(kernels.conv_pool, **how))(X, W), parts, 16)


def test_all_methods_have_the_same_gradient_also_where_relu_is_at_zero():
    # The margins of a digit and the initial bias are zero, so training starts here.
    def gradients(method):
        gradient = jax.grad(lambda *i: kernels.conv_pool(*i, method=method).sum(), (0, 1, 2))
        return jax.jit(gradient)(X.at[:, :, :5].set(0), W, 0 * B)

    chex.assert_trees_all_close(gradients("fused"), gradients("xla"), atol=1e-4)


@pytest.mark.parametrize("method", ["fused", "xla"])
@pytest.mark.parametrize("narrow", range(3))
def test_inputs_are_promoted_and_each_gradient_has_the_type_of_its_input(method, narrow):
    inputs = [X, W, B]
    inputs[narrow] = inputs[narrow].astype(jnp.bfloat16)

    def value_and_gradients(*inputs):
        value, pullback = jax.vjp(lambda *i: kernels.conv_pool(*i, method=method), *inputs)
        return value, pullback(value)

    value, gradients = jax.eval_shape(value_and_gradients, *inputs)
    assert value.dtype == jnp.float32
    chex.assert_trees_all_equal_shapes_and_dtypes(gradients, tuple(inputs))


def _check_error(call, message):
    """Check that ``call`` raises a ValueError of one line."""
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["auto", *kernels.conv_methods()])
def test_a_window_larger_than_the_image_raises_an_error(method):
    image = jnp.ones((1, 2, 9, 2))
    message = "an image of 2x9 is too small for a window of 3x3; expected at least that size"
    _check_error(lambda: kernels.conv(image, W, method=method), message)


@pytest.mark.parametrize("method", ["auto", "fused", "xla"])
def test_a_pool_larger_than_the_output_of_the_convolution_raises_an_error(method):
    message = "an image of 1x7 is too small for a window of 2x2; expected at least that size"
    _check_error(lambda: kernels.conv_pool(X[:, :3], W, B, method=method), message)


@pytest.mark.parametrize("method", ["auto", "reference", "slices", "xla"])
@pytest.mark.parametrize("pool", [kernels.max_pool, kernels.avg_pool])
def test_wrong_arguments_of_a_pool_raise_an_error(pool, method):
    _check_error(
        lambda: pool(X, 10, method=method), "an image of 8x9 is too small for a window of 10x10"
    )
    _check_error(
        lambda: pool(X, (1, 2), padding=1, method=method), r"must be smaller than the window on ev"
    )
    numbers = jnp.ones((1, 4, 4, 1), jnp.complex64)
    _check_error(
        lambda: pool(numbers, method=method), "x has type complex64; it must be a real numb"
    )


def test_wrong_arguments_of_a_conv_raise_an_error():
    integers = jnp.ones((1, 4, 4, 2), jnp.int32)
    message = "the arrays have type int32; it must be a floating-point type"
    _check_error(lambda: kernels.conv(integers, W.astype(int)), message)
    _check_error(
        lambda: kernels.conv(X, W[0]), "x has 4 axes and w has 3; expected the same number"
    )
    _check_error(
        lambda: kernels.conv(X, W, groups=2), "x has 2 channels, w has 2 channels and 4 feat"
    )


@pytest.mark.parametrize("call", [kernels.conv_pool, kernels.conv])
def test_an_unknown_method_raises_an_error(call):
    _check_error(
        lambda: call(X, W, method="mine"), "unknown method 'mine'; it must be 'auto', 'refere"
    )


def test_an_unknown_method_of_pooling_raises_an_error():
    message = "unknown method 'fft'; it must be 'auto', 'reference', 'slices', 'xla'"
    _check_error(lambda: kernels.max_pool(X, method="fft"), message)


@pytest.mark.parametrize("bias", [jnp.ones(3), jnp.ones((1, 4)), 1.0], ids=["3", "1x4", "scalar"])
@pytest.mark.parametrize("method", ["auto", "fused", "im2col"])
def test_a_bias_of_another_shape_raises_an_error(bias, method):
    message = r"the bias has shape .*; it must be \(4,\), one value per feature of w"
    _check_error(lambda: kernels.conv_pool(X, W, bias, method=method), message)


NUMPY_ARGUMENTS = [
    ({"padding": np.int64(1)}, {"padding": 1}),
    ({"strides": np.array([2, 2])}, {"strides": (2, 2)}),
    ({"strides": np.int64(2)}, {"strides": 2}),
    ({"padding": np.array([[1, 0], [0, 1]])}, {"padding": ((1, 0), (0, 1))}),
    ({"strides": None}, {}),
    ({"dilation": None}, {}),
    ({"dilation": np.array([1, 2])}, {"dilation": (1, 2)}),
    ({"groups": None}, {}),
    ({"groups": np.int64(2)}, {"groups": 2}),
]


@pytest.mark.parametrize(("arguments", "expected"), NUMPY_ARGUMENTS, ids=str)
def test_arguments_may_be_none_or_of_numpy(arguments, expected):
    w = W[:, :, :1] if "groups" in expected else W
    calls = [functools.partial(kernels.conv, X, w), functools.partial(kernels.conv_pool, X, w, B)]
    if not {"groups", "dilation"} & set(arguments):
        calls.append(functools.partial(kernels.max_pool, X, np.array([2, 2])))
    compiled = jit_once(lambda: [[call(**how) for call in calls] for how in (arguments, expected)])
    chex.assert_trees_all_equal(*compiled())


def test_pooling_windows_may_be_of_numpy():
    sizes = {"window": np.array([2, 3]), "pool_strides": np.int64(1)}
    same = {"window": (2, 3), "pool_strides": 1}
    compiled = jit_once(lambda: [kernels.conv_pool(X, W, B, **how) for how in (sizes, same)])
    chex.assert_trees_all_equal(*compiled())
