"""Find the labelled images of a user in folders, tables and arrays. Nothing is decoded or written here.

`find_source` decides what a path contains. It lists class folders itself. `array_sources.py` and
`table_sources.py` in the same folder read files.
"""

import dataclasses
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from fidle_jax.data import decode
from fidle_jax.errors import InputError, printable

MAX_CLASSES = 10_000
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SPLITS = ("train", "validation", "test")
JUNK = ("thumbs.db", "desktop.ini", "__macosx")
KINDS = (
    "a folder with one folder of images for each class, a CSV file, an .npz file, a Parquet file, or "
    "idx files"
)


class ImageFile(NamedTuple):
    """An image file, or with ``box`` (left, top, right, bottom in pixels) a region of it."""

    path: str
    box: tuple[int, int, int, int] | None = None


Content = ImageFile | bytes | UInt8[np.ndarray, "height width *channel"]


class Examples(NamedTuple):
    """The labelled images of a split."""

    labels: Sequence[str]  # name of the class of each example
    name: Callable[[int], str]  # of an example, for messages
    read: Callable[[], Iterator[Content]]  # iterates over the contents, in the order of the labels
    files: Sequence[str] = ()  # image files

    def take(self, rows: Sequence[int]) -> "Examples":
        """Return the examples ``rows``, in ascending order."""

        def read() -> Iterator[Content]:
            wanted, contents = set(rows), self.read()
            return (content for i, content in enumerate(contents) if i in wanted)

        labels = [self.labels[i] for i in rows]
        return Examples(labels, lambda i: self.name(rows[i]), read, self.files)


@dataclasses.dataclass(frozen=True)
class Source:
    """The labelled images that a path contains."""

    kind: str  # description
    splits: dict[str, Examples]  # "train", and possibly "validation" and "test"
    files: Sequence[str]  # all files that are read
    skipped: Sequence[str] = ()  # files that are no images, each with the reason
    ignored: Sequence[str] = ()  # files and folders that need not be images, each with the reason
    class_names: Sequence[str] = ()  # in order, if it is not the natural one


def find_source(path: Path, regions: bool = False) -> Source:
    """Return the labelled images in ``path``. With ``regions``, use the regions of a CSV file.

    Raises:
        InputError: There are no labelled images, or the labels are wrong.
    """
    try:
        str(path).encode()  # the name is written to JSON files
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        reason = "does not exist"
        if not isinstance(error, FileNotFoundError):
            reason = f"cannot be read ({getattr(error, 'strerror', 'its name is not UTF-8')})"
        raise InputError(f"{_shown(path)} {reason}; give {KINDS} as --dataset") from error
    find = _find_in_folder if stat.S_ISDIR(mode) else _find_in_file
    source = find(path, regions)
    ordered = {split: source.splits[split] for split in SPLITS if split in source.splits}
    source = dataclasses.replace(source, splits=ordered)
    if regions and not source.kind.endswith("regions"):
        raise InputError(
            f"--crop is roi, but {_shown(path)} has no regions; expected a CSV file with the columns "
            "Roi.X1, Roi.Y1, Roi.X2, Roi.Y2; give --crop full"
        )
    return source


def check_classes(path: Path, source: Source) -> tuple[str, ...]:
    """Return the class names in the order of the class indices. Raise InputError if they are wrong."""
    present = set(source.splits["train"].labels)
    if len(set(source.class_names)) < len(source.class_names):
        raise InputError(f"two classes in {_shown(path)} have the same name; rename one")
    # Classes may be declared that have no images.
    names = [name for name in source.class_names if name in present] or sort_naturally(present)
    if len(names) > MAX_CLASSES:
        raise InputError(
            f"{_shown(path)} has {len(names):,} classes; expected at most {MAX_CLASSES:,}; check which "
            "folders or which column contain the classes"
        )
    if len(names) < 2:
        only = f"only the class {printable(names[0])!r}" if names else "no images"
        raise InputError(f"{_shown(path)} has {only}; expected at least two classes; give {KINDS}")
    seen: dict[str, str] = {}
    for name in names:
        if _shown(name) != name:
            raise InputError(
                f"the class name {_shown(name)!r} in {_shown(path)} is not UTF-8 or has control "
                "characters; rename it"
            )
        same = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if same != name:
            raise InputError(
                f"the classes {same!r} and {name!r} in {_shown(path)} differ only in case or in the "
                "encoding of accents; rename one, or merge them"
            )
    for split, examples in source.splits.items():
        if extra := set(examples.labels) - set(names):
            raise InputError(
                f"the {split} split of {_shown(path)} has the class {printable(min(extra))!r}, which "
                "has no training images; add some, or remove the class"
            )
    return tuple(names)


