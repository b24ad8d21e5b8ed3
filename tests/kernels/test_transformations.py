"""Every transformation of JAX applied to pooling, and to convolution with pooling, by every method."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fidle_jax import kernels
from fidle_jax.kernels.testing import (
    FORWARD_MODE,
    REVERSE_MODE,
    assert_close,
    check_odd_numbers,
    checkpointed,
    compiled_programs,
    jit_once,
    value_and_gradients,
    without_policies,
)
from fidle_jax.nn import MODELS

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(3, 7, 8, 2)), jnp.float32)
W = jnp.asarray(RNG.normal(size=(3, 3, 2, 4)), jnp.float32)
B = jnp.asarray(RNG.normal(size=4), jnp.float32)
SLOW = pytest.mark.slow  # seconds to compile


def conv_pool(x, w, *, method):
    return kernels.conv_pool(x, w, B.astype(x.dtype), method=method)


def max_pool(x, w, *, method):
    return kernels.max_pool(x, 2, method=method) * w.sum()


def avg_pool(x, w, *, method):
    return kernels.avg_pool(x, (2, 3), strides=1, padding=1, method=method) * w.sum()


CALLS = [
    *((conv_pool, method) for method in ("auto", "fused", "winograd_pool", "winograd_1d")),
    *((pool, method) for pool in (max_pool, avg_pool) for method in ("auto", "tiles")),
]
EACH_CALL = pytest.mark.parametrize(
    ("call", "method"),
    [*CALLS, pytest.param(conv_pool, "winograd_pool_4", marks=SLOW)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
TOLERANCES = {"winograd_pool_4": 256}
NONLINEAR = REVERSE_MODE | {
    name: transform for name, transform in FORWARD_MODE.items() if name != "linear_transpose"
}
# What "auto" and "fused" share with the others is tested with these two only.
SHARED = {"grad of vmap over both", "jacrev", "grad of grad", "jvp of grad", "linearize"}


def arrays(call, x=X):
    y = jax.eval_shape(functools.partial(call, method="xla"), x, W)
    weights = np.random.default_rng(1).normal(size=y.shape)
    return x, W, jnp.asarray(weights, jnp.float32)


def compare(transform, call, method, plain=None):
    ours, theirs = (functools.partial(call, method=name) for name in (method, "xla"))
    inputs = arrays(call)
    expected = jit_once((plain or transform)(theirs))(*inputs)
    assert_close(jit_once(transform(ours))(*inputs), expected, TOLERANCES.get(method, 64))


@EACH_CALL
@pytest.mark.parametrize("name", NONLINEAR)
def test_derivatives_and_vmap_are_those_of_xla(call, method, name):
    if name in SHARED and (call, method) not in [(conv_pool, "fused"), (max_pool, "auto")]:
        pytest.skip("shared by all methods, tested with one of them")
    compare(NONLINEAR[name], call, method)


@EACH_CALL
def test_checkpoint_policies_do_not_change_the_gradients(call, method):
    compare(checkpointed, call, method, plain=without_policies)


@EACH_CALL
def test_gradients_through_and_inside_of_shard_map_are_those_of_xla(call, method):
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
    parts, whole = PartitionSpec("batch"), PartitionSpec()
    x, w, weights = (
        jnp.concatenate([a] * jax.device_count())
        if a.ndim == 4 and a.shape[0] == 3 and a is not W
        else a
        for a in arrays(call)
    )
    ours, theirs = (functools.partial(call, method=name) for name in (method, "xla"))

    def inside(x, w, weights):
        return value_and_gradients(ours)(x, w, weights)[1][1]

    through = jax.shard_map(ours, mesh=mesh, in_specs=(parts, whole), out_specs=parts)
    inside = jax.shard_map(inside, mesh=mesh, in_specs=(parts, whole, parts), out_specs=whole)
    expected = jit_once(value_and_gradients(theirs))(x, w, weights)
    tolerance = TOLERANCES.get(method, 64)
    assert_close(jit_once(value_and_gradients(through))(x, w, weights), expected, tolerance)
    assert_close(jit_once(inside)(x, w, weights), expected[1][1], tolerance)


@EACH_CALL
def test_arrays_may_be_sharded_over_an_explicit_mesh(call, method):
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(AxisType.Explicit,))
    x, w, weights = arrays(call)
    ours, theirs = (functools.partial(call, method=name) for name in (method, "xla"))
    expected = jax.device_get(jit_once(value_and_gradients(theirs))(x, w, weights))
    with jax.set_mesh(mesh):
        spread = NamedSharding(mesh, PartitionSpec("batch"))
        x, weights = jax.device_put((x, weights), spread)
        result = jit_once(value_and_gradients(ours))(x, w, weights)
    assert_close(jax.device_get(result), expected, TOLERANCES.get(method, 64))


@EACH_CALL
def test_strict_promotion_is_respected_in_bfloat16(call, method):
    x, w, weights = (a.astype(jnp.bfloat16) for a in arrays(call))
    ours, theirs = (functools.partial(call, method=name) for name in (method, "xla"))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        result = jit_once(value_and_gradients(ours))(x, w, weights)
    # Values that differ before rounding may be equal after it: another one is the first then.
    assert_close(result[0], jit_once(theirs)(x, w), 8)


@EACH_CALL
def test_repeated_eager_calls_compile_nothing(call, method):
    x, w, weights = arrays(call)

    def run():
        y, pullback = jax.vjp(functools.partial(call, method=method), x, w)
        return y, pullback(weights)

    jax.block_until_ready((run(), run()))
    assert compiled_programs(run) == []


def test_compilations_are_counted():
    number = len(compiled_programs(lambda: jax.jit(lambda x: x + 12345)(1.0)))
    assert number == 1


@pytest.mark.parametrize("activation", [jax.nn.relu, None])
@pytest.mark.parametrize(
    ("method", "local"),
    [
        *((method, True) for method in ("auto", "fused", "winograd_pool", "winograd_1d")),
        pytest.param("winograd_pool_4", False, marks=SLOW),
    ],
)
def test_conv_pool_is_infinite_or_nan_exactly_where_the_definition_is(method, local, activation):
    def by(method):
        return lambda x, w: kernels.conv_pool(x, w, activation=activation, method=method)

    def sum_over_pools(x, w):
        return 4 * kernels.avg_pool(kernels.conv(x, w, method="reference"), method="reference")

    shapes = (1, 8, 8, 2), (3, 3, 2, 3)
    check_odd_numbers(by(method), by("reference"), *shapes, local=local, bound=sum_over_pools)


def test_a_fused_method_ignores_values_between_the_windows_of_a_dilated_kernel():
    x = jnp.ones((1, 8, 8, 1)).at[0, 1, 1].set(jnp.nan)
    y = kernels.conv_pool(x, jnp.ones((2, 2, 1, 1)), dilation=3, window=1, method="fused")
    expected = kernels.conv(x, jnp.ones((2, 2, 1, 1)), dilation=3, method="reference")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))


@pytest.mark.parametrize("name", ["cnn", "v1"])
def test_the_gradient_of_a_model_under_vmap_is_that_of_its_batch(name):
    model = MODELS[name]
    images = jnp.asarray(RNG.uniform(size=(3, 28, 28, 1)), jnp.float32)
    variables = model.init(jax.random.key(0), images, train=False)

    def logits(variables, images):
        return model.apply(variables, images, train=False)

    def mapped(variables):
        one = jax.vmap(lambda image: logits(variables, image[None])[0])(images)
        return (one**2).sum()

    expected = jit_once(jax.grad(lambda v: (logits(v, images) ** 2).sum()))(variables)
    assert_close(jit_once(jax.grad(mapped))(variables), expected, 256)


@pytest.mark.parametrize("method", ["auto", "im2col"])
def test_the_drop_in_for_flax_compiles_nothing_from_the_second_call_on(method):
    convolve = functools.partial(kernels.conv_general_dilated, method=method)
    layer = nn.Conv(4, (3, 3), conv_general_dilated=convolve)
    x = jnp.ones((2, 9, 9, 3))
    variables = layer.init(jax.random.key(0), x)

    def run():
        return jax.value_and_grad(lambda v: layer.apply(v, x).sum())(variables)

    jax.block_until_ready((run(), run()))
    assert compiled_programs(run) == []


@pytest.mark.parametrize("solver", ["gmres", "bicgstab"])
@pytest.mark.parametrize("method", ["auto", "winograd", "im2col"])
def test_gradients_go_through_a_linear_solver_whose_operator_is_a_convolution(solver, method):
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(3.0) + 0.1 * W[:, :, :1, :1]
    image = X[:1, :5, :5, :1]

    def loss(kernel, image, method):
        def operator(x):
            return kernels.conv(x, kernel, padding="same", method=method)

        solve = getattr(jax.scipy.sparse.linalg, solver)
        solution, _ = solve(operator, image, tol=1e-6)
        return (solution**2).sum()

    gradient = jit_once(jax.grad(loss, (0, 1)), static_argnums=2)
    ours, theirs = (gradient(kernel, image, name) for name in (method, "xla"))
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-3)
