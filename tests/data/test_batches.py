"""Batches contain every example once, and streams read them ahead, in order, in threads that end."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.data import Split, StoredSplit
from fidle_jax.data.batches import (
    ON_DEVICE,
    READ_AHEAD,
    Batches,
    epoch_order,
    gather_batch,
    padded_order,
    rows_at,
    steps_per_epoch,
    stream,
)
from fidle_jax.errors import InputError

_epoch_order = jax.jit(epoch_order, static_argnums=(2, 3))


def _order(seed, epoch, examples=1000, batch_size=64):
    return np.asarray(_epoch_order(jnp.uint32(seed), jnp.int32(epoch), examples, batch_size))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64, 10**6])
def test_steps_suffice_for_every_example(batch_size):
    for examples in (0, 1, 2, 63, 64, 65, 10**9):
        steps = steps_per_epoch(examples, batch_size)
        assert (steps - 1) * batch_size < examples <= steps * batch_size


@pytest.mark.parametrize(
    ("examples", "batch_size"), [(1000, 64), (64, 64), (65, 64), (3, 64), (1, 1), (5, 1)]
)
def test_an_epoch_contains_every_example_exactly_once_and_pads_only_the_last_batch(
    examples, batch_size
):
    order = _order(7, 2, examples, batch_size)
    assert order.shape == (steps_per_epoch(examples, batch_size), batch_size)
    np.testing.assert_array_equal(np.sort(order.ravel()[:examples]), np.arange(examples))
    np.testing.assert_array_equal(order.ravel()[examples:], -1)


def test_an_order_is_cut_without_reordering():
    np.testing.assert_array_equal(
        padded_order(jnp.array([4, 2, 0, 1, 3]), 2), [[4, 2], [0, 1], [3, -1]]
    )


def test_the_order_depends_only_on_seed_and_epoch():
    np.testing.assert_array_equal(_order(3, 1), _order(3, 1))
    np.testing.assert_array_equal(epoch_order(3, 1, 1000, 64), _order(3, 1))  # not compiled
    np.testing.assert_array_equal(
        _order(3, 1, batch_size=64).ravel()[:1000], _order(3, 1, batch_size=30).ravel()[:1000]
    )


def test_epochs_and_seeds_differ_and_none_is_in_ascending_order():
    orders = [_order(seed, epoch).ravel()[:1000] for seed in range(3) for epoch in range(3)]
    orders.append(np.arange(1000))
    for i, one in enumerate(orders):
        for other in orders[:i]:
            # Two random orders agree at one index on average.
            assert (one == other).sum() < 10


@pytest.mark.parametrize("seed", [0, 2**31, 2**32 - 1])
def test_every_32_bit_seed_is_accepted(seed):
    np.testing.assert_array_equal(np.sort(_order(seed, 0, 10, 5).ravel()), np.arange(10))


def test_a_batch_contains_the_requested_rows_and_padding_has_weight_zero():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 2, 1), np.uint8)
    labels = np.array([9, 8, 7, 6, 5], np.int32)
    x, y, weights = gather_batch(jnp.asarray(images), jnp.asarray(labels), jnp.array([3, 0, -1, 4]))
    assert x.dtype == jnp.uint8
    np.testing.assert_array_equal(x[jnp.array([0, 1, 3])], images[[3, 0, 4]])
    np.testing.assert_array_equal(y[jnp.array([0, 1, 3])], [6, 9, 5])
    np.testing.assert_array_equal(weights, [1, 1, 0, 1])


EXAMPLES = 50
IN_MEMORY = Split(
    np.random.default_rng(0).integers(0, 256, (EXAMPLES, 3, 2, 1), np.uint8),
    np.arange(EXAMPLES, dtype=np.int32) % 7,
)
STORED = StoredSplit(IN_MEMORY.labels, None, IN_MEMORY.read_images)
ORDER = np.asarray(padded_order(np.random.default_rng(1).permutation(EXAMPLES), 4))
INDICES = np.arange(6).reshape(2, 3)


@pytest.mark.parametrize("indices", [np.arange(4)[None], INDICES, INDICES[:, 1:]])
def test_batches_from_disk_equal_those_gathered_in_memory(indices):
    order = ORDER[-2:]
    batches = Batches(STORED, order, indices)
    assert len(batches) == len(order)
    for rows, batch in zip(order, batches, strict=True):
        rows = rows_at(jnp.asarray(rows), jnp.asarray(indices))
        expected = gather_batch(jnp.asarray(IN_MEMORY.images), jnp.asarray(IN_MEMORY.labels), rows)
        for found, right in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(found, right)
            assert found.dtype == right.dtype


def test_taken_examples_are_read_in_their_order():
    rows = np.array([7, 3, 30])
    again = STORED.take(rows).take(np.array([2, 0]))
    np.testing.assert_array_equal(again.labels, IN_MEMORY.labels[[30, 7]])
    np.testing.assert_array_equal(again.read_images(np.array([1, 0])), IN_MEMORY.images[[7, 30]])


def _streamed(split, start=0):
    batches = stream(Batches(split, ORDER, INDICES), lambda batch: batch, start)
    try:
        yield from batches
    finally:
        batches.close()


@pytest.mark.parametrize("start", [0, 5, len(ORDER)])
def test_a_stream_starts_at_any_step_and_keeps_the_order(start):
    found = [batch.labels for batch in _streamed(STORED, start)]
    expected = [batch.labels for batch in Batches(STORED, ORDER, INDICES)][start:]
    assert len(found) == len(expected)
    for labels, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(labels, right)


class _Disk:
    """Counts its reads and fails for the row ``damaged``."""

    def __init__(self, damaged=None):
        self.reads, self._damaged = 0, damaged

    def read_images(self, rows):
        self.reads += 1
        if self._damaged in rows:
            raise InputError("the set is damaged")
        return IN_MEMORY.images[rows]

    def split(self):
        return StoredSplit(IN_MEMORY.labels, None, self.read_images)


def _becomes_true(condition):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_stream_reads_only_a_few_batches_ahead():
    disk = _Disk()
    batches = _streamed(disk.split())
    next(batches)
    assert _becomes_true(lambda: disk.reads > READ_AHEAD)
    time.sleep(0.1)
    # The requested batch, one that waits for a free slot, and those read ahead.
    assert disk.reads <= 2 + READ_AHEAD + ON_DEVICE
    batches.close()


def _no_readers():
    return not any(thread.name.startswith("grain") for thread in threading.enumerate())


def test_a_stream_closed_early_leaves_no_threads():
    batches = _streamed(STORED)
    next(batches)
    assert not _no_readers()
    batches.close()
    assert _becomes_true(_no_readers)


def test_damage_is_raised_when_its_batch_is_requested_and_leaves_no_threads():
    step = 6
    batches = _streamed(_Disk(damaged=ORDER[step, 1]).split())
    for _ in range(step):
        next(batches)
    with pytest.raises(InputError) as caught:
        next(batches)
    assert str(caught.value) == "the set is damaged"
    assert _becomes_true(_no_readers)
