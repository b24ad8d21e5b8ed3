"""Data sets that our own TFDS builders write, whole or not at all, without TensorFlow; read back fast."""

import contextlib
import fcntl
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import requests
import tensorflow_datasets as tfds
from jaxtyping import Int, Int32, UInt8
from tensorflow_datasets.proto import tf_example_pb2

from fidle_jax.data.dataset import part_rows
from fidle_jax.errors import InputError

AT_ONCE = 256  # records whose numbers are read together

Builder: TypeAlias = tfds.core.GeneratorBasedBuilder


def open_builder(kind: type[Builder], title: str, data_dir: Path | None, config=None) -> Builder:
    """The builder of class ``kind`` over ``data_dir`` (default: TFDS's own folder); nothing is written.

    Raises:
      InputError: the folder cannot be read, or what is prepared there of the set ``title`` is damaged.
    """
    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    how = {} if config is None else {"config": config}
    try:
        return kind(data_dir=root, file_format=tfds.core.FileFormat.ARRAY_RECORD, **how)
    except OSError as error:
        raise InputError(
            f"{root} cannot be read ({error.strerror or error}); "
            "name another folder with --data-dir"
        ) from error
    except Exception as error:  # whatever TFDS makes of a damaged dataset_info.json
        raise damaged(title, root / kind.name / (config or "") / str(kind.VERSION)) from error


def is_prepared(builder: Builder) -> bool:
    """Whether its folder holds the whole set; what a killed preparation left does not count."""
    return builder.data_path.exists() and builder.is_prepared()


def prepare(
    open_: Callable[[], Builder],
    title: str,
    config: tfds.download.DownloadConfig,
    progress: bool = True,
) -> None:
    """Has the builder that ``open_`` gives write its set at once: it is there whole, or not at all.

    With ``progress``, TFDS's own bars on a terminal tell how far it is. Processes that prepare at the
    same time wait for the first of them.

    Raises:
      InputError: the folder cannot be written.
    """
    folder = Path(open_().data_path)
    try:
        with _locked(folder.parent):
            if is_prepared(builder := open_()):
                return
            _remove_leftovers(builder)
            # TFDS shows each shard a bar, and announces itself on stdout, which belongs to results.
            tfds.display_progress_bar(progress and sys.stderr.isatty())
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(download_config=config)
    except requests.RequestException:  # an OSError, too, but of a download
        raise
    except (OSError, RuntimeError) as error:  # array_record's own, where the disk is full
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            f"{title} cannot be prepared in {folder.parent} ({reason}); "
            "make room there, or name another folder with --data-dir"
        ) from error


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


def _remove_leftovers(builder: Builder) -> None:
    folder = Path(builder.data_path)
    downloads = Path(builder.data_dir_root) / "downloads" / builder.name
    for leftover in (
        *folder.parent.glob(f"incomplete.*_{folder.name}"),
        *downloads.glob("**/*.tmp.*"),
    ):
        shutil.rmtree(leftover)


def read(
    builder: Builder, title: str, split: str, part: tuple[int, int]
) -> tuple[
    UInt8[np.ndarray, "example height width channel"], dict[str, Int32[np.ndarray, "example"]]
]:
    """Images and numbers of a part of a split: of its feature "image", and of the others by name.

    Raises:
      InputError: what was prepared is damaged, or does not fit into memory.
    """
    with _reading(builder, title):
        source = raw_source(builder, split)
        records = source.__getitems__(part_rows(len(source), part))
        pixels, numbers = _decode(records, _names_of_numbers(builder))
        return pixels.reshape(-1, *builder.info.features["image"].shape), numbers


def open_split(
    builder: Builder, title: str, split: str, part: tuple[int, int]
) -> tuple[
    dict[str, Int32[np.ndarray, "example"]],
    Callable[[Int[np.ndarray, "row"]], UInt8[np.ndarray, "row height width channel"]],
]:
    """The numbers that `read` gives, and what reads the images of any examples of the whole split.

    Raises:
      InputError: what was prepared is damaged; so does reading images.
    """
    shape = builder.info.features["image"].shape
    with _reading(builder, title):
        source = raw_source(builder, split)
        rows = part_rows(len(source), part)
        numbers = read_numbers(source, rows, _names_of_numbers(builder))

    def read_images(rows: np.ndarray) -> np.ndarray:
        with _reading(builder, title):
            return _decode(source.__getitems__(rows.tolist()), [])[0].reshape(-1, *shape)

    return numbers, read_images


def raw_source(builder: tfds.core.DatasetBuilder, split: str):
    """The records of a split as bytes, by index."""
    return builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)


def read_numbers(source, rows: range, names: list[str]) -> dict[str, Int32[np.ndarray, "example"]]:
    """The features ``names``, one number each, of those records; no more than a few are held at once."""
    numbers = {name: np.empty(len(rows), np.int32) for name in names}
    for start in range(0, len(rows), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        for place, record in enumerate(source.__getitems__(rows[some]), start):
            feature = tf_example_pb2.Example.FromString(record).features.feature
            for name in names:
                numbers[name][place] = feature[name].int64_list.value[0]
    return numbers


@contextlib.contextmanager
def _reading(builder: Builder, title: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a reader makes of damaged files
        if is_lack_of_memory(error):
            raise does_not_fit(title) from error
        raise damaged(title, builder.data_path) from error


def _names_of_numbers(builder: Builder) -> list[str]:
    return [name for name in builder.info.features if name != "image"]


def _decode(records: list[bytes], names: list[str]):
    """Pixels, and each feature of one number; TFDS's own decoding takes several times as long."""
    pixels, numbers = bytearray(), {name: [] for name in names}
    for record in records:
        feature = tf_example_pb2.Example.FromString(record).features.feature
        pixels += feature["image"].bytes_list.value[0]
        for name in names:
            numbers[name].append(feature[name].int64_list.value[0])
    return np.frombuffer(pixels, np.uint8), {k: np.array(v, np.int32) for k, v in numbers.items()}


def is_lack_of_memory(error: Exception) -> bool:
    """Whether it is no fault of the files; array_record raises a kind of its own."""
    return isinstance(error, MemoryError) or "Could not allocate" in str(error)


def does_not_fit(title: str) -> InputError:
    """What is raised where a set is larger than memory."""
    return InputError(f"{title} does not fit into this machine's memory; give --loader stream")


def damaged(title: str, folder: os.PathLike) -> InputError:
    """What is raised where a prepared set is not what was written."""
    return InputError(
        f"{title} as prepared in {folder} is damaged; delete that folder and run again"
    )
