"""Scan and decode chunks of images in worker processes. A damaged image becomes the reason to skip it."""

import hashlib
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fidle_jax.data import decode
from fidle_jax.data.sources import Content, Examples, ImageFile
from fidle_jax.errors import InputError

SMALLEST_SIDE = 4  # smaller images are skipped
CHUNK = 64  # images per task of a worker process

_log = logging.getLogger("fidle_jax")


def chunks_of(examples: Examples) -> Iterator[list[tuple[str, Content]]]:
    """Iterate over the names and contents of the examples, in chunks for `map_chunks`."""
    names = map(examples.name, range(len(examples.labels)))
    named = zip(names, examples.read(), strict=True)
    while chunk := list(itertools.islice(named, CHUNK)):
        yield chunk


class Scanned(NamedTuple):
    """Digest, size and colour of an image, read without decoding it."""

    digest: bytes
    height: int
    width: int
    is_grey: bool


def scan_chunk(chunk: list[tuple[str, Content]]) -> list[Scanned | str]:
    """Return the size and digest of each image, or the reason why it is skipped."""
    found = []
    for name, content in chunk:
        try:
            if isinstance(content, np.ndarray):
                height, width = content.shape[:2]
                scanned = (height, width, content.ndim == 2 or content.shape[2] == 1)
                digest = hashlib.sha256(np.ascontiguousarray(content))
            else:
                data = _bytes_of(content, name)
                scanned = decode.read_size(data, name)
                digest = hashlib.sha256(data)
            if isinstance(content, ImageFile) and content.box:
                left, top, right, bottom = content.box
                scanned = (bottom - top, right - left, scanned[2])
                digest.update(repr(content.box).encode())
            if min(scanned[:2]) < SMALLEST_SIDE:
                size = f"{scanned[1]}x{scanned[0]} pixels"
                raise InputError(
                    f"{name} has {size}; expected at least {SMALLEST_SIDE} on each side"
                )
            found.append(Scanned(digest.digest(), *scanned))
        except InputError as error:
            found.append(str(error))
    return found


def _bytes_of(content: ImageFile | bytes, name: str) -> bytes:
    return content if isinstance(content, bytes) else decode.read_bytes(Path(content.path), name)


class Decoded(NamedTuple):
    """A decoded image."""

    pixels: UInt8[np.ndarray, "height width channel"]
    notes: list[str]  # warnings of the decoder


def decode_chunk(
    shape: tuple[int, int, int], how: decode.Resize, chunk: list[tuple[str, Content]]
) -> list[Decoded | str]:
    """Return each image in ``shape``, or the reason why it is skipped."""
    found, notes = [], []

    def collect(record: logging.LogRecord) -> bool:
        notes.append(record.getMessage())
        return False

    _log.addFilter(collect)
    try:
        for name, content in chunk:
            notes.clear()
            try:
                pixels = _decode(content, name, shape, how)
                found.append(Decoded(pixels, list(notes)))
            except InputError as error:
                found.append(str(error))
    finally:
        _log.removeFilter(collect)
    return found


def _decode(content: Content, name: str, shape: tuple[int, int, int], how: decode.Resize) -> Any:
    if isinstance(content, np.ndarray):
        image = Image.fromarray(content[..., 0] if content.shape[2:] == (1,) else content)
    else:
        box = content.box if isinstance(content, ImageFile) else None
        image = decode.read_image(_bytes_of(content, name), name, None if box else max(shape[:2]))
        if box:
            if box[2] > image.width or box[3] > image.height:
                raise InputError(
                    f"{name} has {image.width}x{image.height} pixels, but the region {box}"
                )
            image = image.crop(box)
    return decode.resize_image(decode.flatten(image), shape, how)
