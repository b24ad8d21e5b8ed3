"""Prepare a user's own images: scan the files, decode them once in parallel, and store uint8 ArrayRecord.

Prepared images lie in DATA_DIR/own_images/KEY. KEY is a digest of the contents, the labels and the settings.
"""

import functools
import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_record.python import array_record_module
from jaxtyping import Int, UInt8
from PIL import Image

from fidle_jax.data import decode, prepared
from fidle_jax.data.duplicates import find_groups, fingerprint
from fidle_jax.data.sources import Content, Examples, ImageFile, Source, stamp
from fidle_jax.data.workers import map_chunks
from fidle_jax.errors import InputError, printable
from fidle_jax.files import read_json, reading, sealed, write_json

FOLDER = "own_images"
VERSION = 1  # of the prepared images; part of their key
LARGEST_SIDE, STEP = 128, 8  # of the default size in pixels
SMALLEST_SIDE = 4  # smaller images are skipped
CHUNK = 64  # images per task of a worker process
PART = 256  # records that are read at a time
OPTIONS = "group_size:1,uncompressed"
READ_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # for random access
NAMED = 5  # skipped files that are named in a message

_log = logging.getLogger("fidle_jax")


class Settings(NamedTuple):
    """How images are prepared. See the flags of the same names in `fidle_jax/train/config.py`."""

    image_size: int | None = None
    resize: decode.Resize = "fit"
    crop: str = "full"
    allow_skipped: float = 0.01


class Prepared(NamedTuple):
    """The content of a folder of prepared images."""

    folder: Path
    info: dict[str, Any]
    arrays: dict[str, np.ndarray]  # "labels/SPLIT", "groups/SPLIT", "fingerprints/SPLIT"


def prepare(
    path: Path,
    source: Source,
    class_names: Sequence[str],
    settings: Settings,
    data_dir: Path | None,
    announce: Callable[[str], None],
) -> Prepared:
    """Return the prepared images. If they are missing, write them atomically.

    ``announce`` receives a description of what was found, before the images are decoded. Raise what
    `load_own` raises.
    """
    root = prepared.data_root(data_dir) / FOLDER
    before = stamp(source.files)
    request = _digest(
        [VERSION, before, settings, source.kind, [s.labels for s in source.splits.values()]]
    )
    shortcut = root / f"{request}.json"
    try:
        with prepared.locked(root):
            if shortcut.exists():
                folder = root / read_json(shortcut, {"key": str})["key"]
                if (folder / "info.json").exists():
                    found = _open(folder)
                    announce(found.info["found"]["text"])
                    return found
            for remains in root.glob("*.part"):
                shutil.rmtree(remains, ignore_errors=True)
            sizes, key, scanned = _scan_all(path, source, settings)
            shape = _choose_shape(sizes, settings.image_size)
            announce(scanned["text"])
            folder = root / key
            if not (folder / "info.json").exists():
                part = root / f"{key}.part"
                part.mkdir()
                try:
                    found = scanned | {"key": key}
                    _write(part, path, source, class_names, settings, shape, found)
                    if stamp(source.files) != before:
                        raise InputError(f"{path} changed while it was read; run again")
                    part.rename(folder)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
            write_json(shortcut, {"key": key})
            return _open(folder)
    except (OSError, RuntimeError) as error:  # ArrayRecord raises RuntimeError if the disk is full
        reason = getattr(error, "strerror", None) or prepared.first_line(error)
        raise InputError(
            f"{path} cannot be prepared in {root} ({reason}); free some space, or choose another "
            "folder with "
            "--data-dir"
        ) from error


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def chunks_of(examples: Examples) -> Iterator[list[tuple[str, Content]]]:
    """Iterate over the names and contents of the examples, in chunks for `map_chunks`."""
    named = zip(examples.names, examples.read(), strict=True)
    while chunk := list(itertools.islice(named, CHUNK)):
        yield chunk


class _Scanned(NamedTuple):
    """What is known about an image without decoding it."""

    digest: bytes
    height: int
    width: int
    is_grey: bool


