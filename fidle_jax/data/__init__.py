"""Data sets as uint8 arrays in host memory or on disk, their splits, batches and augmentation."""

from fidle_jax.data.dataset import AnySplit, Dataset, Split, StoredSplit, stratified_split
from fidle_jax.data.load import (
    TFDS_PREFIX,
    Crop,
    Variant,
    check_dataset,
    is_own,
    is_path,
    load_dataset,
)
from fidle_jax.data.signs import SET_NAMES as SIGN_SETS

__all__ = [
    "SIGN_SETS",
    "TFDS_PREFIX",
    "AnySplit",
    "Crop",
    "Dataset",
    "Split",
    "StoredSplit",
    "Variant",
    "check_dataset",
    "is_own",
    "is_path",
    "load_dataset",
    "stratified_split",
]
