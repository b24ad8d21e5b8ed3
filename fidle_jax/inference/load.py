"""Load the trained network of a finished run and apply it to batches of images."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree, Shaped, UInt8

from fidle_jax import kernels
from fidle_jax.errors import InputError
from fidle_jax.files import changed_files, expand_user, read_json
from fidle_jax.nn import make_model
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.checkpoints import read_step
from fidle_jax.train.config import ResolvedConfig, resolve
from fidle_jax.train.evaluation import apply_model
from fidle_jax.train.step import init_state
from fidle_jax.train.task import make_optimizer

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
    run_dir = expand_user(run_dir)
    config, result = _read(run_dir)
    described, named = run_dirs.read_model(run_dir), config.model
    class_names = tuple(described["class_names"])
    height, width, channels = described["image_shape"]
    image_shape = (height, width, channels)
    model = make_model(named.name, len(class_names), image_shape, named.dropout, named.width)
    variables = _read_variables(run_dir, config, result["steps"], model, image_shape)

    def predict(images: Any) -> Float[Array, "batch class"]:
        return probabilities(model, variables, as_batch(images, image_shape))

    return Trained(predict, variables, model, image_shape, class_names, config, result)


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


def _read(run_dir: Path) -> tuple[ResolvedConfig, dict[str, Any]]:
    path = run_dir / "config.json"
    if not path.exists():
        raise InputError(f"there is no run in {run_dir}; give the directory of a finished run")
    experiment = read_json(path, {"experiment": str})["experiment"]
    if experiment.startswith("lesson/"):
        raise InputError(
            f"{run_dir} belongs to a lesson, which saves no network; give the directory of a training run"
        )
    config = run_dirs.read_config(run_dir, experiment)
    if run_dirs.finished_result(run_dir) is None:
        raise InputError(
            f"the run in {run_dir} is not finished; continue it: "
            f"python experiments/{experiment}.py --run-dir {run_dir} --resume"
        )
    result = run_dirs.read_result(run_dir, *run_dirs.RESULT)
    if changed := changed_files(run_dir):
        logger.warning(
            "%s of the run in %s changed after it had finished; --resume writes them again",
            " and ".join(changed[:3]),
            run_dir,
        )
    return resolve(config, config.data.variant), result


def _read_variables(
    run_dir: Path, config: ResolvedConfig, step: int, model: nn.Module, image_shape
) -> PyTree:
    # The checkpoint stores the optimizer state, whose structure does not depend on the schedule.
    optimizer = make_optimizer(config, optax.constant_schedule(0.0))
    average = config.optimisation.ema_decay > 0
    state = jax.eval_shape(lambda: init_state(model, image_shape, optimizer, 0, average=average))
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    try:
        restored = read_step(
            run_dir / "checkpoints", step, state, state.variables(), run_dirs.identity(run_dir)
        )
    # Orbax and tensorstore raise many types of exceptions for damaged files.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"checkpoint {step} in {run_dir} is damaged or of another version ({reason}); run it again"
        ) from error
    if restored is None:
        raise InputError(
            f"checkpoint {step} in {run_dir} is missing, but result.json names it; restore it, or run again"
        )
    return jax.device_put(restored[1])
