"""Read labelled images from tables: CSV files of pixels or file names, and Parquet files."""

import bisect
import csv
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from pyarrow import parquet

from fidle_jax.data import decode
from fidle_jax.data.array_sources import array_examples, label_names, reading
from fidle_jax.data.sources import SPLIT_NAMES, Content, Examples, ImageFile, Source
from fidle_jax.errors import InputError, printable

# Names of columns, in lower case, the most usual first.
LABELS = (
    *("label", "labels", "class", "classid", "class_id", "target", "category", "fine_label"),
    "y",
)
IMAGES = (
    *("image", "img", "path", "filename", "file", "file_name", "image_path", "image_id"),
    *("filepath", "id"),
)
REGION = ("roi.x1", "roi.y1", "roi.x2", "roi.y2")
PIXEL = re.compile(r"(pixel|px?)?_?\d+(x\d+)?", re.IGNORECASE)
ENDINGS = ("", ".png", ".jpg", ".jpeg")  # some tables leave them out
BLOCK = 2**23  # bytes of a CSV file that are read at a time; the longest line
IMAGES_AT_ONCE = 64  # of a Parquet file


def find_tables(folder: Path, paths: dict[str, Path], regions: bool) -> Source:
    """Return the images of the CSV files ``paths`` by split. File names are relative to ``folder``."""
    splits, kinds, unlabelled = {}, {}, []
    for split, path in paths.items():
        with reading(path):
            found = _read_table(path, folder, regions)
        if found is not None:
            splits[split], kinds[split] = found
        elif split == "train":
            raise InputError(
                f"{path} has no column of labels; expected a column label, and pixel0, pixel1, ... "
                "or file names"
            )
        else:
            unlabelled.append(f"{path}: no column of labels")
    files = [str(path) for path in paths.values()]
    for examples in splits.values():
        files += examples.files
    return Source(kinds["train"], splits, files, ignored=unlabelled)


def has_files(path: Path) -> bool:
    """Return True if a CSV file contains the names of images that exist, and their labels."""
    try:
        found = _read_table(path, path.parent, False)
    except (InputError, ValueError, OSError, pa.ArrowException, csv.Error):
        return False
    return bool(found and found[0].files and os.path.exists(found[0].files[0]))


class _Csv:
    """A CSV file that is read in blocks. Columns are numbered, because names may occur twice."""

    def __init__(self, path: Path):
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(BLOCK)
        if len(first) == BLOCK or not first.strip():
            raise InputError(
                f"{path} has an empty first line, or one of more than {BLOCK:,} characters; expected "
                "the names of the columns; check the file"
            )
        self.path, self.separator = path, max(",;\t", key=first.count)
        self.columns = [
            cell.strip() for cell in next(csv.reader([first], delimiter=self.separator))
        ]
        self.has_header = len(self.columns) < 3 or not all(map(str.isdecimal, self.columns))

    def pick(self, names: Sequence[str]) -> int | None:
        """Return the index of the first of ``names`` that is a column."""
        return _pick(self.columns, names) if self.has_header else None

    def read(self, types: dict[int, pa.DataType]) -> Iterator[list[pa.Array]]:
        """Iterate over blocks of the columns ``types``."""
        try:
            with pyarrow.csv.open_csv(
                self.path,
                pyarrow.csv.ReadOptions(
                    use_threads=False,  # only then do errors name the row
                    block_size=BLOCK,
                    column_names=[str(i) for i in range(len(self.columns))],
                    skip_rows=int(self.has_header),
                ),
                pyarrow.csv.ParseOptions(delimiter=self.separator, newlines_in_values=True),
                pyarrow.csv.ConvertOptions(
                    column_types={str(i): kind for i, kind in types.items()},
                    include_columns=[str(i) for i in types],
                ),
            ) as reader:
                for batch in reader:
                    yield batch.columns
        except pa.ArrowInvalid as error:
            reasons = {
                "Could not skip": "no rows after its header; add them",
                "straddling": f"a line of more than {BLOCK:,} bytes; check its line ends and quotes",
                "conversion error to uint8": f"a wrong pixel ({error}); expected whole numbers from 0 "
                "to 255; correct it",
            }
            for fragment, reason in reasons.items():
                if fragment in str(error):
                    raise InputError(f"{self.path} has {reason}") from error
            raise

    def read_text(self, *columns: int) -> list[list[str]]:
        """Return the text in ``columns``. Raise InputError if a value is missing."""
        found: list[list[str]] = [[] for _ in columns]
        for block in self.read(dict.fromkeys(columns, pa.string())):
            for values, column in zip(found, block, strict=True):
                values += [value.strip() for value in column.to_pylist()]
        for values, column in zip(found, columns, strict=True):
            if "" in values:
                name = self.columns[column] if self.has_header else "label"
                row = values.index("") + 1
                raise InputError(
                    f"{self.path}: data row {row} has no {printable(name)}; add it, or delete the row"
                )
        return found


