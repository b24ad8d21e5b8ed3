"""Read labelled images from tables: CSV files of pixels or file names, and Parquet files."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from fidle_jax.data import decode
from fidle_jax.data.array_sources import PART, array_examples, label_names, reading
from fidle_jax.data.sources import SPLIT_NAMES, Content, Examples, ImageFile, Source
from fidle_jax.errors import InputError, printable

# Names of columns, in lower case, the most usual first.
LABELS = (
    "label",
    "labels",
    "class",
    "classid",
    "class_id",
    "target",
    "category",
    "fine_label",
    "y",
)
IMAGES = (
    *(
        "image",
        "img",
        "path",
        "filename",
        "file",
        "file_name",
        "image_path",
        "image_id",
        "filepath",
    ),
    "id",
)
REGION = ("roi.x1", "roi.y1", "roi.x2", "roi.y2")


def _pick(columns: Sequence[Any], names: Sequence[str]) -> Any:
    lower = {str(column).lower(): column for column in columns}
    return next((lower[name] for name in names if name in lower), None)


def find_tables(folder: Path, paths: dict[str, Path], regions: bool) -> Source:
    """Return the images of the CSV files ``paths`` by split. File names are relative to ``folder``."""
    splits, kinds = {}, {}
    for split, path in paths.items():
        with reading(path):
            found = _read_table(path, folder, regions)
        if found is None and split == "train":
            raise InputError(
                f"{path} has no column of labels; expected a column label, and pixel0, pixel1, ... "
                "or file names"
            )
        if found is not None:
            splits[split], kinds[split] = found
    return Source(kinds["train"], splits, [str(path) for path in paths.values()])


def _read_table(path: Path, folder: Path, regions: bool) -> tuple[Examples, str] | None:
    """Return the examples of a CSV file and its kind, or None if it has no labels."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline().rstrip("\r\n")
    separator = max(",;\t", key=first.count)
    cells = [cell.strip().strip('"') for cell in first.split(separator)]
    headless = len(cells) > 2 and all(re.fullmatch("[0-9]+", cell) for cell in cells)
    options: dict[str, Any] = {
        "sep": separator,
        "encoding": "utf-8-sig",
        "header": None if headless else 0,
    }
    columns = (
        list(pd.read_csv(path, nrows=0, **options).columns) if not headless else range(len(cells))
    )
    label = 0 if headless else _pick(list(columns), LABELS)
    pixels = [
        each
        for each in columns
        if headless or re.fullmatch(r"(pixel|px?)?_?\d+(x\d+)?", str(each).lower())
    ]
    pixels = [each for each in pixels if each != label]
    if len(pixels) > 3:
        return None if label is None else _pixel_table(path, options, label, pixels)
    table = pd.read_csv(path, dtype=str, keep_default_na=False, **options)
    image = _pick(list(columns), IMAGES)
    if image is None and len(table):
        row = table.iloc[0]
        image = next(
            (c for c in columns if decode.SUFFIXES.fullmatch(Path(str(row[c])).suffix)), None
        )
    rest = [each for each in columns if each != image]
    label = rest[0] if label is None and len(rest) == 1 else label
    if image is None:
        raise InputError(
            f"{path} has the columns {', '.join(map(str, columns))[:200]}; expected label and "
            "pixel0, pixel1, ..., "
            "or file names and labels"
        )
    if label is None:
        return None
    for column in (image, label):
        empty = table[column].isna() | (table[column] == "")
        if empty.any():
            raise InputError(
                f"{path}: row {int(np.argmax(empty)) + 2} has no {column}; add it, or delete the row"
            )
    names, labels = table[image].tolist(), table[label].tolist()
    files = [os.path.join(folder, name) for name in names]
    if names and not os.path.exists(files[0]):
        # Tables often contain the names of images in a folder next to the table.
        below = [
            each
            for each in sorted(folder.iterdir())
            if each.is_dir() and (each / names[0]).exists()
        ]
        files = [os.path.join(below[0], name) for name in names] if below else files
    boxes: list[Any] = [None] * len(files)
    kind = "a table of file names"
    if (
        regions
        and (corners := [_pick(list(columns), [name]) for name in REGION])
        and None not in corners
    ):
        boxes, kind = _boxes(path, table, corners), "a table of file names and regions"
    contents = list(map(ImageFile, files, boxes))
    return Examples(files, labels, lambda: iter(contents)), kind


