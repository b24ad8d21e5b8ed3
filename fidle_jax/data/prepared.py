"""Prepare data sets in TFDS's ArrayRecord format and read them back, both without TensorFlow."""

import contextlib
import fcntl
import functools
import io
import os
import queue
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import requests
import tensorflow_datasets as tfds
from jaxtyping import Int32, UInt8
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from fidle_jax.data.dataset import AnySplit, Dataset, Split, StoredSplit
from fidle_jax.errors import InputError
from fidle_jax.files import expand_user

with warnings.catch_warnings():
    # pooch imports tqdm.auto, which warns in a notebook without ipywidgets.
    warnings.simplefilter("ignore")
    import pooch

PROBE_SECONDS = 3.0
CHUNK = 256  # records that are in memory at a time while labels are read

Builder: TypeAlias = tfds.core.DatasetBuilder


def reachable(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Return True if ``url`` answers within ``seconds``, including name lookup, proxy and TLS."""
    answer: queue.SimpleQueue[bool] = queue.SimpleQueue()
    # Socket time limits do not cover the name lookup, so the request runs in its own thread.
    threading.Thread(target=lambda: answer.put(_answers(url, seconds)), daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except queue.Empty:
        return False


def _answers(url: str, seconds: float) -> bool:
    try:
        return requests.head(url, timeout=seconds).ok
    except requests.RequestException:
        return False


def download(
    title: str, folder_name: str, url: str, checksums: Mapping[str, str], data_dir: Path | None
) -> Path:
    """Download files into ``data_dir``/downloads/``folder_name``, unless they exist. Return the folder.

    ``checksums`` maps file names to their checksums as pooch expects them, e.g. "md5:...". Raise InputError
    if the download failed or a checksum does not match.
    """
    folder = data_root(data_dir) / "downloads" / folder_name
    pooch.get_logger().setLevel("WARNING")
    try:
        for name, checksum in checksums.items():
            bar = sys.stderr.isatty()
            pooch.retrieve(url + name, checksum, name, folder, progressbar=bar)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{title} could not be downloaded ({first_line(error)}); try again, or give --archives DIR"
        ) from error
    return folder


def data_root(data_dir: Path | None) -> Path:
    """Return the folder of all TFDS data."""
    return expand_user(data_dir or tfds.core.constants.DATA_DIR)


class RawBuilder(tfds.core.GeneratorBasedBuilder):
    """Builder that writes raw uint8 images with labels. Encoded images would require TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")
    examples: Callable[[str], Iterator[dict[str, Any]]]  # split -> features of each example

    def raw_info(self, shape: tuple[int, int, int], classes: int, *numbers: str):
        """Describe images of ``shape``, labels, and further integer features ``numbers``."""
        features = {
            "image": tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="bytes"),
            "label": tfds.features.ClassLabel(num_classes=classes),
            **{name: tfds.features.Scalar(dtype=np.int64) for name in numbers},
        }
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split: str) -> Iterator:
        yield from enumerate(self.examples(split))


def open_builder(
    kind: type[Builder], title: str, data_dir: Path | None, config: str | None = None
) -> Any:
    """Return a builder of class ``kind`` for ``data_dir``, without writing anything.

    Raise InputError if the folder cannot be read, or the prepared data set is damaged.
    """
    root = data_root(data_dir)
    options = {} if config is None else {"config": config}
    try:
        return kind(data_dir=root, file_format=tfds.core.FileFormat.ARRAY_RECORD, **options)
    except OSError as error:
        raise InputError(
            f"{root} cannot be read ({error.strerror or error}); "
            "choose another folder with --data-dir"
        ) from error
    except Exception as error:  # TFDS raises many types for a damaged dataset_info.json
        raise damaged(title, root / kind.name / (config or "") / str(kind.VERSION)) from error


def is_prepared(builder: Builder) -> bool:
    """Return True if the complete set exists. Remains of a killed preparation do not count."""
    return builder.data_path.exists() and builder.is_prepared()


def write_set(
    open_: Callable[[], RawBuilder],
    title: str,
    find_archives: Callable[[], Path],
    examples: Callable[[Path, str], Iterator[dict[str, Any]]],
    progress: bool = True,
) -> Any:
    """Return the builder of a set. If the set is missing, write it atomically.

    ``examples(find_archives(), split)`` yields the features of each example. Concurrent processes wait for
    the first one. ``progress`` shows TFDS's bars on a terminal. Raise InputError if the folder cannot be
    written.
    """
    builder = open_()
    if is_prepared(builder):
        return builder
    archives, folder = find_archives(), Path(builder.data_path)
    try:
        with locked(folder.parent):
            builder = open_()
            if not is_prepared(builder):
                for remains in folder.parent.glob(f"incomplete.*_{folder.name}"):
                    shutil.rmtree(remains)
                builder.examples = functools.partial(examples, archives)
                run_builder(builder, progress)
            return builder
    except (OSError, RuntimeError) as error:  # ArrayRecord raises RuntimeError if the disk is full
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(
            f"{title} cannot be prepared in {folder.parent} ({reason}); "
            "free some space, or choose another folder with --data-dir"
        ) from error


