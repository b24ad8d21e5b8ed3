"""Data sets of arrays that are in memory."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fidle_jax.data.dataset import Dataset, Split, StoredSplit, stratified_split
from fidle_jax.data.load import TEST_FRACTION
from fidle_jax.errors import InputError

Arrays = tuple[Any, Any]  # images and labels: NumPy arrays, or what `numpy.asarray` accepts


def load_arrays(
    train: Arrays,
    test: Arrays | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Dataset:
    """Return a data set of uint8 images (example, height, width[, channel]) and class indices.

    Args:
        train: Images and labels.
        test: Images and labels of the test set (default: a fifth of each class, held out by ``seed``).
        class_names: Names of the classes (default: the indices).
        seed: Seed of the hold-out.

    Raises:
        InputError: The arrays have other shapes or types, or a label is not the index of a class.
    """
    splits: dict[str, Split] = {"train": _check("train", *train, class_names)}
    if test is None:
        rows = stratified_split(splits["train"].labels, TEST_FRACTION, seed)
        splits = dict(zip(("train", "test"), map(splits["train"].take, rows), strict=True))
    else:
        splits["test"] = _check("test", *test, class_names)
    shape, other = (splits[name].images.shape[1:] for name in ("train", "test"))
    if shape != other:
        raise InputError(f"the test images have shape {other}; expected {shape}, as for training")
    classes = range(1 + max(split.labels.max() for split in splits.values()))
    names = tuple(map(str, classes if class_names is None else class_names))
    if len(names) < 2:
        raise InputError(f"there is {len(names)} class; expected at least 2")
    digest = hashlib.sha256(repr(names).encode())
    for split in splits.values():
        digest.update(np.ascontiguousarray(split.images))
        digest.update(split.labels)

    def open_(split: str) -> StoredSplit:
        return StoredSplit(splits[split].labels, None, splits[split].read_images)

    return Dataset(
        # The digest reveals other arrays when a run is resumed.
        name=f"arrays-{digest.hexdigest()[:8]}",
        variant="full",
        class_names=names,
        image_shape=shape,
        train_examples=len(splits["train"].labels),
        test_examples=len(splits["test"].labels),
        read=splits.__getitem__,
        open=open_,
        class_counts=tuple(map(int, np.bincount(splits["train"].labels, minlength=len(names)))),
    )


def _check(name: str, images: Any, labels: Any, class_names: Sequence[str] | None) -> Split:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise InputError(
            f"the {name} images have shape {images.shape}; expected (example, height, width, channel) with "
            "1 or 3 channels"
        )
    if images.dtype != np.uint8:
        raise InputError(
            f"the {name} images have type {images.dtype}; expected uint8 from 0 to 255; convert them"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise InputError(
            f"the {name} labels have shape {labels.shape} and type {labels.dtype}; expected a whole number "
            f"for each of {len(images)} images"
        )
    end = np.inf if class_names is None else len(class_names)
    if labels.min() < 0 or labels.max() >= end:
        raise InputError(
            f"the {name} labels are {labels.min()} to {labels.max()}; expected indices of the "
            f"{'classes' if class_names is None else f'{end} class_names'}, from 0"
        )
    return Split(images, labels.astype(np.int32))
