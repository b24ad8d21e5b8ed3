"""Prepare a user's own images: scan the files, decode them once in parallel, and store uint8 ArrayRecord.

Prepared images lie in DATA_DIR/own_images/KEY. KEY is a digest of the contents, the labels and the settings.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_record.python import array_record_module
from jaxtyping import Int, UInt8

from fidle_jax.data import decode, prepared
from fidle_jax.data.chunks import chunks_of, decode_chunk, scan_chunk
from fidle_jax.data.duplicates import find_groups, fingerprint
from fidle_jax.data.sources import Examples, Source, stamp
from fidle_jax.data.workers import map_chunks
from fidle_jax.errors import InputError, printable
from fidle_jax.files import read_json, reading, sealed, write_json

FOLDER = "own_images"
VERSION = 3  # of the prepared images; part of their key
LARGEST_SIDE, STEP = 128, 8  # of the default size in pixels
PART = 256  # records that are read at a time
OPTIONS = "group_size:1,uncompressed"
READ_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # for random access
NAMED = 5  # skipped files that are named in a message
NAMED_IN_REPORT = 100

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
    facts: dict[str, Any]  # what the report says
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
    labels = [examples.labels for examples in source.splits.values()]
    shortcut = root / f"{_digest([VERSION, before, settings, source.kind, labels])}.json"
    try:
        with prepared.locked(root):
            if shortcut.exists():
                known = read_json(shortcut, {"key": str, "found": dict})
                if (root / known["key"]).exists():
                    opened = _open(root / known["key"], known["found"])
                    announce(opened.facts["text"])
                    return opened
            for remains in root.glob("*.part"):
                shutil.rmtree(remains)
            readable, sizes, key, found = _scan(path, source, settings)
            announce(_describe(found))
            folder = root / key
            if not folder.exists():
                part = root / f"{key}.part"
                part.mkdir()
                try:
                    shape = _choose_shape(sizes, settings.image_size)
                    info = _write(part, path, readable, class_names, settings, shape, found)
                    write_json(part / "info.json", sealed(info | {"key": key}))
                    if stamp(source.files) != before:
                        raise InputError(
                            f"{printable(str(path))} changed while it was read; expected files that "
                            "stay the same; run again"
                        )
                    part.rename(folder)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
            write_json(shortcut, {"key": key, "found": found})
            return _open(folder, found)
    except (OSError, RuntimeError) as error:  # ArrayRecord raises RuntimeError if the disk is full
        reason = getattr(error, "strerror", None) or prepared.first_line(error)
        raise InputError(
            f"{printable(str(path))} cannot be prepared in {root} ({reason}); free some space, or "
            "choose another folder with --data-dir"
        ) from error


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _scan(
    path: Path, source: Source, settings: Settings
) -> tuple[Source, Int[np.ndarray, "example 3"], str, dict[str, Any]]:
    """Scan the images. Skip those that cannot be read.

    Return the other images, their height, width and whether they are grey, the key, and facts for the report.
    """
    digest = hashlib.sha256(repr((VERSION, settings)).encode())
    sizes, skipped, splits = [], list(source.skipped), {}
    for split, examples in source.splits.items():
        rows, total = [], len(examples.labels)
        done = map_chunks(scan_chunk, chunks_of(examples), total, f"scanning {split}")
        for i, result in enumerate(itertools.chain.from_iterable(done)):
            if isinstance(result, str):
                skipped.append(result)
                continue
            digest.update(json.dumps([split, examples.labels[i]]).encode() + result.digest)
            sizes.append((result.height, result.width, result.is_grey))
            rows.append(i)
        splits[split] = examples if len(rows) == total else examples.take(rows)
    check_skipped(path, skipped, len(sizes) + len(skipped), settings.allow_skipped)
    check_complete(path, source.splits, {s: each.labels for s, each in splits.items()})
    sizes = np.array(sizes)
    areas = np.lexsort((sizes[:, 1], sizes[:, 0] * sizes[:, 1]))
    small, median, large = (
        f"{width}x{height}" for height, width, _ in sizes[areas[[0, len(areas) // 2, -1]]]
    )
    facts = {
        "path": printable(str(path)),
        "kind": source.kind,
        "sizes": small if small == large else f"{small} to {large} (median {median})",
        "counts": {split: len(examples.labels) for split, examples in splits.items()},
        "classes": len(set(splits["train"].labels)),
        "skipped": [printable(each) for each in skipped[:NAMED_IN_REPORT]],
        "skipped_count": len(skipped),
        "ignored": [printable(each) for each in source.ignored[:NAMED_IN_REPORT]],
        "ignored_count": len(source.ignored),
    }
    return dataclasses.replace(source, splits=splits), sizes, digest.hexdigest()[:32], facts


def _describe(facts: dict[str, Any]) -> str:
    """Format the description of the data for the terminal."""
    counts = " + ".join(f"{count:,} {split}" for split, count in facts["counts"].items())
    lines = [
        f"found: {facts['path']}: {facts['kind']}, {counts} images in {facts['classes']:,} classes, "
        f"{facts['sizes']} pixels"
    ]
    for what, noun in (("skipped", "file"), ("ignored", "item")):
        if count := facts[f"{what}_count"]:
            named = "; ".join(map(_short, facts[what][:NAMED])) + ("; ..." if count > NAMED else "")
            lines.append(f"{what}: {count_of(count, noun)}: {named}")
    return "\n".join(lines)


def _short(reason: str) -> str:
    """Return the first part of an error message."""
    return printable(reason.split(";")[0])


def count_of(count: int, noun: str) -> str:
    """Return the number with the noun, as in "1 file" and "2 files"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def check_skipped(
    path: Path, skipped: Sequence[str], total: int, allowed: float, count: int | None = None
) -> None:
    """Raise InputError if more than the fraction ``allowed`` of the files were skipped, or all.

    ``skipped`` are the reasons, ``total`` is the number of files, and ``count`` that of skipped files.
    """
    count = len(skipped) if count is None else count
    if count > allowed * total or count == total > 0:
        raise InputError(
            f"{count:,} of {count_of(total, 'file')} in {printable(str(path))} "
            f"cannot be read as images (such as: {_short(skipped[0])}); "
            f"expected at most {100 * allowed:g} %; remove them, or allow more with --allow-skipped"
        )


