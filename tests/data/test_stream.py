"""Batches are read from disk ahead of the steps, in order, by threads that end."""

import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.data import Split, StoredSplit
from fidle_jax.data.batches import gather_batch, padded_order, rows_at
from fidle_jax.data.stream import ON_DEVICE, READ_AHEAD, Batches, stream
from fidle_jax.errors import InputError

EXAMPLES = 50
IN_MEMORY = Split(
    np.random.default_rng(0).integers(0, 256, (EXAMPLES, 3, 2, 1), np.uint8),
    np.arange(EXAMPLES, dtype=np.int32) % 7,
)
STORED = StoredSplit(IN_MEMORY.labels, None, IN_MEMORY.read_images)
ORDER = np.asarray(padded_order(np.random.default_rng(1).permutation(EXAMPLES), 4))
PLACES = np.arange(6).reshape(2, 3)


@pytest.mark.parametrize("places", [np.arange(4)[None], PLACES, PLACES[:, 1:]])
def test_the_batches_are_those_that_are_gathered_in_memory(places):
    order = ORDER[-2:]
    batches = Batches(STORED, order, places)
    assert len(batches) == len(order)
    for rows, batch in zip(order, batches, strict=True):
        rows = rows_at(jnp.asarray(rows), jnp.asarray(places))
        expected = gather_batch(jnp.asarray(IN_MEMORY.images), jnp.asarray(IN_MEMORY.labels), rows)
        for found, right in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(found, right)
            assert found.dtype == right.dtype


def test_examples_that_were_taken_are_read_in_their_order():
    rows = np.array([7, 3, 30])
    again = STORED.take(rows).take(np.array([2, 0]))
    np.testing.assert_array_equal(again.labels, IN_MEMORY.labels[[30, 7]])
    np.testing.assert_array_equal(again.read_images(np.array([1, 0])), IN_MEMORY.images[[7, 30]])


@pytest.mark.parametrize("start", [0, 5, len(ORDER)])
def test_a_stream_begins_at_any_step_and_keeps_the_order(start):
    found = [batch.labels for batch in _streamed(STORED, start)]
    expected = [batch.labels for batch in Batches(STORED, ORDER, PLACES)][start:]
    assert len(found) == len(expected)
    for labels, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(labels, right)


def _streamed(split, start=0, put=lambda batch: batch):
    batches = stream(Batches(split, ORDER, PLACES), put, start)
    try:
        yield from batches
    finally:
        batches.close()


class _Disk:
    """Counts what is read of it; the images of rows that are ``damaged`` cannot be."""

    def __init__(self, damaged=None):
        self.reads, self._damaged = 0, damaged

    def read_images(self, rows):
        self.reads += 1
        if self._damaged in rows:
            raise InputError("the set is damaged")
        return IN_MEMORY.images[rows]

    def split(self):
        return StoredSplit(IN_MEMORY.labels, None, self.read_images)


def _settles(condition):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_it_reads_a_few_batches_ahead_and_no_more():
    disk = _Disk()
    batches = _streamed(disk.split())
    next(batches)
    assert _settles(lambda: disk.reads > READ_AHEAD)
    time.sleep(0.1)
    # The one that was asked for, one that waits to be put down, and those ahead.
    assert disk.reads <= 2 + READ_AHEAD + ON_DEVICE
    batches.close()


def _no_readers():
    return not any(thread.name.startswith("grain") for thread in threading.enumerate())


def test_closed_early_it_leaves_no_threads():
    batches = _streamed(STORED)
    next(batches)
    assert not _no_readers()
    batches.close()
    assert _settles(_no_readers)


def test_damage_is_raised_when_its_batch_is_asked_for_and_no_thread_is_left():
    step = 6
    batches = _streamed(_Disk(damaged=ORDER[step, 1]).split())
    for _ in range(step):
        next(batches)
    with pytest.raises(InputError) as caught:
        next(batches)
    assert str(caught.value) == "the set is damaged"
    assert _settles(_no_readers)
