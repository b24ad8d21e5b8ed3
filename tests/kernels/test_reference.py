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
from fidle_jax.kernels import geometry
from fidle_jax.kernels.comparison import assert_close, conv_cases, jit_once, solve
from fidle_jax.kernels.testing import ConvComparison
from tests.kernels.pooling_cases import POOL_CASES


class TestReference(ConvComparison):
    method = "reference"
    independent = False


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

    @settings(max_examples=10, derandomize=True)
    @given(conv_cases(lambda *kind: True, rank), st.sampled_from(["reference", "xla"]))
    def check(case, method):
        spatial, size = case.x_shape[1:-1], case.w_shape[:-2]
        how = (case.strides, case.padding, case.dilation)
        pairs = geometry.resolve_geometry(spatial, size, *how).padding
        with jax.enable_x64(case.dtype == "float64"):
            x, w, weights = (torch.tensor(np.asarray(a, np.float64)) for a in case.arrays())
        x.requires_grad, w.requires_grad = True, True
        image = torch.nn.functional.pad(x.movedim(-1, 1), [n for pair in pairs[::-1] for n in pair])
        kernel = w.movedim((-1, -2), (0, 1))
        strides, dilation, groups = case.strides, case.dilation, case.groups
        y = torch_conv(image, kernel, stride=strides, dilation=dilation, groups=groups).movedim(
            1, -1
        )
        y.backward(weights)
        ours = solve(method, case)
        theirs = jax.tree.map(
            lambda ours, theirs: theirs.detach().numpy().astype(ours.dtype),
            ours,
            (y, (x.grad, w.grad)),
        )
        assert_close(ours, theirs, 16, f"{method} and torch on {case}")

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


@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_pooling_is_the_maximum_and_the_mean_of_the_values_of_each_window_inside_the_image(case):
    how = geometry.resolve_geometry(
        case.x_shape[1:-1], case.window, case.strides or case.window, case.padding
    )
    axes = tuple(range(1, 1 + len(case.window)))
    padding = [(0, 0), *how.padding, (0, 0)]
    padded = np.pad(case.images().astype(np.float64), padding, constant_values=np.nan)
    steps = (slice(None), *(slice(None, None, s) for s in how.strides))
    views = sliding_window_view(padded, case.window, axes)[steps]
    values = views.reshape(*views.shape[: 2 + len(axes)], math.prod(case.window))

    largest, _ = case.value_and_gradient("max", "reference")
    mean, _ = case.value_and_gradient("avg", "reference")

    np.testing.assert_array_equal(largest, np.nanmax(values, -1))
    assert_close(mean, np.nanmean(values, -1).astype(mean.dtype), 1)
