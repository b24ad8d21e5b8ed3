import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from made_up_mnist import arrays, idx

from fidle_jax.data import archives
from fidle_jax.errors import InputError

IMAGES = "train-images-idx3-ubyte.gz"
LABELS = "t10k-labels-idx1-ubyte.gz"


def test_the_official_archives_are_registered_with_size_and_checksum():
    table = archives.official_archives()
    assert {name: archive.size for name, archive in table.items()} == {
        "train-images-idx3-ubyte.gz": 9912422,
        "train-labels-idx1-ubyte.gz": 28881,
        "t10k-images-idx3-ubyte.gz": 1648877,
        "t10k-labels-idx1-ubyte.gz": 4542,
    }
    for name, archive in table.items():
        assert archive.url == f"https://storage.googleapis.com/cvdf-datasets/mnist/{name}"
        assert len(bytes.fromhex(archive.sha256)) == 32


@pytest.mark.skipif(
    "FIDLE_JAX_ARCHIVES" not in os.environ, reason="FIDLE_JAX_ARCHIVES names no archives folder"
)
def test_the_official_archives_pass():
    archives.check_archives(OFFICIAL)


OFFICIAL = Path(os.environ.get("FIDLE_JAX_ARCHIVES", ""))


def test_whole_archives_pass_and_give_their_values(made_up):
    archives.check_archives(made_up)
    images, labels = arrays("train")
    assert (archives.read_archive(made_up / IMAGES, images.shape) == images).all()
    labels_path = made_up / "train-labels-idx1-ubyte.gz"
    assert (archives.read_archive(labels_path, labels.shape) == labels).all()


@pytest.mark.parametrize("name", ["no/such/folder", IMAGES])
def test_a_folder_that_is_missing_or_a_file_is_named(made_up, name):
    with pytest.raises(InputError, match=f"{name} does not exist or is no folder"):
        archives.check_archives(made_up / name)


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_a_missing_archive_is_named(made_up, name):
    (made_up / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        archives.check_archives(made_up)


def test_a_folder_in_the_place_of_an_archive_is_named(made_up):
    (made_up / LABELS).unlink()
    (made_up / LABELS).mkdir()
    with pytest.raises(InputError, match=f"{LABELS} cannot be read"):
        archives.check_archives(made_up)


def _zeroed_middle(content: bytes) -> bytes:
    return content[:2000] + bytes(2000) + content[4000:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-100], "truncated at "),
        (lambda content: content[:5], "truncated at 5 bytes"),
        (lambda content: b"", "truncated at 0 bytes|empty"),
        (lambda content: gzip.decompress(content), "not a gzip file"),
        (lambda content: b"PK\x03\x04" + content, "not a gzip file"),
        (_zeroed_middle, "damaged gzip file"),
        (lambda content: content + b"more", "damaged gzip file"),
        (lambda content: gzip.compress(b""), "empty"),
        (lambda content: gzip.compress(b"abc"), "3 bytes, less than an idx header of 16"),
    ],
)
def test_a_file_that_is_no_whole_gzip_file_is_named(made_up, damage, message):
    path = made_up / IMAGES
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=f"{IMAGES}: ({message})"):
        archives.check_archives(made_up)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(arrays("train")[0], magic=2049), "idx magic number 2049, expected 2051"),
        (idx(arrays("train")[0][:50]), "idx counts 50 x 28 x 28, expected 60 x 28 x 28"),
        (idx(np.zeros((60, 32, 32))), "idx counts 60 x 32 x 32, expected 60 x 28 x 28"),
        (idx(arrays("train")[0])[:-1], "47,039 values after the idx header"),
        (idx(arrays("train")[0]) + b"\0", "47,041 values after the idx header"),
    ],
)
def test_wrong_idx_images_are_named_with_what_was_expected(made_up, content, message):
    (made_up / IMAGES).write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=f"{IMAGES}: {message}"):
        archives.check_archives(made_up)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(arrays("test")[1], magic=2051), "idx magic number 2051, expected 2049"),
        (idx(np.arange(20)), "label 19 found, expected 0 to 9"),
    ],
)
def test_wrong_idx_labels_are_named_with_what_was_expected(made_up, content, message):
    (made_up / LABELS).write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=f"{LABELS}: {message}"):
        archives.check_archives(made_up)


def test_other_contents_of_the_right_form_are_told_by_size_or_checksum(made_up):
    path = made_up / LABELS
    official = path.read_bytes()
    path.write_bytes(gzip.compress(idx(np.zeros(20)), mtime=0))
    with pytest.raises(InputError, match=rf"bytes, expected {len(official)}; get it from https"):
        archives.check_archives(made_up)
    same_size = bytearray(official)
    same_size[4] ^= 1  # the time in gzip's header
    path.write_bytes(same_size)
    with pytest.raises(InputError, match=r"sha256 \w{64}, expected \w{64}; get it from https"):
        archives.check_archives(made_up)


def test_every_complaint_is_one_line(made_up):
    (made_up / LABELS).write_bytes(b"\n\n")
    with pytest.raises(InputError) as caught:
        archives.check_archives(made_up)
    assert "\n" not in str(caught.value)
