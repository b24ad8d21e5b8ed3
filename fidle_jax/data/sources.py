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

    names: Sequence[str]  # of the examples, for messages
    labels: Sequence[str]  # name of the class of each example
    read: Callable[[], Iterator[Content]]  # iterates over the contents, in the order of the labels


@dataclasses.dataclass(frozen=True)
class Source:
    """What a path contains."""

    kind: str  # description
    splits: dict[str, Examples]  # "train", and possibly "validation" and "test"
    files: Sequence[str]  # all files that are read
    skipped: Sequence[str] = ()  # files that are no images, each with the reason
    junk: Sequence[str] = ()  # files of the operating system
    class_names: Sequence[str] = ()  # if they are not those of the training examples


def find_source(path: Path, regions: bool = False) -> Source:
    """Return the labelled images in ``path``. With ``regions``, use the regions of a CSV file.

    Raises:
        InputError: There are no labelled images, or the labels are wrong.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give {KINDS} as --dataset")
    find = _find_in_folder if path.is_dir() else _find_in_file
    source = find(path, regions)
    ordered = {split: source.splits[split] for split in SPLITS if split in source.splits}
    source = dataclasses.replace(source, splits=ordered)
    if regions and not source.kind.endswith("regions"):
        raise InputError(
            f"--crop is roi, but {path} has no regions; it must be full, or a CSV file must have "
            "the columns "
            "Roi.X1, Roi.Y1, Roi.X2, Roi.Y2"
        )
    return source


def check_classes(path: Path, source: Source) -> tuple[str, ...]:
    """Return the class names in the order of the class indices. Raise InputError if they are "
    "unusable."""
    train = source.splits["train"].labels
    names = list(source.class_names) or sort_naturally(set(train))
    if len(names) > MAX_CLASSES:
        raise InputError(
            f"{path} has {len(names):,} classes; expected at most {MAX_CLASSES:,}; check which "
            "folders or which "
            "column contain the classes"
        )
    if len(names) < 2:
        only = f"only the class {printable(names[0])!r}" if names else "no images"
        raise InputError(f"{path} has {only}; expected images of at least two classes")
    seen: dict[str, str] = {}
    for name in names:
        same = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if same != name:
            raise InputError(
                f"the classes {same!r} and {name!r} in {path} differ only in case or in the "
                "encoding of "
                "accents; rename one, or merge them"
            )
        if name != name.encode("utf-8", "replace").decode():
            raise InputError(f"the class name {name!r} in {path} is not UTF-8; rename it")
    for split, examples in source.splits.items():
        if extra := set(examples.labels) - set(names):
            raise InputError(
                f"the {split} split of {path} has the class {printable(min(extra))!r}, which has "
                "no training "
                "images; add some, or remove the class"
            )
    return tuple(names)


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
    from fidle_jax.data.table_sources import find_parquet, find_tables

    try:
        files = sorted(each for each in path.iterdir() if each.is_file() and each.name[0] != ".")
        folders = [each for each in path.iterdir() if each.is_dir() and each.name[0] != "."]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    if idx := [each for each in files if IDX.match(each.name)]:
        prefixes = sorted({IDX.match(each.name)[1] for each in idx})  # pyright: ignore[reportOptionalSubscript]
        if len(prefixes) > 1:
            raise InputError(
                f"{path} contains several data sets ({', '.join(prefixes)}); give one of the files "
                "with images, "
                f"as in {idx[0]}"
            )
        return find_idx(idx[0])
    tables = {each.name.lower(): each for each in files if each.suffix.lower() == ".csv"}
    if "train.csv" in tables:
        return find_tables(path, {"train": tables["train.csv"]} | _others(tables), regions)
    parquet = [each for each in path.rglob("*.parquet") if each.is_file() and each.name[0] != "."]
    if parquet:
        return find_parquet(path, sorted(parquet))
    if folders:
        return _find_class_folders(path)
    if len(tables) == 1:
        return find_tables(path, {"train": next(iter(tables.values()))}, regions)
    npz = [each for each in files if each.suffix.lower() == ".npz"]
    return find_npz(npz[0]) if len(npz) == 1 else _find_class_folders(path)


