"""MNIST in full: a TFDS builder that needs no TensorFlow, and a fast reader of what it wrote."""

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError
from tensorflow_datasets.proto import tf_example_pb2

from fidle_jax.data.archives import CLASSES, official_archives, read_archive
from fidle_jax.data.dataset import WHOLE, Dataset, Split, part_rows
from fidle_jax.errors import InputError

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

    def read(split: str, part: tuple[int, int] = WHOLE) -> Split:
        if not is_prepared(data_dir):
            prepare(data_dir, archives)
        content = _read(split, data_dir, part)
        if part == WHOLE:
            check(split, content)
        return content

    def check(split: str, content: Split) -> None:
        if _digest(content) != _SHA256[split]:
            raise _damaged(_builder(data_dir).data_path)

    return Dataset(
        name="mnist",
        variant="full",
        class_names=tuple("0123456789"),
        image_shape=(28, 28, 1),
        train_examples=EXAMPLES["train"],
        test_examples=EXAMPLES["test"],
        read=read,
        check=check,
    )


def is_prepared(data_dir: Path | None) -> bool:
    """Whether ``data_dir`` holds the whole set; what a killed preparation left does not count."""
    builder = _builder(data_dir)
    return builder.data_path.exists() and builder.is_prepared()


def prepare(data_dir: Path | None, archives: Path | None) -> None:
    """Writes the full set to ``data_dir``, at once: it appears there whole, or not at all.

    Processes that prepare at the same time wait for the first of them.

    Args:
      data_dir: the folder of all TFDS data.
      archives: the folder with the official archives, checked before; None downloads them.

    Raises:
      InputError: where the folder cannot be written, or the download fails.
    """
    folder = _builder(data_dir).data_path
    try:
        with _locked(Path(folder.parent)):
            if is_prepared(data_dir):
                return
            _remove_leftovers(Path(folder))
            _download_and_prepare(_builder(data_dir), archives)
    except (DownloadError, NonMatchingChecksumError, requests.RequestException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"MNIST could not be downloaded ({reason}); try again, or give --archives DIR"
        ) from error
    except (OSError, RuntimeError) as error:  # array_record's own, where the disk is full
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            f"MNIST cannot be prepared in {folder.parent} ({reason}); "
            "make room there, or name another folder with --data-dir"
        ) from error


def _builder(data_dir: Path | None) -> FidleMnist:
    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    try:
        return FidleMnist(data_dir=root, file_format=tfds.core.FileFormat.ARRAY_RECORD)
    except OSError as error:
        raise InputError(
            f"{root} cannot be read ({error.strerror or error}); "
            "name another folder with --data-dir"
        ) from error
    except Exception as error:  # whatever TFDS makes of a damaged dataset_info.json
        raise _damaged(root / FidleMnist.name / str(FidleMnist.VERSION)) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Waits until no other process holds ``folder``; a process that dies lets go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    downloads = folder.parents[1] / "downloads" / FidleMnist.name
    for leftover in (
        *folder.parent.glob(f"incomplete.*_{folder.name}"),
        *downloads.glob("**/*.tmp.*"),
    ):
        shutil.rmtree(leftover)


def _download_and_prepare(builder: FidleMnist, archives: Path | None) -> None:
    tfds.display_progress_bar(sys.stderr.isatty())
    # TFDS announces itself on stdout, which belongs to results.
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=archives, force_checksums_validation=True, try_download_gcs=False
            )
        )


def _read(split: str, data_dir: Path | None, part: tuple[int, int]) -> Split:
    builder = _builder(data_dir)
    try:
        images, labels = _decode(_records(builder, split, part))
    except Exception as error:  # whatever a reader makes of damaged files
        raise _damaged(builder.data_path) from error
    return Split(images=images.reshape(-1, 28, 28, 1), labels=labels.astype(np.int32))


def _digest(content: Split) -> str:
    digest = hashlib.sha256(content.images)
    digest.update(content.labels.astype(np.uint8))
    return digest.hexdigest()


def _records(builder: FidleMnist, split: str, part: tuple[int, int]) -> list[bytes]:
    source = builder.as_data_source(
        split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    return source.__getitems__(part_rows(len(source), part))


def _decode(records: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels, one byte each; TFDS's own decoding takes several times as long."""
    images, labels = bytearray(), bytearray()
    for record in records:
        feature = tf_example_pb2.Example.FromString(record).features.feature
        images += feature["image"].bytes_list.value[0]
        labels.append(feature["label"].int64_list.value[0])
    return np.frombuffer(images, np.uint8), np.frombuffer(labels, np.uint8)


def _damaged(folder: os.PathLike) -> InputError:
    return InputError(f"MNIST as prepared in {folder} is damaged; delete that folder and run again")
