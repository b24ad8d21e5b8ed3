"""The three official archives of GTSRB, read in place, and what can be wrong with a copy of them.

The benchmark: Stallkamp, Schlipsing, Salmen and Igel, "Man vs. computer: Benchmarking machine learning
algorithms for traffic sign recognition", Neural Networks 32 (2012). Nothing is ever unpacked.
"""

import csv
import io
import itertools
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fidle_jax.data.zip_archives import open_archive, read_member
from fidle_jax.errors import InputError

CLASSES = 43
TRAIN_IMAGES = "GTSRB_Final_Training_Images.zip"
TEST_IMAGES = "GTSRB_Final_Test_Images.zip"
TEST_LABELS = "GTSRB_Final_Test_GT.zip"
COLUMNS = ("Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")

# A photograph of the benchmark has 250 pixels a side at most; a file of more is no such photograph.
LARGEST_SIDE = 1000
LARGEST_BYTES = 3 * LARGEST_SIDE**2 + 1000

# Tracks of each class in the training set, and images of each in the test set.
# fmt: off
TRACKS = (7, 74, 75, 47, 66, 62, 14, 48, 47, 49, 67, 44, 70, 72, 26, 21, 14, 37, 40, 7, 12, 11, 13, 17, 9, 50,
          20, 8, 18, 9, 15, 26, 8, 23, 14, 40, 13, 7, 69, 10, 12, 8, 8)
TEST_COUNTS = (60, 720, 750, 450, 660, 630, 150, 450, 450, 480, 660, 420, 690, 720, 270, 210, 150, 360, 390,
               60, 90, 90, 120, 150, 90, 480, 180, 60, 150, 90, 150, 270, 60, 210, 120, 390, 120, 60, 690, 90,
               90, 60, 90)
# fmt: on
FRAMES = 30
SHORT_TRACK = (33, 19)  # the one track of 29 frames


@dataclass(frozen=True)
class Photo:
    """A photograph: where it is, and what its CSV says of it.

    Attributes:
      member: its name in the archive.
      label: its class, 0 to 42.
      track: number of its track within the class; None in the test set, which has single frames.
      size: width and height, in pixels, of the original; a copy may have been scaled.
      region: first column, first row, last column and last row of the sign in the original.
    """

    member: str
    label: int
    track: int | None
    size: tuple[int, int]
    region: tuple[int, int, int, int]


def read_photos(folder: Path, split: str) -> list[Photo]:
    """All photographs of the split ``"train"`` or ``"test"``, by class and then by name.

    Raises:
      InputError: an archive is missing or damaged, has unsafe names or lacks a photograph, a row is
        wrong, or the classes and tracks are not those of the benchmark.
    """
    if not folder.is_dir():
        raise InputError(
            f"archives folder {folder} does not exist or is no folder; give the folder that holds "
            f"{TRAIN_IMAGES}, {TEST_IMAGES} and {TEST_LABELS}"
        )
    photos = sorted(
        (_train_photos if split == "train" else _test_photos)(folder),
        key=lambda photo: (photo.label, photo.member),
    )
    check_counts(photos, split, folder)
    for photo, following in itertools.pairwise(photos):
        if photo.member == following.member:
            raise InputError(
                f"{_label_archive(folder, split)}: {photo.member} has two rows; get the official file"
            )
    return photos


def image_archive(split: str) -> str:
    """The name of the archive that has the split's photographs."""
    return TRAIN_IMAGES if split == "train" else TEST_IMAGES


def _label_archive(folder: Path, split: str) -> Path:
    return folder / (TRAIN_IMAGES if split == "train" else TEST_LABELS)


def _train_photos(folder: Path) -> Iterator[Photo]:
    path = folder / TRAIN_IMAGES
    with open_archive(path) as archive:
        names = frozenset(archive.namelist())
        for table in (name for name in sorted(names) if name.endswith(".csv")):
            for row in _rows(archive, table):
                member = str(PurePosixPath(table).parent / row["Filename"])
                yield _photo(f"{path}: {table}", row, path, member, names)


def _test_photos(folder: Path) -> Iterator[Photo]:
    path, labels = folder / TEST_IMAGES, folder / TEST_LABELS
    with open_archive(path) as images, open_archive(labels) as tables:
        names = frozenset(images.namelist())
        where = {PurePosixPath(name).name: name for name in names}
        for table in (name for name in tables.namelist() if name.endswith(".csv")):
            for row in _rows(tables, table):
                member = where.get(row["Filename"], row["Filename"])
                yield _photo(f"{labels}: {table}", row, path, member, names)


def _rows(archive: zipfile.ZipFile, table: str) -> list[dict[str, str]]:
    where = f"{archive.filename}: {table}"
    content = read_member(archive, table, LARGEST_BYTES)
    try:
        text = io.StringIO(content.decode("ascii"))
        reader = csv.DictReader(text, delimiter=";", quoting=csv.QUOTE_NONE)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{where} is no CSV ({error}); get the official file") from None
    if missing:
        raise InputError(f"{where} lacks the columns {', '.join(missing)}; get the official file")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise InputError(
                f"{where}: row {number} has not as many values as there are columns; "
                "get the official file"
            )
    return rows