def _shown(name: str | Path) -> str:
    return printable(str(name))


def sort_naturally(names: Iterable[str]) -> list[str]:
    """Sort paths by their parts, such that numbers are in numerical order: a2 before a10."""

    def key(name: str) -> tuple:
        parts = [re.split(r"([0-9]+)", part) for part in name.split(os.sep)]
        return [[(int(x), "") if i % 2 else (0, x) for i, x in enumerate(p)] for p in parts], name

    return sorted(names, key=key)


def stamp(files: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the name, size and modification time of each file. They differ if a file was changed."""
    found = []
    for file in files:
        try:
            status = os.stat(file)
            found.append((file, status.st_size, status.st_mtime_ns))
        except OSError:
            found.append((file, -1, -1))
    return found


def _find_in_folder(path: Path, regions: bool) -> Source:
    """Return the images in a folder: idx files, tables, one .npz file, or class folders."""
    from fidle_jax.data.array_sources import IDX, find_idx, find_npz
    from fidle_jax.data.table_sources import find_parquet, find_tables, has_files

    found = sorted(each.name for each in _list_folder(path) if not is_junk(each.name))
    files = [path / name for name in found if stat.S_ISREG(_mode(os.path.join(path, name)))]
    if idx := [(match[1], each) for each in files if (match := IDX.match(each.name))]:
        prefixes = sorted({prefix for prefix, _ in idx})
        if len(prefixes) > 1:
            raise InputError(
                f"{_shown(path)} contains several data sets ({', '.join(prefixes)}); give one of the "
                f"files with images, as in {idx[0][1]}"
            )
        return find_idx(idx[0][1])
    tables = {each.name.lower(): each for each in files if each.suffix.lower() == ".csv"}
    if "train.csv" in tables:
        names = {f"{name}.csv": split for name, split in SPLIT_NAMES.items()}
        splits = {names[name]: file for name, file in tables.items() if name in names}
        return find_tables(path, splits, regions)
    patterns = ("*.parquet", "*/*.parquet", "*/*/*.parquet")
    parquet = [each for pattern in patterns for each in path.glob(pattern) if each.is_file()]
    parquet = [each for each in parquet if not any(map(is_junk, each.relative_to(path).parts))]
    if parquet:
        return find_parquet(path, sorted(parquet))
    only = next(iter(tables.values())) if len(tables) == 1 else None
    is_flat = len(files) == len(found)
    if only and (is_flat or has_files(only)):
        return find_tables(path, {"train": only}, regions)
    npz = [each for each in files if each.suffix.lower() == ".npz"]
    return find_npz(npz[0]) if len(npz) == 1 and is_flat else _find_class_folders(path)


def _find_in_file(path: Path, regions: bool) -> Source:
    """Return the images in a CSV, .npz, Parquet or idx file. Raise InputError if it is another file."""
    from fidle_jax.data.array_sources import IDX, find_idx, find_npz
    from fidle_jax.data.table_sources import find_parquet, find_tables

    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"{_shown(path)} is not a regular file; give {KINDS}")
    if IDX.match(path.name):
        return find_idx(path)
    if suffix == ".csv":
        return find_tables(path.parent, {"train": path}, regions)
    if suffix == ".npz":
        return find_npz(path)
    if suffix == ".parquet":
        return find_parquet(path, [path])
    is_archive = suffix in (".zip", ".tar", ".gz", ".tgz", ".7z")
    advice = "unpack it, and give the folder" if is_archive else f"give {KINDS}"
    raise InputError(f"{_shown(path)} is no data set; {advice}")


def _find_class_folders(path: Path) -> Source:
    top = [each.name for each in _list_folder(path) if stat.S_ISDIR(_mode(each.path))]
    folders = sort_naturally(name for name in top if not is_junk(name))
    names = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    # A class may be named train. Then other classes are not the names of splits.
    has_splits = len(names) > 1 or len(names) == len(folders) == 1
    ignored = []
    if has_splits:
        if len(set(names.values())) < len(names) or "train" not in names.values():
            raise InputError(
                f"{_shown(path)} has the folders {', '.join(names)}; expected train, and possibly "
                "validation and test, each with class folders; rename them"
            )
        roots = {split: path / folder for folder, split in names.items()}
        ignored += [f"{path / name}: no split" for name in folders if name not in names]
    else:
        roots = {"train": path}
    splits, skipped, files = {}, [], []
    for split, root in roots.items():
        found, others, junk = _list_images(root)
        images = [image for image in found if os.sep in image]
        if split != "train" and not images:
            ignored.append(f"{root}: no class folders")
            continue
        skipped += [f"{root / image}: in no class folder" for image in found if os.sep not in image]
        skipped += [f"{root / other}: {reason}" for other, reason in others]
        ignored += [f"{root / each}: created by the system" for each in junk]
        labels = [image.split(os.sep)[0] for image in images]
        paths = [str(root / image) for image in images]
        files += paths
        read = lambda paths=paths: map(ImageFile, paths)  # noqa: E731
        splits[split] = Examples(labels, paths.__getitem__, read, paths)
    if not splits["train"].labels:
        raise InputError(
            f"{_shown(roots['train'])} has no class folders with images; expected {KINDS}; image names "
            "end in .png, .jpg, ..."
        )
    for each in _list_folder(roots["train"]):
        is_class = stat.S_ISDIR(_mode(each.path)) and not is_junk(each.name)
        if is_class and all(is_junk(entry.name) for entry in _list_folder(Path(each.path))):
            raise InputError(
                f"the class folder {_shown(each.path)} is empty; expected images; add some, or delete it"
            )
    used = ", ".join(roots[split].name for split in SPLITS if split in splits)
    kind = f"class folders in {used}" if has_splits else "class folders"
    return Source(kind, splits, files, skipped, ignored)


def _list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"cannot read {_shown(folder)}: {error.strerror}; check its permissions"
        ) from error


def _list_images(root: Path) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Return image files, other files with the reason, and system files below ``root``.

    The paths are relative. Each folder is listed once, so that links neither form loops nor multiply images.
    """
    images, others, junk = [], [], []
    pending, known = [""], {os.path.realpath(root)}
    while pending:
        folder = pending.pop()
        for entry in _list_folder(root / folder):
            name = os.path.join(folder, entry.name)
            mode = _mode(entry.path)
            if is_junk(entry.name):
                junk.append(name)
            elif stat.S_ISDIR(mode):
                real = os.path.realpath(entry.path)
                if real in known:
                    others.append((name, "a link to a folder that is already used"))
                else:
                    known.add(real)
                    pending.append(name)
            elif not stat.S_ISREG(mode):
                others.append((name, "not a file"))
            elif decode.SUFFIXES.fullmatch(Path(name).suffix):
                images.append(name)
            else:
                others.append((name, "not the name of an image"))
    return sort_naturally(images), others, sort_naturally(junk)


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:  # a link that leads nowhere
        return 0


def is_junk(name: str) -> bool:
    """Return True for files and folders that operating systems and other programs create."""
    return name.startswith(".") or name.lower() in JUNK
