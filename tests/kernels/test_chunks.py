import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax import kernels
from fidle_jax.kernels import chunks
from fidle_jax.kernels.checks import jit_once
from fidle_jax.kernels.comparison import measure
from fidle_jax.kernels.geometry import resolve_geometry
from fidle_jax.kernels.specs import Spec
from tests.kernels import test_simple_methods

X = jnp.asarray(np.random.default_rng(0).normal(size=(12, 5)), jnp.float32)
W = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)), jnp.float32)


@pytest.fixture
def _limit_of_100_bytes(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)


def _recorded(sizes):
    def function(chunk):
        sizes.append(chunk.shape[0])
        return chunk.sum(axis=1)

    return function


@pytest.mark.usefixtures("_limit_of_100_bytes")
@pytest.mark.parametrize(
    ("bytes_of_one", "size"), [(8, 12), (10, 6), (20, 4), (30, 3), (49, 2), (1000, 1)]
)
def test_chunks_have_the_largest_size_that_divides_the_batch_and_fits(bytes_of_one, size):
    seen = []
    y = chunks.in_chunks(_recorded(seen), (X,), bytes_of_one)
    np.testing.assert_allclose(y, X.sum(axis=1), rtol=1e-6)
    assert set(seen) == {size}


@pytest.mark.usefixtures("_limit_of_100_bytes")
@pytest.mark.parametrize(("bytes_shared", "size"), [(4, 3), (6, 4), (9, 6), (1000, 12)])
def test_chunks_are_larger_if_they_share_many_bytes(bytes_shared, size):
    seen = []
    chunks.in_chunks(_recorded(seen), (X,), 30, bytes_shared)
    assert set(seen) == {size}


@given(st.integers(1, 3000), st.integers(1, 300))
def test_chunks_fit_have_at_least_half_of_the_largest_size_and_need_few_extra_examples(
    batch, fitting
):
    fitting = min(batch, fitting)
    size = chunks.chunk_size(batch, fitting)
    count = -(-batch // size)
    assert size <= fitting <= 2 * size
    assert count * size - batch < count


@pytest.mark.parametrize(
    ("batch", "fitting", "size"), [(251, 64, 63), (251, 250, 126), (509, 100, 85), (256, 100, 64)]
)
def test_a_prime_batch_has_chunks_of_nearly_the_largest_size_that_fits(batch, fitting, size):
    assert chunks.chunk_size(batch, fitting) == size


@pytest.mark.usefixtures("_limit_of_100_bytes")
@pytest.mark.parametrize(("batch", "size"), [(12, 3), (11, 6)])
def test_derivatives_also_with_respect_to_closed_over_arrays_are_those_of_the_whole_batch(
    batch, size
):
    x = X[:batch]
    bytes_of_one = 100 / size

    def derivatives(in_chunks):
        def loss(x, w):
            y = in_chunks(lambda chunk: jnp.sin(jnp.tanh(chunk @ w)), (x,), bytes_of_one)
            return (y**2).sum()

        slopes = jax.grad(loss, (0, 1))
        return slopes(x, W), jax.jvp(loss, (x, W), (1 - x, 1 - W)), jax.jvp(slopes, (x, W), (x, W))

    compiled = jit_once(derivatives, static_argnums=0)
    whole = compiled(lambda function, arrays, _: function(*arrays))
    chex.assert_trees_all_close(compiled(chunks.in_chunks), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("_limit_of_100_bytes")
@pytest.mark.parametrize("bytes_of_one", [25, 50 / 3])
def test_several_arrays_and_several_results_are_divided_alike(bytes_of_one):
    index = jnp.arange(12)

    def function(x, index):
        return x * index[:, None], index**2

    results = chunks.in_chunks(function, (X, index), bytes_of_one)
    chex.assert_trees_all_equal(results, function(X, index))


@pytest.mark.usefixtures("_limit_of_100_bytes")
def test_an_empty_batch_is_one_chunk():
    assert chunks.in_chunks(lambda chunk: chunk @ W, (X[:0],), 1000).shape == (0, 3)


def _check_im2col(spec, part_of_program, dtype="float32"):
    """Compare the method with its definition, and check that its program contains a text."""
    conv = functools.partial(kernels.conv, **spec.arguments, method="im2col")
    with jax.enable_x64(dtype == "float64"):
        assert part_of_program in jax.jit(conv).lower(*spec.arrays(dtype)).as_text()
    measure(test_simple_methods.TestIm2col.subject(), spec, dtype, ["normal"])


def test_a_prime_batch_in_chunks_has_the_value_and_derivatives_of_the_definition(monkeypatch):
    # 432 bytes per example: 64 of them fit, and four chunks of 63 are computed.
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 432 * 64)
    _check_im2col(Spec((251, 6, 2), (3, 2, 3), padding="same"), "tensor<63x6x2xf32>")


SLABS = {
    "one axis": Spec((2, 23, 2), (3, 2, 3)),
    "strides, dilation and padding": Spec(
        (2, 23, 2), (3, 2, 3), strides=2, padding=((3, 4),), dilation=2
    ),
    "strides larger than the window": Spec((1, 46, 2), (2, 2, 3), strides=3, padding=1),
    "two axes": Spec((2, 9, 8, 2), (3, 2, 2, 3), strides=(1, 2), padding="same"),
    "groups": Spec(
        (1, 11, 5, 4),
        (2, 3, 2, 6),
        strides=(2, 1),
        padding=((1, 0), (0, 2)),
        dilation=(2, 1),
        groups=2,
    ),
    "three axes": Spec(
        (1, 7, 4, 5, 2), (2, 2, 3, 2, 2), strides=(1, 2, 1), padding=1, dilation=(2, 1, 1)
    ),
    "bfloat16": Spec((1, 12, 4, 2), (3, 3, 2, 3), padding="same"),
    "float64": Spec((1, 12, 2), (3, 2, 3), padding="same"),
}


@pytest.mark.parametrize("name", SLABS)
def test_large_examples_in_slabs_have_the_value_and_derivatives_of_the_definition(
    name, monkeypatch
):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 600)
    monkeypatch.setattr(chunks, "SLAB_BYTES", 600)
    _check_im2col(SLABS[name], "stablehlo.while", name if "float" in name else "float32")