def run_builder(builder: Builder, progress: bool = True) -> None:
    """Run the builder's preparation without its output on stdout, which is reserved for results."""
    tfds.display_progress_bar(progress and sys.stderr.isatty())
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(file_format=tfds.core.FileFormat.ARRAY_RECORD)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``folder``. The system releases it if the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_dataset(
    prepared_builder: Callable[[], Builder],
    title: str,
    *,
    is_intact: Callable[[str, AnySplit], bool] = lambda split, content: True,
    image: str = "image",
    label: str = "label",
    group: str | None = None,
    test: str = "test",
    **attributes: Any,
) -> Dataset:
    """Return the `Dataset` of a full set in TFDS's format.

    Args:
        prepared_builder: Returns the builder of the set, and prepares the set first if necessary.
        title: Name of the data set in error messages.
        is_intact: Compares a complete split with what was prepared.
        image, label, group: Names of the features. Only training examples have groups.
        test: TFDS's name of the test split.
        attributes: Remaining attributes of `Dataset`.
    """

    def load(split: str, in_memory: bool) -> Any:
        builder, tfds_split = prepared_builder(), test if split == "test" else split
        names = [label, group] if group and split == "train" else [label]
        with _named_errors(builder, title):
            records = _Records(builder, tfds_split, image)
            images, numbers = records.read(range(len(records)), names, with_images=in_memory)
        if numbers[0].min(initial=0) < 0:
            raise InputError(
                f"the {tfds_split} split in {builder.data_path} contains images without labels; "
                "choose another data set"
            )

        def read_images(rows: np.ndarray) -> np.ndarray:
            with _named_errors(builder, title):
                return records.read(rows.tolist(), [])[0]

        groups = numbers[1] if len(numbers) > 1 else None
        if in_memory:
            content = Split(images, numbers[0], groups)
        else:
            content = StoredSplit(numbers[0], groups, read_images)
        if not is_intact(split, content):
            raise damaged(title, builder.data_path)
        return content

    return Dataset(
        variant="full",
        read=lambda split: load(split, in_memory=True),
        open=lambda split: load(split, in_memory=False),
        **attributes,
    )


class _Records:
    """The records of a prepared split. TFDS's own decoding takes several times as long."""

    def __init__(self, builder: Builder, split: str, image: str):
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._source = builder.as_data_source(split, deserialize_method=raw)
        self._image, self._feature = image, builder.info.features[image]

    def __len__(self) -> int:
        return len(self._source)

    def read(
        self, rows: Sequence[int], names: list[str], with_images: bool = True
    ) -> tuple[UInt8[np.ndarray, "image height width channel"], Int32[np.ndarray, "name row"]]:
        """Return images, or none without ``with_images``, and the integer features ``names``."""
        images = np.empty((len(rows) if with_images else 0, *self._feature.shape), np.uint8)
        numbers = np.empty((len(names), len(rows)), np.int32)
        for start in range(0, len(rows), CHUNK):
            records = self._source.__getitems__(rows[start : start + CHUNK])
            for i, record in enumerate(records, start):
                values = tf_example_pb2.Example.FromString(record).features.feature
                if with_images:
                    images[i] = self._decode(values[self._image].bytes_list.value[0])
                for j, name in enumerate(names):
                    numbers[j, i] = values[name].int64_list.value[0]
        return images, numbers

    def _decode(self, content: bytes) -> np.ndarray:
        if isinstance(self._feature, tfds.features.Image):
            with Image.open(io.BytesIO(content)) as image:
                return np.asarray(image, np.uint8).reshape(self._feature.shape)
        return np.frombuffer(content, np.uint8).reshape(self._feature.shape)


@contextlib.contextmanager
def _named_errors(builder: Builder, title: str) -> Iterator[None]:
    """Convert reader errors, which have many types, into an InputError that names the folder."""
    try:
        yield
    except Exception as error:
        # ArrayRecord reports lack of memory as a RuntimeError.
        if isinstance(error, MemoryError) or "Could not allocate" in str(error):
            raise InputError(
                f"{title} does not fit into the memory of this machine; use --loader stream"
            ) from error
        raise damaged(title, builder.data_path) from error


def damaged(title: str, folder: os.PathLike) -> InputError:
    """Return the error for damaged prepared data."""
    return InputError(
        f"{title} as prepared in {folder} is damaged; delete that folder and run again"
    )


def first_line(error: Exception) -> str:
    """Return the first line of the error's message, or its type if it has no message."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