def _photo(
    where: str, row: dict[str, str], images: Path, member: str, names: frozenset[str]
) -> Photo:
    """The photograph of a row of the table ``where``; ``member`` has to be among the names of ``images``."""
    name = row["Filename"]
    try:
        width, height, x1, y1, x2, y2, label = (int(row[column]) for column in COLUMNS[1:])
    except ValueError:
        raise InputError(
            f"{where}: the row of {name} is not of whole numbers; get the official file"
        ) from None
    if not 0 <= label < CLASSES:
        raise InputError(
            f"{where}: {name} is of class {label}, expected 0 to {CLASSES - 1}; get the official file"
        )
    if not (0 <= x1 <= x2 < width <= LARGEST_SIDE and 0 <= y1 <= y2 < height <= LARGEST_SIDE):
        raise InputError(
            f"{where}: {name} has the region {x1}, {y1} to {x2}, {y2} of {width} x {height} pixels, "
            f"expected one inside of at most {LARGEST_SIDE} a side; get the official file"
        )
    if member not in names:
        raise InputError(f"{images}: {member} is not there; get the official file")
    track = re.fullmatch(r"(\d{5})_\d{5}\.ppm", PurePosixPath(member).name)
    return Photo(member, label, int(track[1]) if track else None, (width, height), (x1, y1, x2, y2))


def check_counts(photos: list[Photo], split: str, folder: Path) -> None:
    """Raises InputError where there are not as many photographs of each class and track as there were."""
    expected = expected_counts(split)
    if split == "test":
        found = Counter(photo.label for photo in photos)
        what = "class {}"
    else:
        found = Counter((photo.label, photo.track) for photo in photos)
        what = "class {0[0]}, track {0[1]}"
    for key in [*expected, *found]:
        if found[key] != expected[key]:
            raise InputError(
                f"{_label_archive(folder, split)}: {found[key]} images of {what.format(key)}, "
                f"expected {expected[key]}; get the official file"
            )


def expected_counts(split: str) -> Counter:
    """How many photographs each class of the test set has, or each (class, track) of the training set."""
    if split == "test":
        return Counter(dict(enumerate(TEST_COUNTS)))
    counts = Counter({(c, t): FRAMES for c in range(CLASSES) for t in range(TRACKS[c])})
    counts[SHORT_TRACK] -= 1
    return counts


def read_image(
    archive: zipfile.ZipFile, photo: Photo, crop: bool
) -> UInt8[np.ndarray, "height width 3"]:
    """The photograph, or with ``crop`` its region of interest alone, scaled as the copy is.

    Raises:
      InputError: it is not there, damaged, too large, or no PPM of three channels.
    """
    return decode(read_photo(archive, photo), photo, crop, str(archive.filename))


def read_photo(archive: zipfile.ZipFile, photo: Photo) -> bytes:
    """The bytes of the photograph's file.

    Raises:
      InputError: it is not there, damaged, or larger than a photograph can be.
    """
    return read_member(archive, photo.member, LARGEST_BYTES)


def decode(
    content: bytes, photo: Photo, crop: bool, archive: str
) -> UInt8[np.ndarray, "height width 3"]:
    """As `read_image`, of the bytes of the photograph's member in the file ``archive``."""
    where = f"{archive}: {photo.member}"
    try:
        with warnings.catch_warnings():
            # Of a size that Pillow warns of: the limit here is lower, and says more.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=["PPM"]) as image:
                size, mode = image.size, image.mode
                pixels = np.array(image) if max(size) <= LARGEST_SIDE else None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{where} is no whole PPM image ({error}); copy the file again") from error
    if pixels is None:
        raise InputError(
            f"{where} has {size[0]} x {size[1]} pixels, expected at most {LARGEST_SIDE} a side; "
            "get the official file"
        )
    if mode != "RGB":
        raise InputError(f"{where} is {mode}, expected RGB; get the official file")
    return _cropped(pixels, photo) if crop else pixels


def _cropped(pixels: np.ndarray, photo: Photo) -> np.ndarray:
    """The region, both ends of which the CSV counts in."""
    height, width, _ = pixels.shape
    across, down = width / photo.size[0], height / photo.size[1]
    x1, y1, x2, y2 = photo.region
    columns = _span(x1 * across, (x2 + 1) * across, width)
    rows = _span(y1 * down, (y2 + 1) * down, height)
    return pixels[rows, columns]


def _span(start: float, stop: float, size: int) -> slice:
    """The whole pixels nearest to it, one at least."""
    first = min(max(round(start), 0), size - 1)
    return slice(first, min(max(round(stop), first + 1), size))
