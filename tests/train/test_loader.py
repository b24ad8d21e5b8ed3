"""Which way images are loaded is settled by their size and the memory that is free, and said."""

import dataclasses

import numpy as np
import pytest

from fidle_jax.data import Split, StoredSplit
from fidle_jax.errors import InputError
from fidle_jax.train import loader
from fidle_jax.train.loader import choose_loader, gather_parts
from fidle_jax.train.parallel import make_mesh

BYTES = 90 * 12 * 12  # of the squares' training images


@pytest.fixture
def choose(squares, monkeypatch):
    def choose(asked, free, **changes):
        monkeypatch.setattr(loader, "free_memory_bytes", lambda devices: free)
        return choose_loader(asked, dataclasses.replace(squares, **changes), make_mesh(1))

    return choose


@pytest.mark.parametrize(
    ("asked", "free", "streamed"),
    [
        ("auto", 2 * BYTES, False),
        ("auto", 2 * BYTES - 1, True),
        ("memory", 1, False),
        ("stream", 100 * BYTES, True),
    ],
)
def test_auto_takes_memory_for_what_fits_into_half_of_it(choose, asked, free, streamed):
    found, said = choose(asked, free)
    assert found == streamed
    assert said.startswith("stream (" if streamed else "memory (")


def test_the_sizes_are_said(choose):
    assert choose("auto", 10**9)[1] == "memory (0.0 MB of images, 1,000 MB of memory free)"


def test_what_can_only_be_read_as_a_whole_is_kept_in_memory_and_not_streamed(choose):
    assert not choose("auto", 1, open=None)[0]
    with pytest.raises(InputError, match=r"--loader is stream, but squares \(full\) is only to be"):
        choose("stream", 1, open=None)


def test_in_one_process_its_part_is_the_whole():
    images, labels = np.zeros((3, 2, 2, 1), np.uint8), np.arange(3, dtype=np.int32)
    groups = labels[::-1]
    whole = gather_parts(Split(images, labels, groups))
    stored = gather_parts(StoredSplit(labels, groups, lambda rows: images[rows]))
    assert (whole.images is images, whole.labels is labels, whole.groups is groups) == (True,) * 3
    assert (stored.labels is labels, stored.groups is groups) == (True, True)
    assert stored.read_images(np.array([1])).shape == (1, 2, 2, 1)
