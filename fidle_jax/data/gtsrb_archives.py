"""The three official archives of GTSRB: read in place, check, and process on all cores.

References:
    Stallkamp, Schlipsing, Salmen and Igel, "Man vs. computer: Benchmarking machine learning algorithms for
    traffic sign recognition", Neural Networks 32 (2012).
"""

import contextlib
import csv
import functools
import io
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fidle_jax.data.workers import map_chunks
from fidle_jax.errors import InputError

CLASSES = 43
TRAIN_IMAGES = "GTSRB_Final_Training_Images.zip"
TEST_IMAGES = "GTSRB_Final_Test_Images.zip"
TEST_LABELS = "GTSRB_Final_Test_GT.zip"
COLUMNS = ("Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")

# The photographs of the benchmark have sides of at most 250 pixels.
LARGEST_SIDE = 1000
LARGEST_BYTES = 3 * LARGEST_SIDE**2 + 1000

# Tracks per class in the training set, and images per class in the test set.
# fmt: off
TRACKS = (7, 74, 75, 47, 66, 62, 14, 48, 47, 49, 67, 44, 70, 72, 26, 21, 14, 37, 40, 7, 12, 11, 13, 17, 9, 50,
          20, 8, 18, 9, 15, 26, 8, 23, 14, 40, 13, 7, 69, 10, 12, 8, 8)
TEST_COUNTS = (60, 720, 750, 450, 660, 630, 150, 450, 450, 480, 660, 420, 690, 720, 270, 210, 150, 360, 390,
               60, 90, 90, 120, 150, 90, 480, 180, 60, 150, 90, 150, 270, 60, 210, 120, 390, 120, 60, 690, 90,
               90, 60, 90)
# fmt: on
FRAMES = 30
SHORT_TRACK = (33, 19)  # (class, track) of the only track with 29 frames

CHUNK = 256  # photographs per task of a worker process

# Python decompresses the other methods without a limit, even if a member claims a small size.
_BOUNDED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Work = Callable[[UInt8[np.ndarray, "height width 3"]], Any]


