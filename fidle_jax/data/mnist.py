"""MNIST in full: a TFDS builder that needs no TensorFlow."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError

from fidle_jax.data import prepared
from fidle_jax.data.archives import CLASSES, official_archives, read_archive
from fidle_jax.data.dataset import Dataset, Split, StoredSplit, checked
from fidle_jax.errors import InputError

TITLE = "MNIST"
EXAMPLES = {"train": 60_000, "test": 10_000}
# Of the images followed by the labels, one byte each, in the order of the archives.
_SHA256 = {
    "train": "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b",
    "test": "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b",
}


class FidleMnist(tfds.core.GeneratorBasedBuilder):
    """MNIST in the order of its archives, as raw bytes: writing them takes no TensorFlow.

    Not called ``mnist``, so that it can lie beside TFDS's own.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Tensor(shape=(28, 28, 1), dtype=np.uint8, encoding="bytes"),
            "label": tfds.features.ClassLabel(num_classes=CLASSES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="The MNIST database of handwritten digits.",
            homepage="http://yann.lecun.com/exdb/mnist/",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        archives = official_archives()
        paths = dl_manager.download({name: archive.url for name, archive in archives.items()})
        arrays = {
            name: read_archive(Path(path), archives[name].dimensions)
            for name, path in paths.items()
        }
        return {
            split: self._generate_examples(
                arrays[f"{prefix}-images-idx3-ubyte.gz"], arrays[f"{prefix}-labels-idx1-ubyte.gz"]
            )
            for split, prefix in (("train", "train"), ("test", "t10k"))
        }

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator:
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield index, {"image": image[..., None], "label": int(label)}


def load_mnist(data_dir: Path | None, archives: Path | None = None) -> Dataset:
    """The full set in ``data_dir`` (default: TFDS's own folder), prepared there when first read.

    Reading raises what `prepare` raises, and InputError where the prepared data is damaged.
    """

    def builder() -> FidleMnist:
        if not is_prepared(data_dir):
            prepare(data_dir, archives)
        return _builder(data_dir)

    def read(split: str, part: tuple[int, int]) -> Split:
        images, numbers = prepared.read(builder(), TITLE, split, part)
        return Split(images, numbers["label"])

    def open_(split: str, part: tuple[int, int]) -> StoredSplit:
        numbers, read_images = prepared.open_split(builder(), TITLE, split, part)
        return StoredSplit(numbers["label"], None, read_images)

    def check(split: str, content: Split | StoredSplit) -> None:
        if _digest(content) != _SHA256[split]:
            raise prepared.damaged(TITLE, _builder(data_dir).data_path)

    return Dataset(
        name="mnist",
        variant="full",
        class_names=tuple("0123456789"),
        image_shape=(28, 28, 1),
        train_examples=EXAMPLES["train"],
        test_examples=EXAMPLES["test"],
        read=checked(read, check),
        open=checked(open_, check),
        check=check,
    )


def is_prepared(data_dir: Path | None) -> bool:
    """Whether ``data_dir`` holds the whole set; what a killed preparation left does not count."""
    return prepared.is_prepared(_builder(data_dir))


def prepare(data_dir: Path | None, archives: Path | None) -> None:
    """Writes the full set to ``data_dir``, at once: it appears there whole, or not at all.

    Args:
      data_dir: the folder of all TFDS data.
      archives: the folder with the official archives, checked before; None downloads them.

    Raises:
      InputError: where the folder cannot be written, or the download fails.
    """
    try:
        prepared.prepare(
            lambda: _builder(data_dir),
            TITLE,
            tfds.download.DownloadConfig(
                manual_dir=archives, force_checksums_validation=True, try_download_gcs=False
            ),
        )
    except (DownloadError, NonMatchingChecksumError, requests.RequestException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"MNIST could not be downloaded ({reason}); try again, or give --archives DIR"
        ) from error


def _builder(data_dir: Path | None) -> FidleMnist:
    return prepared.open_builder(FidleMnist, TITLE, data_dir)


def _digest(content: Split | StoredSplit) -> str:
    digest, rows = hashlib.sha256(), np.arange(len(content.labels))
    for start in range(0, len(rows), prepared.AT_ONCE):
        digest.update(content.read_images(rows[start : start + prepared.AT_ONCE]))
    digest.update(content.labels.astype(np.uint8))
    return digest.hexdigest()
