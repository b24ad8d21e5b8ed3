import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import correlate

from fidle_jax import kernels
from fidle_jax.kernels import drawn, geometry
from fidle_jax.kernels.checks import assert_close, jit_once
from fidle_jax.kernels.specs import POOL_SPECS
from fidle_jax.kernels.testing import ConvComparison


@pytest.mark.slow
class TestReference(ConvComparison):
    method = "reference"
    independent = False
    ratio = 4


@pytest.mark.parametrize("method", kernels.conv_methods())
def test_the_kernel_of_the_slides_computes_10_11_12_along_the_first_row(method):
    # The kernel and the three sums are those of the slides. The image is a guess.
    image = [[1, 2, 3, 2, 1], [1, 2, 3, 4, 5], [1, 2, 3, 2, 1], [5, 4, 3, 2, 1], [1, 2, 3, 2, 1]]
    kernel = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    x, w = (jnp.array(a, jnp.float32) for a in (image, kernel))

    conv = jit_once(functools.partial(kernels.conv, method=method))
    y = conv(x[None, :, :, None], w[:, :, None, None])[0, :, :, 0]

    np.testing.assert_allclose(y, [[10, 11, 12], [14, 15, 14], [12, 11, 10]], rtol=1e-6)


def test_conv_does_not_flip_the_kernel():
    x = jnp.zeros((1, 3, 3, 1)).at[0, 0, 0, 0].set(1)
    w = jnp.arange(9, dtype=jnp.float32).reshape(3, 3, 1, 1)
    assert kernels.conv(x, w, method="reference").item() == 0
    assert kernels.conv(x[:, ::-1, ::-1], w, method="reference").item() == 8


SIZES = [(4,), (3, 2), (1, 5), (2, 2, 3), (2, 1, 2, 2)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["valid", "same"])
def test_conv_equals_the_correlation_of_scipy(size, mode):
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (2, *(k + i + 1 for i, k in enumerate(size)), 3)).astype(np.float32)
    w = rng.integers(-4, 5, (*size, 3, 2)).astype(np.float32)
    # The centre of an even window is its later middle value in scipy, its earlier one in TensorFlow.
    padding = [(k // 2, (k - 1) // 2) for k in size] if mode == "same" else mode

    y = jit_once(functools.partial(kernels.conv, padding=padding, method="reference"))(x, w)

    sums = np.zeros(y.shape)
    for n, f, c in itertools.product(range(2), range(2), range(3)):
        sums[n, ..., f] += correlate(x[n, ..., c], w[..., c, f], mode, "direct")
    np.testing.assert_array_equal(y, sums)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_and_its_gradients_are_those_of_torch(rank):
    torch = pytest.importorskip("torch")
    torch_conv = getattr(torch.nn.functional, f"conv{rank}d")
    each_method = st.sampled_from(["reference", "xla"])
    each_dtype = st.sampled_from(["float32", "bfloat16", "float64"])

    @settings(max_examples=10, derandomize=True)
    @given(drawn.conv_specs(lambda *kind: True, rank), each_method, each_dtype)
    def check(spec, method, dtype):
        @jit_once
        def value_and_gradients(x, w):
            call = functools.partial(kernels.conv, **spec.arguments, method=method)
            y, pullback = jax.vjp(call, x, w)
            weights = jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype)
            return (y, *pullback(weights)), weights

        with jax.enable_x64(dtype == "float64"):
            arrays = spec.arrays(dtype)
            ours, weights = jax.device_get(value_and_gradients(*arrays))
            x, w, weights = (torch.tensor(np.asarray(a, np.float64)) for a in (*arrays, weights))
        how = drawn.geometry_of(spec)
        x.requires_grad, w.requires_grad = True, True
        sides = [n for pair in how.padding[::-1] for n in pair]
        image = torch.nn.functional.pad(x.movedim(-1, 1), sides)
        kernel = w.movedim((-1, -2), (0, 1)).contiguous()
        arguments = {"stride": how.strides, "dilation": how.dilation}
        y = torch_conv(image, kernel, groups=spec.arguments["groups"], **arguments).movedim(1, -1)
        y.backward(weights)
        theirs = [each.detach().numpy().astype(ours[0].dtype) for each in (y, x.grad, w.grad)]
        assert_close(ours, tuple(theirs), 16, f"{method} and torch on {spec}")

    check()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling_and_its_gradient_are_those_of_torch(kind, rank):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = np.random.default_rng(0).normal(size=(2, *range(5, 5 + rank), 3)).astype(np.float32)
    padding = (1, 0, 1)[:rank]
    theirs_x = torch.tensor(x, requires_grad=True)
    arguments = {"kernel_size": 3, "stride": 2, "padding": padding}
    if kind == "avg":
        arguments["count_include_pad"] = False
    theirs = getattr(functional, f"{kind}_pool{rank}d")(theirs_x.movedim(-1, 1), **arguments)
    (theirs**2).sum().backward()
    for method in ("reference", "slices", "xla"):

        def pool(x, method=method):
            call = getattr(kernels, f"{kind}_pool")
            return call(x, 3, strides=2, padding=padding, method=method)

        y, slope = pool(x), jax.grad(lambda x: (pool(x) ** 2).sum())(x)
        assert_close(np.asarray(y), theirs.movedim(1, -1).detach().numpy(), 4, method)
        assert_close(np.asarray(slope), theirs_x.grad.numpy(), 8, method)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", POOL_SPECS, ids=str)
def test_pooling_is_the_maximum_and_the_mean_of_the_values_of_each_window_inside_the_image(
    spec, dtype
):
    (x,) = spec.arrays(dtype, "small integers")
    (_, *spatial, _), window = spec.inputs[0], spec.arguments["window"]
    strides = spec.arguments.get("strides", window)
    how = geometry.resolve_geometry(spatial, window, strides, spec.arguments.get("padding", 0))
    axes = tuple(range(1, 1 + len(how.size)))
    padding = [(0, 0), *how.padding, (0, 0)]
    padded = np.pad(np.asarray(x, np.float64), padding, constant_values=np.nan)
    steps = (slice(None), *(slice(None, None, s) for s in how.strides))
    views = sliding_window_view(padded, how.size, axes)[steps]
    values = views.reshape(*views.shape[: 2 + len(axes)], math.prod(how.size))

    largest, mean = (
        jit_once(functools.partial(pool, **spec.arguments, method="reference"))(x)
        for pool in (kernels.max_pool, kernels.avg_pool)
    )

    np.testing.assert_array_equal(np.asarray(largest, np.float64), np.nanmax(values, -1))
    assert_close(mean, np.nanmean(values, -1).astype(mean.dtype), 1)