def _scan_chunk(chunk: list[tuple[str, Content]]) -> list[_Scanned | str]:
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
            found.append(_Scanned(digest.digest(), *scanned))
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


def _scan_all(
    path: Path, source: Source, settings: Settings
) -> tuple[Int[np.ndarray, "example 3"], str, dict[str, Any]]:
    """Return height, width and whether it is grey of each image, the key, and what the report says."""
    digest = hashlib.sha256(repr((VERSION, settings)).encode())
    sizes, skipped = [], list(source.skipped)
    total = sum(len(examples.labels) for examples in source.splits.values())
    for split, examples in source.splits.items():
        done = map_chunks(
            _scan_chunk, chunks_of(examples), len(examples.labels), f"scanning {split}"
        )
        for i, result in enumerate(itertools.chain.from_iterable(done)):
            if isinstance(result, str):
                skipped.append(result)
                continue
            digest.update(json.dumps([split, examples.labels[i]]).encode() + result.digest)
            sizes.append((result.height, result.width, result.is_grey))
    check_skipped(path, skipped, total + len(source.skipped), settings.allow_skipped)
    sizes = np.array(sizes)
    areas = np.argsort(sizes[:, 0] * sizes[:, 1], kind="stable")
    small, median, large = (
        f"{width}x{height}" for height, width, _ in sizes[areas[[0, len(areas) // 2, -1]]]
    )
    pixels = small if small == large else f"{small} to {large} (median {median})"
    counts = [len(examples.labels) for examples in source.splits.values()]
    classes = len(set(source.splits["train"].labels))
    images = " + ".join(f"{n:,} {split}" for n, split in zip(counts, source.splits, strict=True))
    text = f"found: {path}: {source.kind}, {images} images in {classes:,} classes, {pixels} pixels"
    if skipped:
        named = "; ".join(map(printable, skipped[:NAMED])) + (
            "; ..." if len(skipped) > NAMED else ""
        )
        text += f"\nskipped: {len(skipped):,} files: {named}"
    if source.junk:
        text += f"\nignored: {len(source.junk):,} system files, such as {printable(source.junk[0])}"
    facts = {
        "path": str(path),
        "kind": source.kind,
        "sizes": pixels,
        "skipped": [printable(each) for each in skipped[:100]],
        "skipped_count": len(skipped),
        "text": text,
    }
    return sizes, digest.hexdigest()[:32], facts


def check_skipped(path: Path, skipped: Sequence[str], total: int, allowed: float) -> None:
    """Raise InputError if more than the fraction ``allowed`` of the files were skipped, or all "
    "of them."""
    if skipped and (len(skipped) > allowed * total or len(skipped) == total):
        raise InputError(
            f"{len(skipped):,} of {total:,} files in {path} are damaged or no images, for example: "
            f"{printable(skipped[0])}; remove them, or allow a fraction with --allow-skipped"
        )


def _choose_shape(sizes: Int[np.ndarray, "example 3"], side: int | None) -> tuple[int, int, int]:
    """Return the image shape: one common small size, or a square. See `--image-size`."""
    channels = 1 if sizes[:, 2].all() else 3
    height, width = sizes[0, :2].tolist()
    if (
        side is None
        and (sizes[:, :2] == (height, width)).all()
        and max(height, width) <= LARGEST_SIDE
    ):
        return height, width, channels
    if side is None:
        median = float(np.median(sizes[:, :2].mean(axis=1)))
        side = min(max(STEP * round(median / STEP), STEP), LARGEST_SIDE)
    return side, side, channels


def _write(
    folder: Path,
    path: Path,
    source: Source,
    class_names: Sequence[str],
    settings: Settings,
    shape: tuple[int, int, int],
    found: dict[str, Any],
) -> None:
    """Decode all images and write them with their labels and groups of near-duplicates to "
    "``folder``."""
    index = {name: i for i, name in enumerate(class_names)}
    labels, prints, skipped, notes = {}, {}, [], []
    is_grey = True
    for split, examples in source.splits.items():
        writer = array_record_module.ArrayRecordWriter(str(_records(folder, split)), OPTIONS)
        labels[split], prints[split] = [], []
        work = functools.partial(decode_chunk, shape, settings.resize)
        title = f"preparing {split}"
        done = map_chunks(work, chunks_of(examples), len(examples.labels), title)
        for i, result in enumerate(itertools.chain.from_iterable(done)):
            if isinstance(result, str):
                skipped.append(result)
                continue
            pixels = result.pixels
            is_grey = is_grey and bool((pixels == pixels[..., :1]).all())
            notes += result.notes
            writer.write(np.ascontiguousarray(pixels).tobytes())
            labels[split].append(index[examples.labels[i]])
            prints[split].append(fingerprint(pixels))
        writer.close()
        if not labels[split]:
            raise InputError(f"all images of the {split} split of {path} are damaged")
    total = found["skipped_count"] + sum(map(len, labels.values()))
    check_skipped(path, [*found["skipped"], *skipped], total, settings.allow_skipped)
    if notes:
        _log.warning("%d images are unusual; the first: %s", len(notes), notes[0])
    if skipped:
        _log.warning(
            "%d more files are skipped, for example %s", len(skipped), printable(skipped[0])
        )
    if is_grey and shape[2] == 3:
        for split in labels:
            _keep_one_channel(_records(folder, split))
        shape = (*shape[:2], 1)
    every = [np.array(each, np.int32) for each in labels.values()]
    fingerprints = {split: np.stack(each) for split, each in prints.items()}
    groups = find_groups(np.concatenate(list(fingerprints.values())), np.concatenate(every))
    ends = np.cumsum([len(each) for each in every])[:-1]
    arrays = {
        **{f"labels/{split}": each for split, each in zip(labels, every, strict=True)},
        **{f"groups/{split}": e for split, e in zip(labels, np.split(groups, ends), strict=True)},
        **{f"fingerprints/{split}": each for split, each in fingerprints.items()},
    }
    np.savez(folder / "arrays.npz", **arrays)  # pyright: ignore[reportArgumentType]
    info = {"image_shape": list(shape), "splits": list(labels), "key": found.pop("key")}
    write_json(folder / "info.json", sealed(info | {"found": found}))


def _records(folder: Path, split: str) -> Path:
    return folder / f"{split}.array_record"


def _keep_one_channel(path: Path) -> None:
    grey = path.with_suffix(".grey")
    reader = array_record_module.ArrayRecordReader(str(path), READ_OPTIONS)
    writer = array_record_module.ArrayRecordWriter(str(grey), OPTIONS)
    for i in range(reader.num_records()):
        writer.write(reader.read([i])[0][::3])
    writer.close()
    reader.close()
    grey.replace(path)


def _open(folder: Path) -> Prepared:
    info = read_json(
        folder / "info.json", {"image_shape": list, "splits": list, "key": str, "found": dict}
    )
    with reading(folder / "arrays.npz"), np.load(folder / "arrays.npz", allow_pickle=False) as file:
        return Prepared(folder, info, dict(file))


class Records:
    """Random access to the images of a prepared split."""

    def __init__(self, folder: Path, split: str, shape: tuple[int, int, int]):
        self._path, self._shape = _records(folder, split), shape
        self._reader = array_record_module.ArrayRecordReader(str(self._path), READ_OPTIONS)

    def read(self, rows: Int[np.ndarray, " row"]) -> UInt8[np.ndarray, "row height width channel"]:
        """Return the images ``rows``. Raise InputError if the file is damaged."""
        images = np.empty((len(rows), *self._shape), np.uint8)
        try:
            for start in range(0, len(rows), PART):
                records = self._reader.read(rows[start : start + PART].tolist())
                for i, record in enumerate(records, start):
                    images[i] = np.frombuffer(record, np.uint8).reshape(self._shape)
        except Exception as error:  # ArrayRecord raises many types
            raise prepared.damaged("the set of images", self._path.parent) from error
        return images
