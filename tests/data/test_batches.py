import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.data.batches import epoch_order, gather_batch, padded_order, steps_per_epoch

_epoch_order = jax.jit(epoch_order, static_argnums=(2, 3))


def _order(seed, epoch, examples=1000, batch_size=64):
    return np.asarray(_epoch_order(jnp.uint32(seed), jnp.int32(epoch), examples, batch_size))


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_steps_are_just_enough_for_every_example(examples, batch_size):
    steps = steps_per_epoch(examples, batch_size)
    assert (steps - 1) * batch_size < examples <= steps * batch_size


@pytest.mark.parametrize(
    ("examples", "batch_size"), [(1000, 64), (64, 64), (65, 64), (3, 64), (1, 1), (5, 1)]
)
def test_an_epoch_holds_every_example_exactly_once_and_fills_up_the_last_batch_alone(
    examples, batch_size
):
    order = _order(7, 2, examples, batch_size)
    assert order.shape == (steps_per_epoch(examples, batch_size), batch_size)
    np.testing.assert_array_equal(np.sort(order.ravel()[:examples]), np.arange(examples))
    np.testing.assert_array_equal(order.ravel()[examples:], -1)


def test_an_order_is_cut_as_it_stands():
    np.testing.assert_array_equal(
        padded_order(jnp.array([4, 2, 0, 1, 3]), 2), [[4, 2], [0, 1], [3, -1]]
    )


def test_the_order_depends_on_seed_and_epoch_alone():
    np.testing.assert_array_equal(_order(3, 1), _order(3, 1))
    np.testing.assert_array_equal(epoch_order(3, 1, 1000, 64), _order(3, 1))  # not compiled


def test_the_order_of_the_examples_does_not_depend_on_the_batch_size():
    np.testing.assert_array_equal(
        _order(3, 1, batch_size=64).ravel()[:1000], _order(3, 1, batch_size=30).ravel()[:1000]
    )


def test_epochs_and_seeds_differ_and_none_is_in_ascending_order():
    orders = [_order(seed, epoch).ravel()[:1000] for seed in range(3) for epoch in range(3)]
    orders.append(np.arange(1000))
    for i, one in enumerate(orders):
        for other in orders[:i]:
            # Two random orders agree in one place on average.
            assert (one == other).sum() < 10


@pytest.mark.parametrize("seed", [0, 2**31, 2**32 - 1])
def test_every_seed_of_32_bits_is_taken(seed):
    np.testing.assert_array_equal(np.sort(_order(seed, 0, 10, 5).ravel()), np.arange(10))


def test_a_batch_is_the_rows_asked_for_and_weighs_padding_nothing():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 2, 1), np.uint8)
    labels = np.array([9, 8, 7, 6, 5], np.int32)
    x, y, weights = gather_batch(jnp.asarray(images), jnp.asarray(labels), jnp.array([3, 0, -1, 4]))
    assert x.dtype == jnp.uint8
    np.testing.assert_array_equal(x[jnp.array([0, 1, 3])], images[[3, 0, 4]])
    np.testing.assert_array_equal(y[jnp.array([0, 1, 3])], [6, 9, 5])
    np.testing.assert_array_equal(weights, [1, 1, 0, 1])
