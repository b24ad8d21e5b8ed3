"""Load the trained network of a finished run and apply it to batches of images."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree, Shaped, UInt8

from fidle_jax import kernels
from fidle_jax.errors import InputError
from fidle_jax.files import expand_user
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.evaluation import apply_model
from fidle_jax.train.trained import read_trained

MAX_BATCH = 256

logger = logging.getLogger("fidle_jax")

Images = UInt8[Array | np.ndarray, "batch *shape"] | Float[Array | np.ndarray, "batch *shape"]


class Trained(NamedTuple):
    """A trained network."""

    # Compiled function from images to class probabilities. `as_batch` describes and checks the images.
    predict: Callable[[Any], Float[Array, "batch class"]]
    # Parameters of the best epoch (of the last one without validation data), or their moving average with
    # --ema-decay, and batch statistics.
    variables: PyTree
    model: nn.Module  # ``model.apply(variables, images)`` returns the logits of float images
    image_shape: tuple[int, int, int]  # height, width and channels
    class_names: tuple[str, ...]  # in the order of the probabilities
    config: ResolvedConfig
    result: dict[str, Any]  # content of result.json


def load(run_dir: str | Path) -> Trained:
    """Load the network of the finished run in ``run_dir``, with the parameters that were tested.

    Raises:
        InputError: There is no run, or it is unfinished, damaged or of another version.
    """
    run = read_trained(expand_user(run_dir))
    variables = jax.device_put(run.variables)

    def predict(images: Any) -> Float[Array, "batch class"]:
        return probabilities(run.model, variables, as_batch(images, run.image_shape))

    return Trained(predict, variables, *run[1:])


def as_batch(images: Any, image_shape: tuple[int, int, int]) -> Images:
    """Return images as a batch of shape (batch, height, width, channel).

    Args:
        images: uint8 values from 0 to 255, or floats from 0 to 1. The batch axis may be left out, and so
            may the channel axis of greyscale images.
        image_shape: Height, width and channels that the network expects.

    Raises:
        InputError: The images have another shape, type or range, or a value is not a number.
    """
    images = images if isinstance(images, Array) else _as_numpy(images)
    shapes = [image_shape, image_shape[:2]] if image_shape[2] == 1 else [image_shape]
    if not any(images.shape in (shape, (*images.shape[:1], *shape)) for shape in shapes):
        raise InputError(
            f"the images have shape {images.shape}; expected (batch, {', '.join(map(str, image_shape))}), "
            "that is (batch, height, width, channel)"
        )
    if images.dtype not in (np.uint8, np.float16, jnp.bfloat16, np.float32, np.float64):
        raise InputError(
            f"the images have type {images.dtype}; expected uint8 from 0 to 255, or floats from 0 to 1; "
            "convert them"
        )
    known = images.size and not isinstance(images, Tracer)
    if images.dtype == np.uint8 and known and images.max() <= 1:
        logger.warning("all pixels are 0 or 1, but white is 255 in images of type uint8")
    if images.dtype != np.uint8 and known:
        low, high = float(images.min()), float(images.max())
        if not 0 <= low <= high <= 1:
            raise InputError(
                f"the images have values from {low:g} to {high:g}; expected floats from 0 to 1; divide "
                "values from 0 to 255 by 255"
            )
    return images.reshape(-1, *image_shape)


def _as_numpy(images: Any) -> np.ndarray:
    """Convert a list, or an array of another library. Raise InputError if this would change values."""
    mode = getattr(images, "mode", None)  # of an image of Pillow
    if isinstance(mode, str) and mode not in ("L", "RGB"):
        raise InputError(f"the image has mode {mode}; expected L or RGB; use image.convert('RGB')")
    if np.ma.is_masked(images):
        raise InputError(
            "the images have masked values; fill them, for example with images.filled(0)"
        )
    try:
        array = np.asarray(images)
        return array.astype(array.dtype.newbyteorder("="))  # JAX ignores the byte order
    except Exception as error:  # other libraries raise many types
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the images are not an array of numbers ({reason}); convert them to one"
        ) from error


compute_logits = jax.jit(kernels.accelerate(apply_model), static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def probabilities(
    model: nn.Module, variables: PyTree, images: Images
) -> Float[Array, "batch class"]:
    """Return the class probabilities of a batch. Images of type uint8 are scaled to [0, 1]."""
    return jax.nn.softmax(apply_model(model, variables, images))


def map_batches(
    function: Callable[[Any], Any], images: Shaped[np.ndarray, "n height width channel"], size: int
) -> Shaped[np.ndarray, "n ..."]:
    """Apply ``function`` to batches of ``size`` images and concatenate the results.

    The last batch is padded so that ``function`` is compiled for a single shape.
    """
    padded = np.pad(images, [(0, -len(images) % size), (0, 0), (0, 0), (0, 0)])
    results = [function(batch) for batch in padded.reshape(-1, size, *images.shape[1:])]
    return np.concatenate(list(map(np.asarray, results)))[: len(images)]


def classify(
    trained: Trained, images: UInt8[np.ndarray, "n height width channel"]
) -> Float[np.ndarray, "n class"]:
    """Return class probabilities like ``trained.predict``, compiled for few batch sizes."""
    # Few different batch sizes, so that cached programs can be used again.
    size = min(MAX_BATCH, 1 << (len(images) - 1).bit_length())
    predict = functools.partial(probabilities, trained.model, trained.variables)
    return map_batches(predict, images, size)
