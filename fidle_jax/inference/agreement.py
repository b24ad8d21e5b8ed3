"""Whether an exported network answers as the run's own does, on all of the run's test images."""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from tqdm import tqdm

from fidle_jax.errors import InputError
from fidle_jax.inference.load import Trained

Predict = Callable[
    [UInt8[np.ndarray, "batch height width channel"]], Float[Array | np.ndarray, "batch class"]
]

TOLERANCE = 1e-5  # of a probability
AT_ONCE = 500  # images


class Agreement(NamedTuple):
    """How two networks' answers compare.

    Attributes:
        images: how many they were given.
        difference: largest, of two probabilities of the same class and image.
        other_classes: images of which they name different classes.
    """

    images: int
    difference: float
    other_classes: int

    def holds(self) -> bool:
        """Whether they name the same classes, by probabilities that `TOLERANCE` allows for."""
        return self.difference <= TOLERANCE and not self.other_classes


def compare(predict: Predict, trained: Trained, run_dir: Path) -> Agreement:
    """What ``predict`` makes of the test images, beside what the run's network makes of them.

    That is what the run itself left where a CPU tested it. Accelerators round what they multiply; where
    one of those tested it, the run's network is asked again, here, at full precision.

    Raises:
        InputError: the run lacks what its test left, or it is damaged.
    """
    images, expected = _tested(run_dir)
    with jax.default_matmul_precision("highest"):
        if trained.result.get("platform") != "cpu":
            expected = _in_batches(trained.predict, images)
        found = _in_batches(predict, images)
    # Not a number differs from everything.
    difference = np.nan_to_num(np.abs(found - expected), nan=np.inf)
    others = found.argmax(-1) != expected.argmax(-1)
    return Agreement(len(images), float(difference.max()), int(others.sum()))


def _tested(run_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """The test images, and the probabilities that the run left of them."""
    try:
        with np.load(run_dir / "evaluation.npz") as evaluation:
            return evaluation["images"], evaluation["probabilities"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{run_dir / 'evaluation.npz'} cannot be read ({error}); run it again, or give --no-check"
        ) from error


def _in_batches(predict: Predict, images: np.ndarray) -> np.ndarray:
    starts = tqdm(range(0, len(images), AT_ONCE), "test images", disable=None, leave=False)
    return np.concatenate([np.asarray(predict(images[i : i + AT_ONCE])) for i in starts])