@pytest.mark.parametrize(
    ("bytes_of_one", "counts"),
    [(100, {10}), (400, {10}), (401, {2}), (1000, {1}), (1e6, {1})],
)
def test_an_example_is_divided_into_equal_slabs_if_it_exceeds_the_limit(
    bytes_of_one, counts, monkeypatch
):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)
    monkeypatch.setattr(chunks, "SLAB_BYTES", 400)
    geometry = resolve_geometry((12,), 3)
    seen = set()

    def function(x, geometry):
        seen.add(geometry.count[0])
        first = geometry.padding[0][0]
        assert first == 0
        return x[:, 2:] - x[:, :-2]

    x = jnp.arange(12.0).reshape(1, 12, 1) ** 2
    y = chunks.in_slabs(function, x, geometry, bytes_of_one)
    np.testing.assert_array_equal(y, x[:, 2:] - x[:, :-2])
    assert seen == counts


def test_a_long_sequence_needs_little_temporary_memory():
    shapes = (1, 16000, 128), (64, 128, 128)  # the patches of all windows take 524 MB
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    compiled = jax.jit(kernels.conv).lower(*arrays).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 254e6


def test_temporary_memory_of_the_kernel_gradient_does_not_grow_with_the_patches_of_the_batch():
    def temporary_bytes(batch):
        shapes = (batch, 32, 32, 32), (3, 3, 32, 32)
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        gradient = jax.grad(lambda x, w: kernels.conv(x, w, method="im2col").sum(), 1)
        return jax.jit(gradient).lower(*arrays).compile().memory_analysis().temp_size_in_bytes

    patches_of_one = 30 * 30 * 9 * 32 * 4
    assert temporary_bytes(256) - temporary_bytes(128) < 128 * patches_of_one / 4