def _others(tables: dict[str, Path]) -> dict[str, Path]:
    names = {f"{name}.csv": split for name, split in SPLIT_NAMES.items() if split != "train"}
    return {split: tables[name] for name, split in names.items() if name in tables}


def _find_in_file(path: Path, regions: bool) -> Source:
    """Return the images in a CSV, .npz, Parquet or idx file. Raise InputError if it is another file."""
    from fidle_jax.data.array_sources import IDX, find_idx, find_npz
    from fidle_jax.data.table_sources import find_parquet, find_tables

    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"{path} is not a regular file; give {KINDS}")
    if IDX.match(path.name):
        return find_idx(path)
    if suffix == ".csv":
        return find_tables(path.parent, {"train": path}, regions)
    if suffix == ".npz":
        return find_npz(path)
    if suffix == ".parquet":
        return find_parquet(path, [path])
    advice = (
        "unpack it, and give the folder" if suffix in (".zip", ".tar", ".gz", ".tgz", ".7z") else ""
    )
    raise InputError(f"{path} is no data set; {advice or f'give {KINDS}'}")


def _find_class_folders(path: Path) -> Source:
    top = _list_folder(path)
    folders = sort_naturally(
        each.name for each in top if stat.S_ISDIR(_mode(each.path)) and not is_junk(each.name)
    )
    names = {folder: SPLIT_NAMES.get(folder.lower()) for folder in folders}
    has_splits = "train" in names.values() and None not in names.values()
    skipped, junk = [], []
    if has_splits:
        if len(set(names.values())) < len(names):
            raise InputError(
                f"{path} has the folders {', '.join(folders)}; expected one folder for each split"
            )
        roots = {str(names[folder]): path / folder for folder in folders}
    else:
        roots = {"train": path}
    splits, files = {}, []
    for split, root in roots.items():
        images, others, ignored = _list_images(root)
        labels = [image.split(os.sep)[0] for image in images if os.sep in image]
        skipped += [
            f"{root / image}: in no class folder" for image in images if os.sep not in image
        ]
        images = [image for image in images if os.sep in image]
        skipped += [f"{root / other}: not the name of an image" for other in others]
        junk += [str(root / each) for each in ignored]
        paths = [str(root / image) for image in images]
        files += paths
        splits[split] = Examples(paths, labels, lambda paths=paths: map(ImageFile, paths))
    if not splits["train"].labels:
        raise InputError(
            f"{roots['train']} has no class folders with images; expected {KINDS}; image names end "
            "in .png, "
            ".jpg, ..."
        )
    for folder in folders if not has_splits else ():
        if not any(not is_junk(each.name) for each in _list_folder(path / folder)):
            raise InputError(f"the class folder {path / folder} is empty; add images, or delete it")
    kind = "class folders" + (f" in {', '.join(folders)}" if has_splits else "")
    return Source(kind, splits, files, skipped, junk)


def _list_folder(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(
            f"cannot read {folder}: {error.strerror}; check its permissions"
        ) from error


def _list_images(root: Path) -> tuple[list[str], list[str], list[str]]:
    """Return image files, other files, and system files below ``root``, as relative paths."""
    images, others, junk = [], [], []
    pending: list[tuple[str, tuple[str, ...]]] = [
        ("", (os.path.realpath(root),))
    ]  # folders, with the real paths that lead to them
    while pending:
        folder, parents = pending.pop()
        for entry in _list_folder(root / folder):
            name = os.path.join(folder, entry.name)
            mode = _mode(entry.path)
            real = os.path.realpath(entry.path) if stat.S_ISDIR(mode) else ""
            if is_junk(entry.name):
                junk.append(name)
            elif stat.S_ISDIR(mode) and real not in parents:  # a link may lead to a folder above it
                pending.append((name, (*parents, real)))
            elif stat.S_ISREG(mode) and decode.SUFFIXES.fullmatch(Path(name).suffix):
                images.append(name)
            else:
                others.append(name)
    return sort_naturally(images), sort_naturally(others), sort_naturally(junk)


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:  # a link that leads nowhere
        return 0


def is_junk(name: str) -> bool:
    """Return True for files and folders that operating systems and other programs create."""
    return name.startswith(".") or name.lower() in JUNK
