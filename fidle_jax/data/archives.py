"""The four official archives of MNIST, and what can be wrong with a copy of them."""

import csv
import gzip
import hashlib
import importlib.resources
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from fidle_jax.errors import InputError

CLASSES = 10
IMAGE_MAGIC = 2051
LABEL_MAGIC = 2049
_DIMENSIONS = {
    "train-images-idx3-ubyte.gz": (60_000, 28, 28),
    "train-labels-idx1-ubyte.gz": (60_000,),
    "t10k-images-idx3-ubyte.gz": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte.gz": (10_000,),
}


@dataclass(frozen=True)
class Archive:
    """One official file: where it is published, its size in bytes, and what it holds."""

    filename: str
    url: str
    size: int
    sha256: str
    dimensions: tuple[int, ...]


def official_archives() -> dict[str, Archive]:
    """The four archives by file name, from the table that TFDS checks downloads against."""
    table = importlib.resources.files("fidle_jax.data").joinpath("checksums.tsv").read_text()
    rows = csv.reader(table.splitlines(), delimiter="\t")
    return {
        name: Archive(name, url, int(size), sha256, _DIMENSIONS[name])
        for url, size, sha256, name in rows
    }


def check_archives(folder: Path) -> None:
    """Raises InputError where ``folder`` does not hold the four archives, byte for byte."""
    if not folder.is_dir():
        raise InputError(
            f"archives folder {folder} does not exist or is no folder; give the folder that holds "
            f"{', '.join(_DIMENSIONS)}"
        )
    for archive in official_archives().values():
        _check_archive(folder / archive.filename, archive)


def read_archive(path: Path, dimensions: tuple[int, ...]) -> UInt8[np.ndarray, "example *image"]:
    """Reads a gzipped idx file of unsigned bytes.

    Source of the format: http://yann.lecun.com/exdb/mnist/

    Args:
      path: the ``.gz`` file.
      dimensions: what it has to hold, (examples, height, width) or (examples,); labels, the
        latter, have to be below 10.

    Raises:
      InputError: names the file and the first thing that is wrong with it.
    """
    values = _parse_idx(_gunzip(path), path, dimensions)
    if len(dimensions) == 1 and values.size and values.max() >= CLASSES:
        raise InputError(
            f"{path}: label {values.max()} found, expected 0 to {CLASSES - 1}; "
            "get the official file"
        )
    return values


def _check_archive(path: Path, archive: Archive) -> None:
    content = _read_bytes(path)
    found = hashlib.sha256(content).hexdigest()
    if len(content) == archive.size and found == archive.sha256:
        return
    read_archive(path, archive.dimensions)
    if len(content) != archive.size:
        raise InputError(
            f"{path}: {len(content):,} bytes, expected {archive.size:,}; get it from {archive.url}"
        )
    raise InputError(
        f"{path}: sha256 {found}, expected {archive.sha256}; get it from {archive.url}"
    )


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing; get the official {path.name} there") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; expected a .gz file") from None


def _gunzip(path: Path) -> bytes:
    compressed = _read_bytes(path)
    if compressed and not b"\x1f\x8b".startswith(compressed[:2]):
        raise InputError(f"{path}: not a gzip file; get the official .gz, and do not unpack it")
    try:
        content = gzip.decompress(compressed)
    except EOFError:
        raise InputError(
            f"{path}: truncated at {len(compressed):,} bytes; copy the whole file"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file ({error}); get it again") from None
    if not content:
        raise InputError(f"{path}: empty; get the official file")
    return content


def _parse_idx(
    content: bytes, path: Path, dimensions: tuple[int, ...]
) -> UInt8[np.ndarray, "example *image"]:
    expected_magic = IMAGE_MAGIC if len(dimensions) == 3 else LABEL_MAGIC
    header_size = 4 * (1 + len(dimensions))
    if len(content) < header_size:
        raise InputError(
            f"{path}: {len(content)} bytes, less than an idx header of {header_size}; "
            "get the official file"
        )
    magic, *found = np.frombuffer(content[:header_size], dtype=">i4").tolist()
    if magic != expected_magic:
        raise InputError(
            f"{path}: idx magic number {magic}, expected {expected_magic}; get the official file"
        )
    if tuple(found) != dimensions:
        raise InputError(
            f"{path}: idx counts {_times(found)}, expected {_times(dimensions)}; "
            "get the official file"
        )
    values = np.frombuffer(content, dtype=np.uint8, offset=header_size)
    if values.size != np.prod(dimensions):
        raise InputError(
            f"{path}: {values.size:,} values after the idx header, which counts "
            f"{_times(dimensions)}; get the official file"
        )
    return values.reshape(dimensions)


def _times(dimensions: list[int] | tuple[int, ...]) -> str:
    return " x ".join(map(str, dimensions))