def check_complete(
    path: Path, splits: dict[str, Examples], kept: Mapping[str, Sequence[str]]
) -> None:
    """Raise InputError if no image of a split or of a training class can be read.

    ``kept`` are the labels of the images of each split that can be read.
    """
    lost = [f"the split {split}" for split in splits if not kept[split]]
    missing = sorted(set(splits["train"].labels) - set(kept["train"]))
    lost += [f"the training class {printable(name)!r}" for name in missing]
    if lost:
        raise InputError(
            f"no image of {lost[0]} in {printable(str(path))} can be read; expected at least one; "
            "restore some, or remove it"
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
) -> dict[str, Any]:
    """Write all decoded images with their labels and groups of near-duplicates to ``folder``.

    Return the content of info.json.
    """
    index = {name: i for i, name in enumerate(class_names)}
    labels: dict[str, list[int]] = {}
    prints, skipped, notes = {}, [], []
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
    if notes:
        count = count_of(len(notes), "unusual image")
        _log.warning("%s, such as: %s", count, printable(notes[0]))
    if skipped:
        count = len(skipped) + found["skipped_count"]
        total = count + sum(map(len, labels.values()))
        check_skipped(path, skipped, total, settings.allow_skipped, count)
        kept = {split: [class_names[i] for i in each] for split, each in labels.items()}
        check_complete(path, source.splits, kept)
        damaged = count_of(len(skipped), "damaged image")
        _log.warning("skipped %s, such as: %s", damaged, _short(skipped[0]))
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
    return {
        "image_shape": list(shape),
        "splits": list(labels),
        "counts": {split: len(each) for split, each in labels.items()},
        "damaged": list(map(printable, skipped[:NAMED_IN_REPORT])),
        "damaged_count": len(skipped),
    }


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


def _open(folder: Path, found: dict[str, Any]) -> Prepared:
    """Open prepared images, and complete the facts ``found`` of a scan."""
    types = {"image_shape": list, "splits": list, "key": str, "counts": dict, "damaged": list}
    try:
        info = read_json(folder / "info.json", types | {"damaged_count": int})
        with reading(folder / "arrays.npz"), np.load(folder / "arrays.npz") as file:
            arrays = dict(file)
    except InputError as error:
        raise prepared.damaged("the set of images", folder) from error
    facts = found | {
        "counts": info["counts"],
        "skipped": [*found["skipped"], *info["damaged"]][:NAMED_IN_REPORT],
        "skipped_count": found["skipped_count"] + info["damaged_count"],
    }
    return Prepared(folder, info, facts | {"text": _describe(facts)}, arrays)


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
