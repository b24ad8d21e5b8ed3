"""Load the trained network of a finished run and apply it to batches of images."""

import dataclasses
import functools
import html
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree, Shaped, UInt8
from PIL import Image

from fidle_jax import kernels
from fidle_jax.errors import InputError, check_name
from fidle_jax.files import expand_user
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.evaluation import apply_model
from fidle_jax.train.trained import read_trained

if TYPE_CHECKING:
    import pandas

    from fidle_jax.inference.explain_page import Figures
    from fidle_jax.report.html import Page

MAX_BATCH = 256

logger = logging.getLogger("fidle_jax")

Images = UInt8[Array | np.ndarray, "batch *shape"] | Float[Array | np.ndarray, "batch *shape"]


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """A finished run and its network."""

    # Parameters of the best epoch (of the last one without validation data), or their moving average with
    # --ema-decay, and batch statistics.
    variables: PyTree
    model: nn.Module  # ``model.apply(variables, images)`` returns the logits of float images
    image_shape: tuple[int, int, int]  # height, width and channels
    class_names: tuple[str, ...]  # in the order of the probabilities
    config: ResolvedConfig
    result: dict[str, Any]  # content of result.json
    run_dir: Path

    @property
    def test_accuracy(self) -> float:
        """Share of the test images that are classified correctly."""
        return self.result["test_accuracy"]

    @property
    def history(self) -> "pandas.DataFrame":
        """Content of metrics.csv, a row for each epoch."""
        import pandas

        return pandas.read_csv(self.run_dir / "metrics.csv")

    def predict(self, images: Any) -> Float[Array, "batch class"]:
        """Return class probabilities.

        Args:
            images: Arrays as described by `as_batch`, or one path or Pillow image, or a list of them. Files
                and Pillow images are converted as in `fidle_jax.inference.preprocess.prepare`.

        Raises:
            InputError: The images have another shape, type or range, or a file is not an image.
        """
        sources = images if isinstance(images, list | tuple) else [images]
        if sources and all(isinstance(each, str | Path | Image.Image) for each in sources):
            images = np.stack([self.prepare(each) for each in sources])
        return probabilities(self.model, self.variables, as_batch(images, self.image_shape))

    def prepare(self, image: Any) -> UInt8[np.ndarray, "height width channel"]:
        """Return an image file, a Pillow image or a uint8 array as the network expects it."""
        from fidle_jax.inference.preprocess import prepare, read_input

        if isinstance(image, str | Path):
            return read_input(expand_user(image), self)
        if isinstance(image, Image.Image):
            return prepare(image, self)
        batch = np.asarray(as_batch(image, self.image_shape))
        if len(batch) != 1:
            raise InputError(f"there are {len(batch)} images; expected one")
        return batch[0] if batch.dtype == np.uint8 else np.rint(255 * batch[0]).astype(np.uint8)

    def explain(self, image: Any, target: str | None = None) -> "Figures":
        """Explain the prediction for one image. A notebook shows the figures of all methods.

        Args:
            image: Path, Pillow image or array.
            target: Name of the class to explain (default: the predicted class).
        """
        from fidle_jax.inference.explain import Example, explain
        from fidle_jax.inference.explain_page import Figures

        if target is not None:
            check_name("class", target, self.class_names)
        index = None if target is None else self.class_names.index(target)
        name = Path(image).name if isinstance(image, str | Path) else "the image"
        example = Example(name, self.prepare(image))
        return Figures(explain(self, example, index), self.class_names)

    def report(self) -> "Page":
        """Return the path of report.html. A notebook shows the page."""
        from fidle_jax.report.html import Page

        return Page(self.run_dir / "report.html")

    def __repr__(self) -> str:
        """Return three lines: the network, the results, the directory."""
        result, named = self.result, type(getattr(self.model, "module", self.model)).__name__
        return (
            f"{self.config.model.name or named} with {result['parameters']:,} parameters, trained on "
            f"{result['train_examples']:,} images of {result['dataset']}\n"
            f"test accuracy {100 * self.test_accuracy:.2f} % on {result['test_examples']:,} images, "
            f"best epoch {result['best_epoch']} of {result['epochs']}, seed {result['seed']}\n"
            f"run directory {self.run_dir}"
        )

    def _repr_html_(self) -> str:
        """Return the three lines and the training curves for a notebook."""
        from fidle_jax.report.html import show_png

        curves = self.run_dir / "figures" / "training_curves.png"
        shown = show_png(curves.read_bytes()) if curves.exists() else ""
        return f"<pre>{html.escape(repr(self))}</pre>{shown}"


def load(run_dir: str | Path, model: nn.Module | None = None) -> Run:
    """Load the network of the finished run in ``run_dir``, with the parameters that were tested.

    Args:
        run_dir: Directory of the run.
        model: The Flax module of the run, if it was trained with one of your own. It is not stored.

    Raises:
        InputError: There is no run, or it is unfinished, damaged or of another version.
    """
    run_dir = expand_user(run_dir)
    found = read_trained(run_dir, model)
    return Run(jax.device_put(found.variables), *found[1:], run_dir)


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
    trained: Run, images: UInt8[np.ndarray, "n height width channel"]
) -> Float[np.ndarray, "n class"]:
    """Return class probabilities like ``trained.predict``, compiled for few batch sizes."""
    # Few different batch sizes, so that cached programs can be used again.
    size = min(MAX_BATCH, 1 << (len(images) - 1).bit_length())
    predict = functools.partial(probabilities, trained.model, trained.variables)
    return map_batches(predict, images, size)