def _pick(columns: Sequence[str], names: Sequence[str]) -> int | None:
    lower = [column.lower() for column in columns]
    return next((lower.index(name) for name in names if name in lower), None)


def _read_table(path: Path, folder: Path, regions: bool) -> tuple[Examples, str] | None:
    """Return the examples of a CSV file and its kind, or None if it has no labels."""
    table = _Csv(path)
    columns = table.columns
    label = table.pick(LABELS) if table.has_header else 0
    pixels = [i for i, name in enumerate(columns) if PIXEL.fullmatch(name) and i != label]
    if len(pixels) > 3:
        return None if label is None else _pixel_table(table, label, pixels)
    image = table.pick(IMAGES)
    if image is None:
        first = next(table.read(dict.fromkeys(range(len(columns)), pa.string())), [])
        cells = [column[0].as_py() if len(column) else "" for column in first]
        named = (i for i, x in enumerate(cells) if decode.SUFFIXES.fullmatch(Path(x).suffix))
        image = next(named, None)
    if image is None:
        raise InputError(
            f"{path} has the columns {printable(', '.join(columns))[:200]}; expected label and "
            "pixel0, pixel1, ..., or file names and labels"
        )
    if label is None:
        if len(columns) != 2:
            return None
        label = 1 - image
    names, labels = table.read_text(image, label)
    if any("\0" in name for name in names):
        raise InputError(f"{path} has file names with NUL characters; correct them")
    # Many tables are next to the folder of their images.
    folders = [folder, *sorted(each for each in folder.iterdir() if each.is_dir())]
    places = itertools.product(folders, ENDINGS) if names else ()
    found = (at for at in places if os.path.isfile(os.path.join(at[0], names[0] + at[1])))
    at, ending = next(found, (folder, ""))
    files = [os.path.join(at, name + ending) for name in names]
    corners = [table.pick([name]) for name in REGION] if regions else [None]
    boxes: list[Any] = [None] * len(files)
    kind = "a table of file names"
    if None not in corners:
        boxes, kind = _boxes(table, corners), "a table of file names and regions"
    contents = list(map(ImageFile, files, boxes))
    labels = label_names(path, labels)
    return Examples(labels, files.__getitem__, lambda: iter(contents), files), kind


def _boxes(table: _Csv, corners: list[Any]) -> list[tuple[int, int, int, int]]:
    """Return the regions (left, top, right, bottom) of all rows."""
    blocks = table.read(dict.fromkeys(corners, pa.int64()))
    boxes = [box for block in blocks for box in zip(*(c.to_pylist() for c in block), strict=True)]
    for row, box in enumerate(boxes, 1):
        if None in box or min(box) < 0 or box[2] < box[0] or box[3] < box[1]:
            raise InputError(
                f"{table.path}: data row {row} has the region {box}; expected left, top, right and "
                "bottom; correct it"
            )
    # The last column and row of a region belong to it.
    return [(left, top, right + 1, bottom + 1) for left, top, right, bottom in boxes]


