"""Compare pooling, also after a convolution, with its definition; transform models and solvers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from fidle_jax import kernels
from fidle_jax.kernels.checks import assert_close, compiled_programs, jit_once
from fidle_jax.kernels.testing import ConvPoolComparison, PoolComparison, Spec
from fidle_jax.nn import CNN, MODELS

RNG = np.random.default_rng(0)
SLOW = pytest.mark.slow  # seconds to compile


class TestFused(ConvPoolComparison):
    method = "fused"


@pytest.mark.slow
class TestWinogradPool(ConvPoolComparison):
    method, mixed, ratio = "winograd_pool", "w", 4


@pytest.mark.slow
class TestWinograd1d(ConvPoolComparison):
    method, mixed, ratio = "winograd_1d", "w", 2.5


@SLOW  # "auto" selects one of the methods above
class TestConvPool(ConvPoolComparison):
    method, mixed, ratio = "auto", "w", 2.5


class TestMaxPool(PoolComparison):
    method, ratio = "auto", 1


class TestAvgPool(PoolComparison):
    operation, method, ratio = kernels.avg_pool, "auto", 1.5


@SLOW  # "auto" selects "slices"
class TestMaxPoolBySlices(PoolComparison):
    method, ratio = "slices", 1


@SLOW
class TestAvgPoolBySlices(PoolComparison):
    operation, method, ratio = kernels.avg_pool, "slices", 1.5


@pytest.mark.parametrize("pool", [kernels.max_pool, kernels.avg_pool])
def test_auto_selects_slices_for_the_common_pool_of_these_tests(pool):
    spec = PoolComparison.specs[0]
    lowered = jax.jit(functools.partial(pool, **spec.arguments)).lower(*spec.arrays("float32"))
    assert "reduce_window" not in lowered.as_text()


def test_compilations_are_counted():
    assert len(compiled_programs(lambda: jax.jit(lambda x: x + 12345)(1.0))) == 1


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
    image, kernel = Spec((1, 5, 5, 1), (3, 3, 1, 1)).arrays("float32")
    kernel = jnp.zeros_like(kernel).at[1, 1].set(3.0) + 0.1 * kernel

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
