"""Apply every transformation of JAX to pooling, and to convolution with pooling, by every method."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fidle_jax import kernels
from fidle_jax.kernels.comparison import (
    FORWARD_MODE,
    REVERSE_MODE,
    assert_close,
    check_odd_numbers,
    check_transformations,
    compiled_gradients,
    compiled_programs,
    jit_once,
    value_and_gradients,
    without_effect,
)
from fidle_jax.nn import CNN, MODELS

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(3 * jax.device_count(), 7, 8, 2)), jnp.float32)
W = jnp.asarray(RNG.normal(size=(3, 3, 2, 4)), jnp.float32)
B = jnp.asarray(RNG.normal(size=4), jnp.float32)
SLOW = pytest.mark.slow  # seconds to compile


def conv_pool(x, w, *, method):
    return kernels.conv_pool(x, w, B.astype(x.dtype), method=method)


def max_pool(x, w, *, method):
    return kernels.max_pool(x, 2, method=method) * w.sum()


def avg_pool(x, w, *, method):
    return kernels.avg_pool(x, (2, 3), strides=1, padding=1, method=method) * w.sum()


# "auto" selects "slices" for these pools, and one of the other methods for the convolution.
CALLS = [
    *((conv_pool, method) for method in ("auto", "fused", "winograd_pool", "winograd_1d")),
    *((pool, "auto") for pool in (max_pool, avg_pool)),
]


def each_call(*slow):
    """Parametrize a test by call and method; these methods of `conv_pool` are slow."""
    slow = {(conv_pool, method) for method in slow}
    calls = [
        pytest.param(*each, id=f"{each[0].__name__}-{each[1]}", marks=[SLOW] * (each in slow))
        for each in CALLS
    ]
    return pytest.mark.parametrize(("call", "method"), calls)


# "auto" selects one of the methods of `conv_pool`; the pools test how it dispatches.
EACH_CALL = each_call("auto")
TRANSFORMATIONS = REVERSE_MODE | FORWARD_MODE
del TRANSFORMATIONS["linear_transpose"]  # pooling is not linear
# What the methods share is tested with these two.
SHARED = {
    *("grad of vmap over both", "jacrev", "grad of grad", "jvp of grad", "linearize"),
    *("grad of vmap over kernels", "vmap of grad (gradients of single examples)"),
}
WITH_SHARED = [(conv_pool, "fused"), (max_pool, "auto")]


def arrays(call):
    y = jax.eval_shape(functools.partial(call, method="xla"), X, W)
    return X, W, jnp.asarray(np.random.default_rng(1).normal(size=y.shape), jnp.float32)


def by_both(call, method):
    """Return the call by ``method`` and by XLA, the arrays, and the tolerance."""
    calls = (functools.partial(call, method=name) for name in (method, "xla"))
    return *calls, arrays(call), 64


def test_auto_selects_slices_for_the_pools_of_these_tests():
    for pool in (max_pool, avg_pool):
        lowered = jax.jit(functools.partial(pool, method="auto")).lower(X, W).as_text()
        assert "reduce_window" not in lowered


@each_call("auto")
def test_derivatives_and_vmap_are_those_of_xla(call, method):
    chosen = {
        name: transform
        for name, transform in TRANSFORMATIONS.items()
        if name not in SHARED or (call, method) in WITH_SHARED
    }
    check_transformations(chosen, *by_both(call, method))


@each_call("winograd_pool", "winograd_1d", "fused")
def test_checkpoint_and_shard_map_do_not_change_the_gradients(call, method):
    check_transformations(without_effect(), *by_both(call, method), plain=value_and_gradients)


@EACH_CALL
def test_gradients_on_an_explicit_mesh_are_those_of_xla(call, method):
    ours, theirs, (x, w, weights), tolerance = by_both(call, method)
    expected = jax.device_get(compiled_gradients(theirs, x, w, weights))
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, PartitionSpec("batch"))
        x, weights = jax.device_put((x, weights), sharding)
        result = compiled_gradients(ours, x, w, weights)
    assert_close(jax.device_get(result), expected, tolerance)


@EACH_CALL
def test_strict_promotion_is_supported_in_bfloat16(call, method):
    ours, theirs, inputs, _ = by_both(call, method)
    x, w, weights = (a.astype(jnp.bfloat16) for a in inputs)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        result = compiled_gradients(ours, x, w, weights)
    # Rounding to bfloat16 makes values equal, so the gradient may go to another one.
    assert_close(result[0], jit_once(theirs)(x, w), 8)


@EACH_CALL
def test_repeated_eager_calls_compile_nothing(call, method):
    ours, _, (x, w, weights), _ = by_both(call, method)

    def run():
        y, pullback = jax.vjp(ours, x, w)
        return y, pullback(weights)

    jax.block_until_ready((run(), run()))
    assert compiled_programs(run) == []


def test_compilations_are_counted():
    assert len(compiled_programs(lambda: jax.jit(lambda x: x + 12345)(1.0))) == 1


@pytest.mark.parametrize(
    ("method", "activation"),
    [
        ("fused", None),
        *((method, jax.nn.relu) for method in ("winograd_pool", "winograd_1d")),
        pytest.param("auto", jax.nn.relu, marks=SLOW),
        pytest.param("winograd_pool", None, marks=SLOW),
        pytest.param("winograd_1d", None, marks=SLOW),
    ],
)
def test_conv_pool_is_infinite_or_nan_exactly_if_the_definition_is(method, activation):
    def by(method):
        return lambda x, w: kernels.conv_pool(x, w, activation=activation, method=method)

    def sum_over_pools(x, w):
        return 4 * kernels.avg_pool(kernels.conv(x, w, method="reference"), method="reference")

    shapes = (1, 8, 8, 2), (3, 3, 2, 3)
    check_odd_numbers(by(method), by("reference"), *shapes, local=True, bound=sum_over_pools)


def test_a_fused_method_ignores_values_between_those_of_a_dilated_kernel():
    x = jnp.ones((1, 8, 8, 1)).at[0, 1, 1].set(jnp.nan)
    y = kernels.conv_pool(x, jnp.ones((2, 2, 1, 1)), dilation=3, window=1, method="fused")
    expected = kernels.conv(x, jnp.ones((2, 2, 1, 1)), dilation=3, method="reference")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))


@pytest.mark.parametrize(
    ("name", "side"),
    [("small", 12), *(pytest.param(name, 28, marks=SLOW) for name in ("cnn", "v1"))],
)
def test_the_gradient_of_a_model_under_vmap_is_that_of_its_batch(name, side):
    model = (MODELS | {"small": CNN(blocks=((3, 4),), hidden=8, dropout=(0, 0))})[name]
    images = jnp.asarray(RNG.uniform(size=(3, side, side, 1)), jnp.float32)
    variables = model.init(jax.random.key(0), images, train=False)

    def logits(variables, images):
        return model.apply(variables, images, train=False)

    def mapped(variables):
        one = jax.vmap(lambda image: logits(variables, image[None])[0])(images)
        return (one**2).sum()

    expected = jit_once(jax.grad(lambda v: (logits(v, images) ** 2).sum()))(variables)
    assert_close(jit_once(jax.grad(mapped))(variables), expected, 256)


@pytest.mark.parametrize("method", ["auto", pytest.param("im2col", marks=SLOW)])
def test_the_drop_in_for_flax_compiles_nothing_after_the_first_calls(method):
    convolve = functools.partial(kernels.conv_general_dilated, method=method)
    layer = nn.Conv(4, (3, 3), conv_general_dilated=convolve)
    x = jnp.ones((2, 9, 9, 3))
    variables = layer.init(jax.random.key(0), x)

    def run():
        return jax.value_and_grad(lambda v: layer.apply(v, x).sum())(variables)

    jax.block_until_ready((run(), run()))
    assert compiled_programs(run) == []


def test_layers_of_nnx_have_the_gradients_of_xla():
    x = RNG.normal(size=(2, 9, 9, 3)).astype(np.float32)

    def gradient(conv):
        layer = nnx.Conv(3, 4, (3, 3), conv_general_dilated=conv, rngs=nnx.Rngs(0))
        return nnx.state(nnx.grad(lambda layer: (layer(x) ** 2).sum())(layer))

    ours, theirs = map(gradient, (kernels.conv_general_dilated, jax.lax.conv_general_dilated))
    assert_close(jax.tree.leaves(ours), jax.tree.leaves(theirs), 64)


@pytest.mark.parametrize(
    ("solver", "method"),
    [
        ("bicgstab", "auto"),
        *(pytest.param("gmres", method, marks=SLOW) for method in ("auto", "winograd")),
        pytest.param("bicgstab", "im2col", marks=SLOW),
    ],
)
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
