"""What every data set looks like once it is loaded, wherever it came from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8


@dataclass(frozen=True)
class Split:
    """Images, 0 to 255, and the class index of each."""

    images: UInt8[np.ndarray, "example height width channel"]
    labels: Int32[np.ndarray, "example"]


@dataclass(frozen=True)
class Dataset:
    """A data set that is ready to be read.

    Attributes:
      name: as it was asked for, e.g. ``"mnist"`` or ``"tfds:fashion_mnist"``.
      variant: ``"full"`` or ``"sample"``.
      class_names: the name of each label.
      image_shape: (height, width, channels).
      train_examples: number of images in the training split.
      test_examples: number of images in the test split.
      read: gives the split ``"train"`` or ``"test"``, read from disk at each call.
    """

    name: str
    variant: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_examples: int
    test_examples: int
    read: Callable[[str], Split]
