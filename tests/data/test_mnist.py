"""MNIST's archives are checked byte for byte, prepared in their order, and downloaded if necessary."""

import os

import numpy as np
import pytest

from fidle_jax.data import load_dataset, mnist, prepared
from fidle_jax.errors import InputError
from tests.data import small_mnist

IMAGES = "train-images-idx3-ubyte.gz"
LABELS = "t10k-labels-idx1-ubyte.gz"


def test_complete_archives_pass_and_are_read(mnist_archives):
    mnist.check_archives(mnist_archives)
    images, labels = small_mnist.arrays("train")
    np.testing.assert_array_equal(mnist.read_archive(mnist_archives / IMAGES), images)
    labels_path = mnist_archives / "train-labels-idx1-ubyte.gz"
    np.testing.assert_array_equal(mnist.read_archive(labels_path), labels)


def _missing(path):
    path.unlink()


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


def _sparse(path):
    with path.open("wb") as file:
        file.truncate(20_000_000_000)


def _folder(path):
    path.unlink()
    path.mkdir()


def _truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def _one_bit(path):
    content = bytearray(path.read_bytes())
    content[4] ^= 1  # the time in the header of gzip, which does not change the images
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_missing, r"is missing; download it from https://\S+/"),
        (_folder, r"is not a regular file; download it from https://\S+/"),
        (_pipe, r"is not a regular file; download it from https://\S+/"),
        (_sparse, r"has 20,000,000,000 bytes with sha256 \w{64}; expected the official file with"),
        (
            _truncated,
            r"has [\d,]+ bytes with sha256 \w{64}; expected the official file with sha256",
        ),
        (_one_bit, r"has [\d,]+ bytes with sha256 \w{64}; expected the official file with sha256"),
    ],
)
@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_an_archive_that_is_not_the_official_file_is_named_in_one_line(
    mnist_archives, name, damage, message
):
    damage(mnist_archives / name)
    with pytest.raises(InputError, match=f"{name} {message}") as caught:
        mnist.check_archives(mnist_archives)
    assert "\n" not in str(caught.value)


def test_the_set_is_prepared_in_the_order_of_the_archives(mnist_archives, tmp_path):
    mnist.prepare(tmp_path, mnist_archives)
    assert prepared.is_prepared(mnist.open_set(tmp_path))
    digits = mnist.load_mnist(tmp_path)
    assert (digits.train_examples, digits.test_examples) == (60, 20)
    for split in ("train", "test"):
        images, labels = small_mnist.arrays(split)
        read, opened = digits.read(split), digits.open(split)
        np.testing.assert_array_equal(read.images, images[..., None])
        np.testing.assert_array_equal(read.labels, labels)
        np.testing.assert_array_equal(opened.read_images(np.arange(3)), images[:3, ..., None])
        np.testing.assert_array_equal(opened.labels, labels)


def test_data_prepared_from_other_digits_is_not_read(mnist_archives, tmp_path, monkeypatch):
    mnist.prepare(tmp_path, mnist_archives)
    monkeypatch.setattr(mnist, "SPLIT_SHA256", {"train": "0" * 64, "test": "0" * 64})
    for get in (mnist.load_mnist(tmp_path).read, mnist.load_mnist(tmp_path).open):
        with pytest.raises(InputError, match="is damaged"):
            get("test")


def test_the_archives_are_downloaded_if_none_are_given(
    mnist_archives, tmp_path, serve, monkeypatch
):
    monkeypatch.setattr(mnist, "URL", serve(mnist_archives))
    digits = load_dataset("mnist", data_dir=tmp_path / "data")
    assert digits.variant == "full"
    np.testing.assert_array_equal(digits.read("train").labels, small_mnist.arrays("train")[1])


def test_a_download_with_the_wrong_checksum_is_refused(
    mnist_archives, tmp_path, serve, monkeypatch
):
    monkeypatch.setattr(mnist, "URL", serve(mnist_archives))
    (mnist_archives / LABELS).write_bytes(b"a login page")
    with pytest.raises(InputError, match=r"MNIST could not be downloaded \(.*--archives DIR"):
        load_dataset("mnist", data_dir=tmp_path / "data").read("train")
    assert not prepared.is_prepared(mnist.open_set(tmp_path / "data"))


def test_the_official_set_is_prepared_and_read(official_archives, tmp_path):
    digits = load_dataset("mnist", archives=official_archives("mnist"), data_dir=tmp_path)
    train, test = digits.read("train"), digits.read("test")
    assert train.images.shape == (60_000, 28, 28, 1)
    assert test.images.shape == (10_000, 28, 28, 1)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(test.labels).tolist() == counts