def _pixel_table(table: _Csv, label: int, pixels: list[int]) -> tuple[Examples, str]:
    """Return the examples of a table with one image in each row."""
    count = len(pixels)
    side, channels = round(count**0.5), 1
    if side * side != count and count % 3 == 0:
        side, channels = round((count // 3) ** 0.5), 3
    if side * side * channels != count:
        raise InputError(
            f"{table.path} has {count:,} pixels in each row; expected a square number, or three "
            "times a square number"
        )

    def read() -> Iterator[np.ndarray]:
        for block in table.read(dict.fromkeys(pixels, pa.uint8())):
            if any(column.null_count for column in block):
                raise InputError(f"{table.path} has empty pixels; expected 0 to 255 in all columns")
            images = np.stack([column.to_numpy() for column in block], axis=1)
            yield images.reshape(-1, side, side, channels)

    (labels,) = table.read_text(label)
    shape = (len(labels), side, side, channels)
    return array_examples(table.path, "the table", shape, labels, read), "a table of pixels"


def find_parquet(path: Path, files: list[Path]) -> Source:
    """Return the images in Parquet files. Their names, or those of their folders, start with the split."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        words = [re.match("[a-z]*", name.lower()) for name in (file.name, file.parent.name)]
        known = [SPLIT_NAMES[word[0]] for word in words if word and word[0] in SPLIT_NAMES]
        groups.setdefault(known[0] if known else "", []).append(file)
    others = groups.pop("", [])
    if others and not groups:
        groups["train"], others = others, []
    if others or "train" not in groups:
        raise InputError(
            f"{path} has the Parquet files {', '.join(file.name for file in files)[:200]}; expected "
            "train-..., and possibly validation-... and test-...; give one file, or a folder of these"
        )
    splits, class_names = {}, ()
    for split, paths in groups.items():
        splits[split], names = _read_parquet(paths)
        class_names = class_names or names
    return Source("Parquet files", splits, [str(file) for file in files], class_names=class_names)


def _read_parquet(paths: list[Path]) -> tuple[Examples, tuple[str, ...]]:
    """Return the examples in the files of a split, and the class names of Hugging Face."""
    labels: list[str] = []
    starts, class_names, columns = [], (), []
    for file in paths:
        with reading(file):
            schema = parquet.read_schema(file)
            image, label = (_pick(schema.names, names) for names in (IMAGES, LABELS))
            if image is None or label is None:
                raise InputError(
                    f"{file} has the columns {printable(', '.join(schema.names))[:200]}; expected "
                    "image and label"
                )
            kind = schema.field(image).type
            is_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
            kind = kind.field("bytes").type if is_struct else kind
            if kind not in (pa.binary(), pa.large_binary()):
                raise InputError(
                    f"{file}: {schema.names[image]} has the type {schema.field(image).type}; expected "
                    "the bytes of image files"
                )
            columns.append((schema.names[image], is_struct))
            column = parquet.read_table(file, columns=[schema.names[label]])[0]
            if column.null_count:
                raise InputError(
                    f"{file} has {column.null_count:,} rows without a label; remove them"
                )
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            values = column.to_pylist() if is_text else column.to_numpy()
            starts.append(len(labels))
            class_names = class_names or _class_names(schema, label)
            found = label_names(file, values)
            if class_names and not is_text:
                if (largest := max(map(int, found), default=0)) >= len(class_names):
                    raise InputError(
                        f"{file} has the label {largest}, but only {len(class_names):,} class names; "
                        "correct it"
                    )
                found = [class_names[int(label)] for label in found]
            labels += found

    def contents() -> Iterator[Content]:
        for file, (name, is_struct) in zip(paths, columns, strict=True):
            # Without a buffer, whole row groups would be read.
            with reading(file), parquet.ParquetFile(file, buffer_size=2**20) as opened:
                for batch in opened.iter_batches(IMAGES_AT_ONCE, columns=[name]):
                    for value in batch.column(0):
                        content = value.as_py()
                        yield (content["bytes"] if is_struct and content else content) or b""

    def name(i: int) -> str:
        file = bisect.bisect_right(starts, i) - 1
        return f"{paths[file]}: row {i - starts[file]}"

    return Examples(labels, name, contents), class_names


def _class_names(schema: pa.Schema, label: int) -> tuple[str, ...]:
    """Return the names of a ClassLabel of Hugging Face, or () if there are none."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = described["info"]["features"][schema.names[label]]["names"]
    except (ValueError, KeyError, TypeError):  # other programs write other metadata
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()
