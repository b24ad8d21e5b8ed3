"""MNIST: check and read the official archives, and prepare them as a TFDS data set."""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from fidle_jax.data import prepared
from fidle_jax.data.dataset import AnySplit, Dataset
from fidle_jax.errors import InputError

EXAMPLES = {"train": 60_000, "test": 10_000}
URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MAX_BYTES = 16 * 2**20  # the largest archive has 9.9 MB
# Checksums of the images followed by the labels, one byte each, in archive order.
SPLIT_SHA256 = {
    "train": "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b",
    "test": "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b",
}


class FidleMnist(prepared.RawBuilder):
    """MNIST in archive order. The name differs from TFDS's own ``mnist``, so both can share a folder."""

    def _info(self) -> tfds.core.DatasetInfo:
        return self.raw_info((28, 28, 1), classes=10)


def check_archives(folder: Path) -> None:
    """Raise InputError unless ``folder`` contains the four official archives."""
    for name, expected in SHA256.items():
        path = folder / name
        if not path.is_file():
            problem = "is not a regular file" if path.exists() else "is missing"
            raise InputError(f"{path} {problem}; download it from {URL}{name}")
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES)
        except OSError as error:
            raise InputError(
                f"{path} cannot be read: {error.strerror}; expected a .gz file"
            ) from None
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise InputError(
                f"{path} has {path.stat().st_size:,} bytes with sha256 {found}; expected the official "
                f"file with sha256 {expected}; download it from {URL}{name}"
            )


def read_archive(path: Path) -> UInt8[np.ndarray, "example *image"]:
    """Read the images or labels from an official archive, a gzipped idx file."""
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">i4", count=axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def load_mnist(data_dir: Path | None, archives: Path | None = None) -> Dataset:
    """Return the full set. Reading it raises what `prepare` raises, and InputError if it is damaged."""
    return prepared.make_dataset(
        lambda: prepare(data_dir, archives),
        "MNIST",
        is_intact=lambda split, content: _digest(content) == SPLIT_SHA256[split],
        name="mnist",
        class_names=tuple("0123456789"),
        image_shape=(28, 28, 1),
        train_examples=EXAMPLES["train"],
        test_examples=EXAMPLES["test"],
    )


def prepare(data_dir: Path | None, archives: Path | None) -> FidleMnist:
    """Return the builder of the full set. If it is missing, write it from ``archives`` or a download.

    Raise InputError if the folder cannot be written or the download failed.
    """

    def find_archives() -> Path:
        checksums = {name: f"sha256:{checksum}" for name, checksum in SHA256.items()}
        return archives or prepared.download("MNIST", FidleMnist.name, URL, checksums, data_dir)

    def examples(folder: Path, split: str) -> Iterator[dict[str, Any]]:
        prefix = "train" if split == "train" else "t10k"
        images = read_archive(folder / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_archive(folder / f"{prefix}-labels-idx1-ubyte.gz")
        for image, label in zip(images, labels, strict=True):
            yield {"image": image[..., None], "label": int(label)}

    return prepared.write_set(lambda: open_set(data_dir), "MNIST", find_archives, examples)


def open_set(data_dir: Path | None) -> FidleMnist:
    """Return the builder of the set, whose ``data_path`` is the folder of the prepared set."""
    return prepared.open_builder(FidleMnist, "MNIST", data_dir)


def _digest(content: AnySplit) -> str:
    digest = hashlib.sha256()
    for rows in np.array_split(np.arange(len(content.labels)), 64):
        digest.update(content.read_images(rows))
    digest.update(content.labels.astype(np.uint8))
    return digest.hexdigest()