def _boxes(path: Path, table: Any, corners: list[Any]) -> list[tuple[int, int, int, int]]:
    numbers = table[corners].apply(pd.to_numeric, errors="coerce")
    wrong = numbers.isna().any(axis=1) | (numbers < 0).any(axis=1)
    wrong |= (numbers[corners[2]] < numbers[corners[0]]) | (
        numbers[corners[3]] < numbers[corners[1]]
    )
    if wrong.any():
        row = int(np.argmax(wrong))
        values = ", ".join(map(str, table[corners].iloc[row]))
        raise InputError(
            f"{path}: row {row + 2} has the region {values}; expected left, top, right and bottom"
        )
    # The last column and row of a region belong to it.
    return [(x1, y1, x2 + 1, y2 + 1) for x1, y1, x2, y2 in numbers.astype(int).to_numpy().tolist()]


def _pixel_table(
    path: Path, options: dict[str, Any], label: Any, pixels: list[Any]
) -> tuple[Examples, str]:
    """Return the examples of a table with one image in each row."""
    count = len(pixels)
    side, channels = round(count**0.5), 1
    if side * side != count and count % 3 == 0:
        side, channels = round((count // 3) ** 0.5), 3
    if side * side * channels != count:
        raise InputError(
            f"{path} has {count} pixels in each row; expected a square number, or three times a "
            "square number"
        )

    def parts() -> Iterator[Any]:
        start = 0 if options["header"] is None else 1
        with pd.read_csv(path, chunksize=PART, **options) as reader:
            for part in reader:
                yield start, part
                start += len(part)

    def read() -> Iterator[np.ndarray]:
        for start, part in parts():
            numbers = part[pixels].apply(pd.to_numeric, errors="coerce")
            wrong = ~((numbers >= 0) & (numbers <= 255) & (numbers % 1 == 0))
            if wrong.to_numpy().any():
                row, column = np.argwhere(wrong.to_numpy())[0]
                raise InputError(
                    f"{path}: line {start + row + 1} has the pixel {part[pixels].iloc[row, column]!s}; "
                    "expected whole numbers from 0 to 255 in every column"
                )
            yield numbers.to_numpy(np.uint8).reshape(-1, side, side, channels)

    labels = []
    for start, part in parts():
        column = part[label]
        if column.isna().any():
            raise InputError(
                f"{path}: line {start + int(np.argmax(column.isna())) + 1} has no label"
            )
        values = (
            column.to_numpy() if column.dtype.kind in "iu" else column.astype(str).to_numpy(str)
        )
        labels += label_names(path, values)
    shape = (len(labels), side, side, channels)
    return array_examples(path, "the table", shape, np.array(labels), read), "a table of pixels"


def find_parquet(path: Path, files: list[Path]) -> Source:
    """Return the images in Parquet files, whose names start with that of their split."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        word = re.match("[a-z]+", file.name.lower())
        groups.setdefault(SPLIT_NAMES.get(word[0] if word else "", "train"), []).append(file)
    splits, class_names = {}, ()
    for split, paths in groups.items():
        splits[split], names = _read_parquet(paths)
        class_names = class_names or names
    if "train" not in splits:
        raise InputError(
            f"{path} has no training data; expected a file named train-..., or one file"
        )
    return Source("Parquet files", splits, [str(file) for file in files], class_names=class_names)


def _read_parquet(paths: list[Path]) -> tuple[Examples, tuple[str, ...]]:
    with reading(paths[0]):
        schema = parquet.read_schema(paths[0])
    image, label = _pick(schema.names, IMAGES), _pick(schema.names, LABELS)
    if image is None or label is None:
        raise InputError(
            f"{paths[0]} has the columns {', '.join(schema.names)}; expected image and label"
        )
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}") or b"{}")
    feature = described.get("info", {}).get("features", {}).get(label, {})
    class_names = tuple(map(str, feature.get("names") or ())) if isinstance(feature, dict) else ()
    is_struct = pa.types.is_struct(schema.field(image).type)
    labels: list[str] = []
    for file in paths:
        with reading(file):
            column = parquet.read_table(file, columns=[label])[label]
        if column.null_count:
            raise InputError(f"{file} has {column.null_count} rows without {label}; remove them")
        numbers = column.to_numpy()
        found = label_names(file, numbers if numbers.dtype.kind in "iu" else numbers.astype(str))
        if class_names and numbers.dtype.kind in "iu":
            if numbers.max(initial=0) >= len(class_names):
                raise InputError(
                    f"{file} has the label {numbers.max()}, but only {len(class_names)} class "
                    "names; correct it"
                )
            found = [class_names[i] for i in numbers]
        labels += found

    def contents() -> Iterator[Content]:
        for file in paths:
            with reading(file), parquet.ParquetFile(file) as opened:
                for batch in opened.iter_batches(256, columns=[image]):
                    for value in batch.column(0):
                        content = value.as_py()
                        yield (content["bytes"] if is_struct else content) if content else b""

    names = [f"{printable(paths[0].name)}: row {i}" for i in range(len(labels))]
    return Examples(names, labels, contents), class_names
