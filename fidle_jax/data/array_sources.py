"""Read labelled images from arrays: idx files and .npz files. Each is read in parts."""

import contextlib
import gzip
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from fidle_jax.data.sources import Content, Examples, Source
from fidle_jax.errors import InputError

PART = 4096  # images, or rows of a table, that are read at a time
IDX = re.compile(r"(.*?)(train|t10k|test)([-_.]images[-_.]idx)[34](-ubyte)(\.gz)?$")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert the errors of readers, which have many types, to an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = (
            (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        )
        raise InputError(
            f"{path} cannot be read ({' '.join(str(reason).split())[:200]}); check the file"
        ) from error


def array_examples(
    path: Path, images: str, shape: Any, labels: np.ndarray, read: Callable
) -> Examples:
    """Return the examples of an array ``images`` of this shape. ``read`` iterates over parts of it."""
    if (
        len(shape) not in (3, 4)
        or (len(shape) == 4 and shape[3] not in (1, 3))
        or min(shape[1:]) < 1
    ):
        raise InputError(
            f"{path}: {images} has shape {tuple(shape)}; expected (example, height, width), or "
            "(example, height, "
            "width, channel) with 1 or 3 channels"
        )
    if len(labels) != shape[0]:
        raise InputError(f"{path} has {shape[0]:,} images but {len(labels):,} labels in {images}")

    def contents() -> Iterator[Content]:
        with reading(path):
            for part in read():
                yield from part

    names = [f"{path}: image {i}" for i in range(len(labels))]
    return Examples(names, label_names(path, labels), contents)


def label_names(path: Path, labels: np.ndarray) -> list[str]:
    """Return labels as text. Raise InputError unless they are whole numbers of at least 0, or text."""
    labels = labels.ravel() if labels.ndim == 2 and labels.shape[1] == 1 else labels
    whole = np.issubdtype(labels.dtype, np.integer) or labels.dtype.kind == "U"
    if labels.ndim != 1 or not whole:
        raise InputError(
            f"{path} has labels of shape {labels.shape} and type {labels.dtype}; expected one "
            "whole number or "
            "text for each image"
        )
    if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
        row = int(np.argmax(labels < 0))
        raise InputError(
            f"{path}: the label of image {row} is {labels[row]}; it must be at least 0"
        )
    return [str(each) for each in labels.tolist()]


def find_idx(images: Path) -> Source:
    """Return the images of a data set of idx files. ``images`` is the file of one of its splits."""
    found = IDX.match(images.name)
    assert found
    splits, files = {}, []
    for part, split in (("train", "train"), ("t10k", "test"), ("test", "test")):
        pattern = re.compile(re.escape(found[1] + part + found[3]) + r"[34]-ubyte(\.gz)?")
        for path in sorted(
            each for each in images.parent.iterdir() if pattern.fullmatch(each.name)
        )[:1]:
            labels = re.sub(r"images([-_.]idx)[34]", r"labels\g<1>1", path.name)
            at = [
                path.parent / name for name in (labels, labels.removesuffix(".gz"), f"{labels}.gz")
            ]
            label_file = next((each for each in at if each.exists()), None)
            if label_file is None:
                raise InputError(f"{at[0]} is missing; it must contain the labels of {path}")
            numbers = np.concatenate([*_read_idx(label_file), np.empty(0, np.uint8)])
            with reading(path), _open(path) as file:
                shape = _idx_shape(file)
            parts = lambda path=path: _read_idx(path)  # noqa: E731
            splits[split] = array_examples(path, "the file", shape, numbers, parts)
            files += [str(path), str(label_file)]
    if "train" not in splits:
        raise InputError(
            f"{images.parent} has no training images; expected {found[1]}train{found[3]}3-ubyte"
        )
    return Source("idx files", splits, files)


def _open(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _idx_shape(file: IO[bytes]) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08" or magic[3] not in (1, 3, 4):
        raise ValueError("it is no idx file of bytes")
    return tuple(np.frombuffer(file.read(4 * magic[3]), ">u4").tolist())


def _read_idx(path: Path) -> Iterator[np.ndarray]:
    with reading(path), _open(path) as file:
        yield from _read_parts(file, _idx_shape(file), np.dtype(np.uint8))
        if file.read(1):
            raise ValueError("it is longer than its header says")


def _read_parts(file: IO[bytes], shape: Sequence[int], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Read an array of this shape in parts along the first axis."""
    rows, size = shape[0], int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    for start in range(0, rows, PART):
        count = min(PART, rows - start)
        content = file.read(count * size)
        if len(content) != count * size:
            raise ValueError("it is shorter than its header says")
        yield np.frombuffer(content, dtype).reshape(count, *shape[1:])


def find_npz(path: Path) -> Source:
    """Return the images in an .npz file with the arrays of Keras or of MedMNIST."""
    splits = {}
    with reading(path), zipfile.ZipFile(path) as archive:
        members = [name.removesuffix(".npy") for name in archive.namelist()]
        for split, parts in (
            ("train", ["train"]),
            ("validation", ["val", "valid"]),
            ("test", ["test"]),
        ):
            for part in parts:
                for x, y in ((f"x_{part}", f"y_{part}"), (f"{part}_images", f"{part}_labels")):
                    if x in members and y in members:
                        shape, dtype, _ = _npy_header(archive, x)
                        if dtype != np.uint8:
                            raise InputError(
                                f"{path}: {x} has type {dtype}; expected uint8 from 0 to 255; "
                                "convert it"
                            )
                        with archive.open(f"{y}.npy") as file:
                            labels = np.lib.format.read_array(file, allow_pickle=False)
                        read = lambda x=x: _read_npy(path, x)  # noqa: E731
                        splits[split] = array_examples(path, x, shape, labels, read)
    if "train" not in splits:
        raise InputError(
            f"{path} has the arrays {', '.join(members) or 'none'}; expected x_train, y_train, "
            "x_test and y_test"
        )
    return Source("NumPy arrays", splits, [str(path)])


def _npy_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Return the shape, the type, and whether the first axis varies fastest."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, is_fortran, dtype = read[version](file)
    if dtype.hasobject:
        raise ValueError(
            f"{name} contains Python objects, which may run code; save arrays of numbers"
        )
    return shape, dtype, is_fortran


def _read_npy(path: Path, name: str) -> Iterator[np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        shape, dtype, is_fortran = _npy_header(archive, name)
        with archive.open(f"{name}.npy") as file:
            if is_fortran:
                yield np.lib.format.read_array(file, allow_pickle=False)
                return
            np.lib.format.read_magic(file)
            file.seek(0)
            header = np.lib.format.read_magic(file)
            length = int.from_bytes(file.read(2 if header == (1, 0) else 4), "little")
            file.read(length)
            yield from _read_parts(file, shape, dtype)
