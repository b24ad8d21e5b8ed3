"""What a trained network says of any examples, and which it was trained on and which it held out."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float, UInt8

from fidle_jax.data import Split, StoredSplit, load_dataset
from fidle_jax.data.augment import scale
from fidle_jax.inference.load import Trained
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.run import hold_out, take_share

AT_ONCE = 100  # images: batches are of this one size, so that one program is compiled

Images = UInt8[np.ndarray, "example height width channel"]


def make_forward(trained: Trained) -> Callable[[Images], Float[np.ndarray, "example class"]]:
    """A function from any number of images to their logits.

    Its convolutions are this project's own. XLA's compile in a fraction of the time, but on a CPU a large
    network then takes two to three times as long, which counts for more over some thousand images.
    """
    apply = jax.jit(lambda variables, images: trained.model.apply(variables, scale(images)))

    def forward(images: Images) -> Float[np.ndarray, "example class"]:
        starts = range(0, len(images), AT_ONCE)
        parts = [_filled(images[start : start + AT_ONCE]) for start in starts]
        logits = [np.asarray(apply(trained.variables, part)) for part in parts]
        return np.concatenate(logits)[: len(images)]

    return forward


def _filled(images: Images) -> UInt8[np.ndarray, "filled height width channel"]:
    missing = AT_ONCE - len(images)
    return np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else images


def training_parts(config: ResolvedConfig) -> tuple[Split | StoredSplit, Split | StoredSplit]:
    """The examples that the run of ``config``, as it left it, was trained on and those it held out.

    The second has none where the run held none out.

    Raises:
        InputError: the data set cannot be had.
    """
    dataset = load_dataset(
        config.data.dataset,
        data=config.data.variant,
        archives=config.data.archives,
        data_dir=config.data.data_dir,
        crop=config.data.crop or "full",
        seed=config.optimisation.seed,
    )
    whole = (dataset.open or dataset.read)("train")
    whole = take_share(whole, config.data.scale)
    if config.data.hold_out == "test":
        return whole, whole.take(np.arange(0))
    return hold_out(whole, config)


def count_seen(images: Images, train: Split | StoredSplit) -> int:
    """How many of the images are, pixel by pixel, among those trained on."""
    asked = {image.tobytes() for image in images}
    seen: set[bytes] = set()
    for start in range(0, len(train.labels), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(train.labels)))
        seen |= asked & {image.tobytes() for image in train.read_images(rows)}
    return sum(image.tobytes() in seen for image in images)
