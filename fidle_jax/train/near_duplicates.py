"""Examples of the groups of near-duplicates among the training images, for the report."""

from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from fidle_jax.data import AnySplit
from fidle_jax.files import check_types, reading, require, write_arrays

FILE = "near_duplicates.npz"
GROUPS, IMAGES = 6, 6  # most groups, and most images of each

NearDuplicates = list[tuple[int, UInt8[np.ndarray, "_ height width channel"]]]


def write_near_duplicates(train: AnySplit, run_dir: Path) -> None:
    """Write images of the largest groups, at most two of each class, unless all images are independent."""
    if train.groups is None:
        return
    pairs, sizes = np.unique(np.stack([train.labels, train.groups]), axis=1, return_counts=True)
    images, labels, groups = [], [], []
    seen: list[int] = []
    for i in np.argsort(-sizes, kind="stable"):
        label, group = pairs[:, i].tolist()
        if sizes[i] < 2 or len(labels) == GROUPS:
            break
        if seen.count(label) < 2:
            rows = np.flatnonzero((train.labels == label) & (train.groups == group))
            some = rows[np.linspace(0, len(rows) - 1, min(len(rows), IMAGES)).astype(int)]
            images.append(train.read_images(some))
            groups += [len(labels)] * len(some)
            labels.append(label)
            seen.append(label)
    if labels:
        arrays = {"images": np.concatenate(images), "groups": np.array(groups)}
        write_arrays(run_dir / FILE, **arrays, labels=np.array(labels))


def read_near_duplicates(run_dir: Path, classes: int) -> NearDuplicates:
    """Return the class and the images of each group, or [] if the run has none, or raise InputError."""
    path = run_dir / FILE
    if not path.exists():
        return []
    with reading(path), np.load(path, allow_pickle=False) as file:
        require(sum(each.file_size for each in file.zip.infolist()) < 2**28, "it is too large")
        arrays = {name: file[name] for name in ("images", "labels", "groups")}
        images, labels, groups = arrays.values()
        types = {
            "images": UInt8[np.ndarray, f"{np.size(groups)} height width channel"],
            "labels": Integer[np.ndarray, "group"],
            "groups": Integer[np.ndarray, "image"],
        }
        check_types(arrays, types)
        inside = labels.size and labels.min() >= 0 and labels.max() < classes
        require(inside, "labels are not those of classes")
        found = [(int(label), images[groups == i]) for i, label in enumerate(labels)]
        require(all(len(each) for _, each in found), "a group has no images")
        require(images.shape[-1] in (1, 3) and images.size, f"images have shape {images.shape}")
    return found