@dataclass(frozen=True)
class Photo:
    """Location and annotation of a photograph."""

    member: str  # name in the archive
    label: int
    track: int | None  # within the class; None in the test set, which has single frames
    size: tuple[int, int]  # width and height of the original; a copy may have been resized
    region: tuple[int, int, int, int]  # first column and row, last column and row of the sign


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive. Raise InputError if it is missing, truncated, or has an unsafe member name."""
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; put the official {path.name} there") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); check its permissions, or copy it again"
        ) from None
    except Exception as error:  # a damaged list of members raises many types
        raise InputError(f"{path} is truncated or not a zip file; copy it again") from error
    for name in archive.namelist():
        member = PurePosixPath(name)
        if member.is_absolute() or ".." in member.parts or "\\" in name:
            archive.close()
            raise _wrong(f"{path} contains the unsafe name {name!r}")
    return archive


def read_member(archive: zipfile.ZipFile, member: str, limit: int = LARGEST_BYTES) -> bytes:
    """Read a member of at most ``limit`` bytes. Untrusted archives cannot exhaust the memory.

    Raise InputError if it is missing, damaged, too large, or compressed by a method without a limit.
    """
    where = f"{archive.filename}: {member}"
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise _wrong(f"{where} is missing") from None
    if info.file_size > limit:
        raise _wrong(f"{where} has {info.file_size:,} bytes, expected at most {limit:,}")
    if info.compress_type not in _BOUNDED_METHODS:
        raise _wrong(
            f"{where} has compression method {info.compress_type}, expected {zipfile.ZIP_DEFLATED} "
            "(deflate) or none"
        )
    try:
        with archive.open(info) as file:
            # Without a limit here, Python decompresses up to 1 GiB of a member that claims to be small.
            return file.read(limit + 1)
    except Exception as error:  # zipfile and the decompressors raise many types
        raise InputError(f"{where} is damaged ({error}); copy the file again") from error


def _wrong(problem: str) -> InputError:
    return InputError(f"{problem}; use the official file")


def image_archive(split: str) -> str:
    """Return the name of the archive that contains the images of a split."""
    return TRAIN_IMAGES if split == "train" else TEST_IMAGES


def read_photos(folder: Path, split: str) -> list[Photo]:
    """List the photographs of the split ``"train"`` or ``"test"``, sorted by class and name.

    Raise InputError if an archive is missing, damaged or unsafe, an annotation is wrong, or the classes and
    tracks are not those of the benchmark.
    """
    images = folder / image_archive(split)
    tables = folder / (TRAIN_IMAGES if split == "train" else TEST_LABELS)
    photos = []
    with open_archive(images) as image_zip, contextlib.ExitStack() as stack:
        # The training labels are in the archive of the images, which takes a second to open.
        table_zip = image_zip if split == "train" else stack.enter_context(open_archive(tables))
        members = frozenset(image_zip.namelist())
        by_filename = {PurePosixPath(name).name: name for name in members}
        for table in sorted(name for name in table_zip.namelist() if name.endswith(".csv")):
            for row in _read_table(table_zip, table):
                name = row["Filename"]
                folder_member = str(PurePosixPath(table).parent / name)
                member = folder_member if split == "train" else by_filename.get(name, name)
                photos.append(_parse_row(f"{tables}: {table}", row, member))
                if member not in members:
                    raise _wrong(f"{images}: {member} is missing")
    photos.sort(key=lambda photo: (photo.label, photo.member))
    expected = expected_counts(split)
    found = Counter(p.label if split == "test" else (p.label, p.track) for p in photos)
    kind = "class {}" if split == "test" else "class {0[0]}, track {0[1]}"
    for key in [*expected, *found]:
        if found[key] != expected[key]:
            of = kind.format(key)
            raise _wrong(f"{tables}: {found[key]} images of {of}, expected {expected[key]}")
    for member, rows in Counter(photo.member for photo in photos).items():
        if rows > 1:
            raise _wrong(f"{tables}: {member} has {rows} rows, expected one")
    return photos


def _read_table(archive: zipfile.ZipFile, table: str) -> list[dict[str, str]]:
    where = f"{archive.filename}: {table}"
    content = read_member(archive, table)
    try:
        text = io.StringIO(content.decode("ascii"))
        reader = csv.DictReader(text, delimiter=";", quoting=csv.QUOTE_NONE)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise _wrong(f"{where} is not a CSV file ({error})") from None
    if missing:
        raise _wrong(f"{where} lacks the columns {', '.join(missing)}")
    return rows


def _parse_row(where: str, row: dict[str, str], member: str) -> Photo:
    name = row["Filename"]
    try:
        width, height, x1, y1, x2, y2, label = (int(row[column]) for column in COLUMNS[1:])
    except (TypeError, ValueError):  # csv fills short rows with None
        raise _wrong(f"{where}: the row of {name} must have an integer per column") from None
    if None in row:
        raise _wrong(f"{where}: the row of {name} has too many values")
    if not 0 <= label < CLASSES:
        raise _wrong(f"{where}: {name} has class {label}, expected 0 to {CLASSES - 1}")
    if not (0 <= x1 <= x2 < width <= LARGEST_SIDE and 0 <= y1 <= y2 < height <= LARGEST_SIDE):
        raise _wrong(
            f"{where}: {name} has the region {x1}, {y1} to {x2}, {y2} in {width} x {height} pixels; "
            f"expected a region inside the image and sides of at most {LARGEST_SIDE}"
        )
    track = re.fullmatch(r"(\d{5})_\d{5}\.ppm", PurePosixPath(member).name)
    return Photo(member, label, int(track[1]) if track else None, (width, height), (x1, y1, x2, y2))


def expected_counts(split: str) -> Counter:
    """Count the photographs of each class of the test set, or each (class, track) of the training set."""
    if split == "test":
        return Counter(dict(enumerate(TEST_COUNTS)))
    counts = Counter({(c, t): FRAMES for c in range(CLASSES) for t in range(TRACKS[c])})
    counts[SHORT_TRACK] -= 1
    return counts


def read_image(
    archive: zipfile.ZipFile, photo: Photo, crop: bool = False
) -> UInt8[np.ndarray, "height width 3"]:
    """Read a photograph, or with ``crop`` only its region of interest.

    Raise InputError if it is missing, damaged, too large, or not a PPM image with three channels.
    """
    return _decode(read_member(archive, photo.member), photo, crop, str(archive.filename))


def _decode(content: bytes, photo: Photo, crop: bool, archive: str) -> np.ndarray:
    where = f"{archive}: {photo.member}"
    try:
        with warnings.catch_warnings():
            # Our limit is lower than Pillow's.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=["PPM"]) as image:
                size, mode = image.size, image.mode
                pixels = np.array(image) if max(size) <= LARGEST_SIDE else None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{where} is not a complete PPM image ({error}); copy the file again"
        ) from error
    if pixels is None:
        raise _wrong(
            f"{where} has {size[0]} x {size[1]} pixels, expected sides of at most {LARGEST_SIDE}"
        )
    if mode != "RGB":
        raise _wrong(f"{where} has mode {mode}, expected RGB")
    if not crop:
        return pixels
    # The last row and column of the region are inclusive and refer to the original size.
    height, width, _ = pixels.shape
    across, down = width / photo.size[0], height / photo.size[1]
    x1, y1, x2, y2 = photo.region
    columns = _nearest_pixels(x1 * across, (x2 + 1) * across, width)
    rows = _nearest_pixels(y1 * down, (y2 + 1) * down, height)
    return pixels[rows, columns]


def _nearest_pixels(start: float, stop: float, size: int) -> slice:
    """Round to whole pixels within the image, at least one."""
    first = min(max(round(start), 0), size - 1)
    return slice(first, min(max(round(stop), first + 1), size))


def process_photos(
    folder: Path, split: str, work: Work, *, crop: bool = False, title: str, progress: bool = True
) -> Generator[tuple[Photo, Any], None, None]:
    """Yield each photograph of a split with the result of ``work``, computed by one process per core.

    ``work`` is a picklable function of the pixels, with ``crop`` of only the region of interest. With
    ``progress``, a bar with this title is shown if stderr is a terminal. Raise what `read_photos` and
    `read_image` raise, and InputError if a process was killed.
    """
    photos = read_photos(folder, split)
    chunks = [photos[start : start + CHUNK] for start in range(0, len(photos), CHUNK)]
    path = folder / image_archive(split)
    decode = functools.partial(_process, str(path), crop, work)
    with open_archive(path) as archive:
        # Workers receive bytes because opening the archive takes a second.
        tasks = ([(read_member(archive, p.member), p) for p in chunk] for chunk in chunks)
        with contextlib.closing(map_chunks(decode, tasks, len(photos), title, progress)) as done:
            for chunk, results in zip(chunks, done, strict=True):
                yield from zip(chunk, results, strict=True)


def _process(archive: str, crop: bool, work: Work, task: list[tuple[bytes, Photo]]) -> list[Any]:
    return [work(_decode(content, photo, crop, archive)) for content, photo in task]
