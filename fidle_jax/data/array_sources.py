"""Read labelled images from arrays: idx files and .npz files. Each is read in parts."""

import contextlib
import gzip
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from fidle_jax.data.decode import MAX_PIXELS
from fidle_jax.data.sources import Content, Examples, Source
from fidle_jax.errors import InputError, printable

PART_BYTES = 2**23  # of an array that are read at a time
MAX_EXAMPLES = 10_000_000  # more labels do not fit into memory
MAX_LABEL = 200  # characters
IDX = re.compile(r"(.*?)(train|t10k|test)([-_.]images[-_.]idx)[34](-ubyte)(\.gz)?$")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?(nan|inf|infinity)", re.IGNORECASE)


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
            f"{path} cannot be read ({printable(' '.join(str(reason).split()))[:200]}); expected a "
            "complete file of this kind; check it, or make it again"
        ) from error


def array_examples(
    path: Path, images: str, shape: Any, labels: Any, read: Callable[[], Iterator[np.ndarray]]
) -> Examples:
    """Return the examples of an array ``images`` of this shape. ``read`` iterates over parts of it."""
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or min(shape[1:]) < 1:
        raise InputError(
            f"{path}: {images} has the shape {tuple(shape)}; expected (example, height, width), or "
            "(example, height, width, channel) with 1 or 3 channels"
        )
    if math.prod(shape[1:]) > MAX_PIXELS:
        raise InputError(
            f"{path}: {images} has the shape {tuple(shape)}; expected at most {MAX_PIXELS:,} pixels "
            "in each image; scale them down"
        )
    names = label_names(path, labels)
    if len(names) != shape[0]:
        raise InputError(
            f"{path}: {images} has {shape[0]:,} images, but there are {len(names):,} labels; expected "
            "one label for each image"
        )

    def contents() -> Iterator[Content]:
        with reading(path):
            for part in read():
                yield from part

    return Examples(names, lambda i: f"{path}: image {i}", contents)


def label_names(path: Path, labels: np.ndarray | list[str]) -> list[str]:
    """Return labels as text. Raise InputError unless they are whole numbers of at least 0, or names."""
    if isinstance(labels, np.ndarray):
        if labels.dtype.kind not in "iuU":
            raise InputError(
                f"{path} has labels of the type {labels.dtype}; expected whole numbers or names"
            )
        labels = labels.ravel().astype(str).tolist()
    distinct = dict.fromkeys(labels)
    # A name may be a negative number, unless all names are numbers.
    if distinct and all(NUMBER.fullmatch(label) for label in distinct):
        wrong = next((label for label in distinct if not label.isdecimal()), None)
        if wrong is not None:
            raise InputError(
                f"{path}: the label of example {labels.index(wrong)} is {wrong[:MAX_LABEL]}; expected "
                "whole numbers of at least 0, or names; correct it"
            )
    for label in distinct:
        if not label.strip() or len(label) > MAX_LABEL:
            shown = printable(label[:20]) + ("..." if len(label) > 20 else "")
            raise InputError(
                f"{path}: the label of example {labels.index(label)} is {shown!r}; expected 1 to "
                f"{MAX_LABEL} characters; correct it, or check which column contains the labels"
            )
    return labels


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
                raise InputError(
                    f"{at[0]} is missing; it must contain the labels of {path}; add it"
                )
            numbers = np.concatenate([np.empty(0, np.uint8), *_read_idx(label_file, (1,))])
            with reading(path), _open(path) as file:
                shape = _idx_shape(file, (3, 4))
            parts = lambda path=path: _read_idx(path, (3, 4))  # noqa: E731
            splits[split] = array_examples(path, "the file", shape, numbers, parts)
            files += [str(path), str(label_file)]
    if "train" not in splits:
        raise InputError(
            f"{images.parent} has no training images; expected {found[1]}train{found[3]}3-ubyte"
        )
    return Source("idx files", splits, files)


def _open(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _idx_shape(file: IO[bytes], dimensions: tuple[int, ...]) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08" or magic[3] not in dimensions:
        raise ValueError(f"its header is not that of an idx file of {dimensions[0]}-D bytes")
    numbers = file.read(4 * magic[3])
    if len(numbers) < 4 * magic[3]:
        raise ValueError("it ends in its header")
    return tuple(np.frombuffer(numbers, ">u4").tolist())


def _read_idx(path: Path, dimensions: tuple[int, ...]) -> Iterator[np.ndarray]:
    with reading(path), _open(path) as file:
        yield from _read_parts(file, _idx_shape(file, dimensions), np.dtype(np.uint8))
        if file.read(1):
            raise ValueError("it is longer than its header says")


def _read_parts(file: IO[bytes], shape: Sequence[int], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Read an array of this shape in parts along the first axis."""
    if shape[0] > MAX_EXAMPLES:
        raise ValueError(f"it has {shape[0]:,} examples; expected at most {MAX_EXAMPLES:,}")
    size = math.prod(shape[1:]) * dtype.itemsize
    step = max(PART_BYTES // max(size, 1), 1)
    for start in range(0, shape[0], step):
        count = min(step, shape[0] - start)
        content = file.read(count * size)
        if len(content) != count * size:
            raise ValueError("it is shorter than its header says")
        yield np.frombuffer(content, dtype).reshape(count, *shape[1:])


def find_npz(path: Path) -> Source:
    """Return the images in an .npz file with the arrays of Keras or of MedMNIST."""
    splits = {}
    with reading(path), zipfile.ZipFile(path) as archive:
        members = [name.removesuffix(".npy") for name in archive.namelist()]
        for part, split in (("train", "train"), ("val", "validation"), ("test", "test")):
            for x, y in ((f"x_{part}", f"y_{part}"), (f"{part}_images", f"{part}_labels")):
                if x not in members or y not in members:
                    continue
                with _array(archive, x) as (_, shape, dtype):
                    if dtype != np.uint8:
                        raise InputError(
                            f"{path}: {x} has the type {dtype}; expected uint8 from 0 to 255; "
                            "convert it"
                        )
                with _array(archive, y) as (file, at, dtype):
                    is_list = len(at) > 0 and at[1:] in ((), (1,))
                    if not is_list or dtype.kind not in "iuU" or dtype.itemsize > 4 * MAX_LABEL:
                        raise InputError(
                            f"{path}: {y} has the shape {at} and the type {dtype}; expected one whole "
                            "number or name for each image"
                        )
                    labels = np.concatenate(
                        [np.empty((0, *at[1:]), dtype), *_read_parts(file, at, dtype)]
                    )
                read = lambda x=x: _read_npy(path, x)  # noqa: E731
                splits[split] = array_examples(path, x, shape, labels, read)
    if "train" not in splits:
        raise InputError(
            f"{path} has the arrays {printable(', '.join(members))[:200] or 'none'}; expected "
            "x_train, y_train, and possibly x_test and y_test"
        )
    return Source("NumPy arrays", splits, [str(path)])


@contextlib.contextmanager
def _array(
    archive: zipfile.ZipFile, name: str
) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    """Open an array of an .npz file, and read its shape and type. Never unpickle it."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} has an unknown version")
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError(
                f"{name} contains Python objects, which may run code; save arrays of numbers"
            )
        if is_fortran and len(shape) > 1:
            raise ValueError(f"{name} is in Fortran order; save np.ascontiguousarray of it")
        yield file, shape, dtype


def _read_npy(path: Path, name: str) -> Iterator[np.ndarray]:
    with zipfile.ZipFile(path) as archive, _array(archive, name) as (file, shape, dtype):
        yield from _read_parts(file, shape, dtype)
