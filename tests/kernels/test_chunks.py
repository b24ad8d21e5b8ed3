import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.kernels import chunks

X = jnp.asarray(np.random.default_rng(0).normal(size=(12, 5)), jnp.float32)
W = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)), jnp.float32)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)


@pytest.mark.parametrize(
    ("bytes_of_one", "sizes"), [(8, [12]), (10, [6]), (20, [4]), (30, [3]), (49, [2]), (1000, [1])]
)
def test_chunks_are_the_largest_equal_ones_that_fit(bytes_of_one, sizes):
    seen = []

    def function(part):
        seen.append(part.shape[0])
        return part.sum(axis=1)

    y = chunks.in_chunks(function, X, bytes_of_one)
    np.testing.assert_allclose(y, X.sum(axis=1), rtol=1e-6)
    assert set(seen) == set(sizes)


@pytest.mark.parametrize(("bytes_shared", "size"), [(4, 3), (6, 4), (9, 6), (1000, 12)])
def test_chunks_are_larger_where_they_share_much(bytes_shared, size):
    seen = set()

    def function(part):
        seen.add(part.shape[0])
        return part.sum(axis=1)

    chunks.in_chunks(function, X, 30, bytes_shared)
    assert seen == {size}


def test_derivatives_by_what_is_closed_over_too_are_those_of_the_whole():
    def derivatives(in_chunks):
        def loss(x, w):
            y = in_chunks(lambda part: jnp.sin(chunks.kept(jnp.tanh(part @ w))), x, 30)
            return (y**2).sum()

        slopes = jax.grad(loss, (0, 1))
        return slopes(X, W), jax.jvp(loss, (X, W), (1 - X, 1 - W)), jax.jvp(slopes, (X, W), (X, W))

    whole = derivatives(lambda function, x, _: function(x))
    chex.assert_trees_all_close(derivatives(chunks.in_chunks), whole, rtol=1e-4, atol=1e-4)


def test_an_empty_batch_is_one_chunk():
    assert chunks.in_chunks(lambda part: part @ W, X[:0], 1000).shape == (0, 3)
